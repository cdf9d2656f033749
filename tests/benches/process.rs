//! What the `kith` program itself costs: lines through `send --lines`, memory, and a minute of doing nothing.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench that cannot go on ends, and measures real time"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_tests::bench::{Bar, cpu_time, once, report};
use kith_tests::{PATIENCE, Person, free_port, loopback, meet, real_text, resident_bytes, wait_until};

const LINES: usize = 5_000;
/// Until the first exchanges of a new connection are over.
const SETTLE: Duration = Duration::from_secs(20);
/// How long the idle nodes are watched.
const IDLE: Duration = Duration::from_secs(120);

fn main() {
    let port = free_port();
    let mut ana = Person::new("Ana").listening_at(&[loopback(port)]);
    let mut ben = Person::new("Ben").listening_at(&[loopback(free_port())]);
    ana.run();
    ben.run();
    meet(&ana, &ben);
    report("memory of a new node", "MiB", &[mebibytes(&ana)], Bar::AtMost(64.0));

    let mut input = real_text(LINES).join("\n");
    input.push('\n');
    let ((), time) = once(|| {
        let sending = ben.start_with_input(&["send", "Ana", "--lines", "-"], input.into_bytes());
        let done = sending.finish(PATIENCE * 10).ok().object();
        assert_eq!(done["delivered"], LINES);
    });
    let rate = LINES as f64 / time.as_secs_f64();
    report("lines delivered a second by send --lines", "/s", &[rate], Bar::AtLeast(300.0));
    report("memory after that, receiver", "MiB", &[mebibytes(&ana)], Bar::AtMost(160.0));
    report("memory after that, sender", "MiB", &[mebibytes(&ben)], Bar::AtMost(160.0));

    // Both move, and only a counter that stands at Ana's old address leads from one to the other.
    ana.stop();
    ben.stop();
    let behind = free_port();
    let counter = Counter::start(port, behind);
    ana.move_to(&[loopback(behind)]);
    ben.move_to(&[loopback(free_port())]);
    ana.run();
    ben.run();
    wait_until("on-line through the counter", PATIENCE, || {
        ben.contact("Ana").is_some_and(|contact| contact["online"] == true)
    });
    assert!(counter.bytes() > 0, "they met without the counter");
    std::thread::sleep(SETTLE);
    let minutes = IDLE.as_secs_f64() / 60.0;
    let before = (counter.bytes(), cpu_time(ana.node().pid()));
    std::thread::sleep(IDLE);
    let bytes = (counter.bytes() - before.0) as f64 / minutes;
    let cpu = (cpu_time(ana.node().pid()) - before.1).as_secs_f64() * 1e3 / minutes;
    // 5 MB a day with 20 contacts; 1 % of a processor.
    report("idle: bytes a minute with one contact", "B", &[bytes], Bar::AtMost(5e6 / 24.0 / 60.0 / 20.0));
    report("idle: processor time a minute", "ms", &[cpu], Bar::AtMost(600.0));
}

fn mebibytes(person: &Person) -> f64 {
    resident_bytes(person.node().pid()) as f64 / 1_048_576.0
}

/// Forwards TCP from one port to another and counts.
struct Counter(Arc<AtomicU64>);

impl Counter {
    fn start(from: u16, to: u16) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let listener = TcpListener::bind(("127.0.0.1", from)).unwrap();
        let total = Arc::clone(&count);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                for (mut source, mut sink) in
                    [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    let total = Arc::clone(&total);
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16 * 1024];
                        while let Ok(n @ 1..) = source.read(&mut buffer) {
                            total.fetch_add(n as u64, Ordering::Relaxed);
                            if sink.write_all(&buffer[..n]).is_err() {
                                break;
                            }
                        }
                        // The other direction may have closed it before.
                        let _ = sink.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        Self(count)
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
