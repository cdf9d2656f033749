//! Measures a held link between two nodes on loopback: round trips one at a time, and frames a second one way.
//! One JSON object a line. `cargo run --release -p kith-network --example bench_link`

#![allow(clippy::expect_used, reason = "a bench that cannot go on may as well stop")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use bytes::Bytes;
use support::{Node, link};
use tokio::time::Instant;

const ROUND_TRIPS: usize = 5_000;
const FRAMES: u32 = 100_000;
/// Frames without an acknowledgement, as the Engine allows.
const WINDOW: u32 = 256;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    for (name, listen) in [
        ("tcp", "/ip4/127.0.0.1/tcp/0"),
        ("ws", "/ip4/127.0.0.1/tcp/0/ws"),
        ("quic", "/ip4/127.0.0.1/udp/0/quic-v1"),
    ] {
        let begun = Instant::now();
        let mut a = Node::start_with(1, |options| options.listen = vec![listen.into()]).await;
        let mut b = Node::start_with(2, |options| options.listen = vec![listen.into()]).await;
        let started = begun.elapsed();
        let begun = Instant::now();
        let (on_a, on_b) = link(&mut a, &mut b).await;
        let linked = begun.elapsed();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            r#"{{"bench":"connect","transport":"{name}","start_ms":{:.1},"link_ms":{:.2}}}"#,
            millis(started),
            millis(linked)
        );

        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let begun = Instant::now();
            a.network.send(on_a, Bytes::from_static(&[1; 512])).expect("sent");
            let frame = b.frame(on_b).await;
            b.network.send(on_b, frame).expect("sent");
            a.frame(on_a).await;
            times.push(begun.elapsed());
        }
        times.sort();
        let micros = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
        println!(
            r#"{{"bench":"round_trip","transport":"{name}","bytes":512,"p50_us":{:.1},"p99_us":{:.1}}}"#,
            micros(0.5),
            micros(0.99)
        );

        let (got, mut seen) = tokio::sync::watch::channel(0);
        let sender = a.network.clone();
        #[allow(clippy::disallowed_methods, reason = "a bench's own task")]
        let sending = tokio::spawn(async move {
            for n in 0..FRAMES {
                seen.wait_for(|seen| n < seen + WINDOW).await.expect("receiving");
                sender.send(on_a, Bytes::from_static(&[2; 512])).expect("sent");
            }
        });
        let begun = Instant::now();
        for n in 1..=FRAMES {
            b.frame(on_b).await;
            if n % (WINDOW / 4) == 0 {
                got.send_replace(n);
            }
        }
        let rate = f64::from(FRAMES) / begun.elapsed().as_secs_f64();
        sending.await.expect("sent all");
        println!(r#"{{"bench":"one_way","transport":"{name}","bytes":512,"frames_s":{rate:.0}}}"#);
    }
}
