//! A peer that breaks every rule, from another address and from the same one as honest peers. The node stays up, its
//! memory stays bounded, it says why at debug level, and honest peers get through all the time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::io::{AsyncReadExt, AsyncWriteExt};
use kith_tests::hostile::{Connection, ELSEWHERE, HOME, Hostile, KAD, LINK, field, framed, varint};
use kith_tests::{PATIENCE, Person, meet, resident_bytes, wait_until};
use rand::RngExt;

/// More than this may not be added to a node by a hostile peer.
const GROWTH: u64 = 64 << 20;
/// No single step of the hostile peer waits longer for the node.
const STEP: Duration = Duration::from_secs(10);

#[test]
fn garbage_on_the_link_is_refused_and_friends_get_through() {
    for from in [ELSEWHERE, HOME] {
        let siege = Siege::begin();
        let hostile = siege.hostile(from);
        siege.run(async {
            for garbage in garbage_frames() {
                // One that is known already, a new one, and a new one that leads the link. The node may hang up at any
                // point, also in the handshake once it has had enough.
                let (other, leader) = (hostile.renamed(), hostile.renamed().leading());
                let _ = futures::join!(
                    write(&hostile, LINK, &garbage),
                    write(&other, LINK, &garbage),
                    write(&leader, LINK, &garbage),
                );
            }
        });
        let log = siege.ana.node().log();
        for reason in ["malformed frame length", "cannot be decoded", "banned"] {
            assert!(log.contains(reason), "nothing about {reason:?} in the log");
        }
        siege.end();
    }
}

#[test]
fn garbage_before_the_handshake_is_refused_and_friends_get_through() {
    for from in [ELSEWHERE, HOME] {
        let siege = Siege::begin();
        let hostile = siege.hostile(from);
        siege.run(async {
            let mut held = Vec::new();
            for bytes in raw_garbage() {
                if let Ok(socket) = hostile.socket().await {
                    use tokio::io::AsyncWriteExt;
                    let mut socket = socket;
                    let _ = timed(socket.write_all(&bytes)).await;
                    held.push(socket);
                }
            }
            siege.friends_chat("while half-open connections are held");
        });
        siege.end();
    }
}

#[test]
fn ten_thousand_connections_in_a_row_do_not_stop_friends_or_newcomers() {
    for from in [ELSEWHERE, HOME] {
        let siege = Siege::begin();
        let hostile = siege.hostile(from);
        siege.run(async {
            for number in 0..10_000 {
                // Most connections end at once, some after the handshake.
                let _ = timed(hostile.socket()).await;
                if number % 100 == 0 {
                    let _ = timed(hostile.renamed().connect()).await;
                }
            }
        });
        siege.end();
    }
}

#[test]
fn many_connections_held_open_do_not_keep_a_friend_out() {
    for from in [ELSEWHERE, HOME] {
        let mut siege = Siege::begin();
        let hostile = siege.hostile(from);
        let runtime = runtime();
        let held: Vec<Connection> = runtime.block_on(async {
            let mut held = Vec::new();
            for _ in 0..300 {
                if let Some(Ok(connection)) = timed(hostile.renamed().connect()).await {
                    held.push(connection);
                }
            }
            held
        });
        println!("{} of 300 connections from {from} are held", held.len());
        // The friend has to come in anew.
        siege.ben.kill();
        siege.ben.run();
        siege.friends_chat("while all those connections are held");
        drop(held);
        siege.end();
    }
}

#[test]
fn a_stream_that_never_reads_costs_bounded_memory() {
    for from in [ELSEWHERE, HOME] {
        let siege = Siege::begin();
        let hostile = siege.hostile(from);
        let runtime = runtime();
        let held = runtime.block_on(async {
            // Questions whose answers nobody takes: for bundles on the link, for records in the directory.
            let question = framed(&field(3, &field(1, &[7; 16]))).repeat(2_000);
            let find = framed(&[&[0x08, 0x04][..], &field(2, &[9; 32])].concat()).repeat(2_000);
            let mut held = Vec::new();
            for (protocol, question, streams, frozen) in [
                (LINK, &question, 1, false),
                (LINK, &question, 1, true),
                (KAD, &find, 16, false),
                (KAD, &find, 16, true),
            ] {
                let Some(Ok(connection)) = timed(hostile.renamed().leading().connect()).await else {
                    continue;
                };
                for _ in 0..streams {
                    let Some(Ok(mut stream)) = timed(connection.stream(protocol)).await else { break };
                    let _ =
                        tokio::time::timeout(Duration::from_millis(500), stream.write_all(question)).await;
                    held.push((None, Some(stream)));
                }
                if frozen {
                    connection.freeze();
                }
                held.push((Some(connection), None));
            }
            held
        });
        siege.friends_chat("while nobody takes the answers");
        assert!(held.len() > 8, "the hostile peer was not let in at all");
        drop(held);
        siege.end();
    }
}

