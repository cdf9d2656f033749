//! One running `kith run`.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::wait::{PATIENCE, wait_for};

/// A running node. Dropping it kills it as a power cut of the process would (SIGKILL).
#[derive(Debug)]
pub struct Node {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    /// Addresses it listens at, with its peer id.
    pub addresses: Vec<String>,
}

impl Node {
    /// Starts the command and waits until it says that it listens.
    ///
    /// # Panics
    /// If it ends before, or does not listen in time.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the kith program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let readers = vec![read_json(stdout, Arc::clone(&lines)), read_text(stderr, Arc::clone(&log))];
        let mut node = Self { child, lines, log, readers, addresses: Vec::new() };
        let (ready, _) = wait_for("`kith run` listens", PATIENCE, || {
            if let Some(status) = node.child.try_wait().expect("the node can be waited for") {
                panic!("`kith run` ended with {status}: {}", node.log());
            }
            node.lines.lock().unwrap().iter().find(|line| line["event"] == "listening").cloned()
        });
        node.addresses = ready["addresses"]
            .as_array()
            .expect("listening holds addresses")
            .iter()
            .map(|address| address.as_str().expect("an address is text").to_owned())
            .collect();
        node
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    ///
    /// # Panics
    /// If its reader panicked.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The JSON lines it printed so far.
    ///
    /// # Panics
    /// If its reader panicked.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If the system cannot tell.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the node can be waited for").is_none()
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until it has ended by itself and returns its exit code.
    ///
    /// # Panics
    /// If it does not end in time.
    #[must_use]
    pub fn ended(mut self) -> Option<i32> {
        let (status, _) = wait_for("the node ends", PATIENCE, || {
            self.child.try_wait().expect("the node can be waited for")
        });
        status.code()
    }

    /// The first of its addresses that holds all these parts.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn address(&self, parts: &[&str]) -> &str {
        self.addresses
            .iter()
            .find(|address| parts.iter().all(|part| address.contains(part)))
            .unwrap_or_else(|| panic!("no address with {parts:?} in {:?}", self.addresses))
    }

    fn end(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() || std::env::var_os("KITH_TEST_LOG").is_some() {
            // a test that fails shows what its nodes had to say
            const SHOWN: usize = 2_000;
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                eprintln!("[{}] {line}", self.child.id());
            }
        }
    }
}

fn read_json(from: ChildStdout, into: Arc<Mutex<Vec<Value>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let value = serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("with --json each line is one JSON object: {error}: {line}"));
            into.lock().unwrap().push(value);
        }
    })
}

fn read_text(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    })
}

/// A TCP port of the loopback address that nobody uses, below those that systems give to connections that go out: one of
/// those could take it before its owner listens.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    (0..1_000)
        .map(|_| 20_000 + rand::random::<u16>() % 12_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a loopback port")
}

/// The listen address of a TCP port of the loopback address.
#[must_use]
pub fn loopback(port: u16) -> String {
    format!("/ip4/127.0.0.1/tcp/{port}")
}

/// Memory of a process that is in RAM, in bytes.
///
/// # Panics
/// If the process has ended.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("status holds VmRSS");
    let kib: u64 =
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("VmRSS is a number");
    kib * 1024
}