#[test]
fn a_junk_record_is_not_stored_in_the_directory() {
    let siege = Siege::begin();
    let hostile = siege.hostile(ELSEWHERE);
    siege.run(async {
        let key = [0x5a; 32];
        for value in [vec![1; 100], vec![2; 4096], vec![3; 15_000], forged_record()] {
            let record = [field(1, &key), field(2, &value)].concat();
            // PUT_VALUE, then GET_VALUE for the same key.
            let put = [&[0x08, 0x00][..], &field(2, &key), &field(3, &record)].concat();
            let get = [&[0x08, 0x01][..], &field(2, &key)].concat();
            let _ = ask(&hostile, &put).await;
            let answer = ask(&hostile.renamed(), &get).await.expect("the directory answers").unwrap();
            assert!(!contains(&answer, &value), "a junk record of {} bytes was stored", value.len());
        }
    });
    siege.end();
}

#[test]
fn recorded_frames_that_are_played_again_change_nothing() {
    let siege = Siege::begin();
    let hostile = siege.hostile(ELSEWHERE).leading();
    siege.run(async {
        let envelope = framed(&field(2, &[0x42; 512]));
        let ack = framed(&field(7, &field(1, &[0x42; 32])));
        let frontiers = framed(&field(5, &field(1, &[field(1, &[0x42; 16]), vec![0x10, 0x05]].concat())));
        let hello = framed(&field(1, &[0x08, 0x01]));
        for _ in 0..3 {
            let once = [&hello[..], &envelope, &ack, &frontiers].concat();
            let _ = write(&hostile, LINK, &once.repeat(500)).await;
        }
    });
    siege.end();
}

#[test]
fn the_node_says_at_debug_level_why_it_refused_a_peer() {
    let siege = Siege::begin();
    let hostile = siege.hostile(ELSEWHERE).leading();
    siege.run(async {
        let _ = write(&hostile, LINK, &varint(1 << 40)).await;
    });
    let id = hostile.peer_id().to_string();
    wait_until("the log names the peer and the reason", PATIENCE, || {
        let log = siege.ana.node().log();
        log.lines().any(|line| {
            line.contains("DEBUG") && line.contains(&id) && line.contains("malformed frame length")
        })
    });
    siege.end();
}

/// Two friends, of whom one is under siege.
struct Siege {
    ana: Person,
    ben: Person,
    before: u64,
}

impl Siege {
    fn begin() -> Self {
        let mut ana = Person::new("Ana").logging("kith_network=debug,kith_node=debug,kith_protocol=debug");
        let mut ben = Person::new("Ben");
        ana.run();
        ben.run();
        meet(&ana, &ben);
        ana.deliver(&ben, "before the siege");
        let before = resident_bytes(ana.node().pid());
        Self { ana, ben, before }
    }

    fn hostile(&self, from: Ipv4Addr) -> Hostile {
        Hostile::new(from, self.ana.node().address(&["/tcp/"]))
    }

    fn run(&self, work: impl Future<Output = ()>) {
        runtime().block_on(work);
    }

    fn friends_chat(&self, text: &str) {
        self.ben.deliver(&self.ana, text);
        self.ana.deliver(&self.ben, text);
    }

    /// The node is up, its memory is bounded, the friend gets through and so does somebody new from the same address.
    fn end(mut self) {
        assert!(self.ana.node_mut().is_running(), "{}", self.ana.node().log());
        let log = self.ana.node().log();
        assert!(!log.contains("panicked"), "{log}");
        self.friends_chat("after the siege");
        let mut newcomer = Person::new("Cy");
        newcomer.run();
        meet(&self.ana, &newcomer);
        newcomer.deliver(&self.ana, "hello");
        let after = resident_bytes(self.ana.node().pid());
        let growth = after.saturating_sub(self.before);
        println!("{} MiB before, {} MiB after", self.before >> 20, after >> 20);
        assert!(growth < GROWTH, "the siege cost {} MiB", growth >> 20);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// None if it took too long: the node has the right to let a hostile peer wait.
async fn timed<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(STEP, work).await.ok()
}

/// Opens a stream, writes, and gives the node a moment to answer or to hang up.
async fn write(hostile: &Hostile, protocol: &str, bytes: &[u8]) -> anyhow::Result<()> {
    const MOMENT: Duration = Duration::from_millis(200);
    let work = async {
        let connection = hostile.connect().await?;
        let mut stream = connection.stream(protocol).await?;
        stream.write_all(bytes).await?;
        stream.flush().await?;
        let _ = tokio::time::timeout(MOMENT, connection.closed()).await;
        anyhow::Ok(())
    };
    timed(work).await.unwrap_or_else(|| Err(anyhow::anyhow!("the node lets us wait")))
}

/// One question in the directory and its answer.
async fn ask(hostile: &Hostile, question: &[u8]) -> Option<anyhow::Result<Vec<u8>>> {
    timed(async {
        let connection = hostile.connect().await?;
        let mut stream = connection.stream(KAD).await?;
        stream.write_all(&framed(question)).await?;
        stream.flush().await?;
        stream.close().await?;
        let mut answer = Vec::new();
        stream.take(64 * 1024).read_to_end(&mut answer).await?;
        anyhow::Ok(answer)
    })
    .await
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// A record with the right shape and a signature by nobody.
fn forged_record() -> Vec<u8> {
    let body = [
        field(1, &[0x11; 32]),
        vec![0x10, 0x01],
        vec![0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        field(4, &[5; 300]),
    ];
    [field(1, &body.concat()), field(2, &[0x22; 64])].concat()
}

fn garbage_frames() -> Vec<Vec<u8>> {
    let mut rng = rand::rng();
    let mut frames = vec![
        varint(u64::MAX),
        varint(1 << 40),
        [varint(70_000), vec![0; 70_000]].concat(),
        vec![0x80; 64],
        varint(0),
        varint(0).repeat(10_000),
        // Cut in the middle.
        [varint(1_000), vec![1; 10]].concat(),
        // A field that claims more than there is, and one that claims everything.
        framed(&[0x12, 0x7f, 0x00]),
        framed(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        // Envelopes of nothing, of noise, and as large as allowed.
        framed(&field(2, &[])),
        framed(&field(2, &[0xaa; 64 * 1024])),
        // Groups and unknown fields.
        framed(&[0x0b, 0x0c]),
        framed(&field(4_000, &[1; 100])),
        // Thousands of acknowledgements and frontiers in a frame.
        framed(&field(7, &field(1, &[3; 32]).repeat(1_500))),
        framed(&field(5, &field(1, &field(5, &[8, 1, 16, 1])).repeat(3_000))),
        framed(&field(4, &[0x77; 4_000])),
    ];
    for _ in 0..40 {
        let mut bytes = vec![0; rng.random_range(1..2_000)];
        rng.fill(&mut bytes[..]);
        frames.push(framed(&bytes));
        frames.push(bytes);
    }
    frames
}

fn raw_garbage() -> Vec<Vec<u8>> {
    let mut rng = rand::rng();
    let mut all = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\x13/multistream/1.0.0\n".to_vec(),
        b"\x13/multistream/1.0.0\n\x07/noise\n".to_vec(),
        b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff".to_vec(),
        [&b"\x13/multistream/1.0.0\n\x07/noise\n"[..], &[0xff; 65_537]].concat(),
        vec![0x80; 100_000],
    ];
    for _ in 0..60 {
        let mut bytes = vec![0; rng.random_range(1..5_000)];
        rng.fill(&mut bytes[..]);
        all.push(bytes);
    }
    all
}
