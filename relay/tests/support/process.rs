//! A `kith-relay` process on a folder of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kith-relay");

/// A folder with a relay in it, and its process if it runs.
pub struct Process {
    pub folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    child: Option<Child>,
    pub addresses: Vec<String>,
    pub peer_id: String,
    /// Where metrics and the status page are, and the page for everybody.
    pub web: String,
    pub page: String,
    log: Arc<Mutex<String>>,
    /// Set for the process.
    pub env: Vec<(String, String)>,
}

pub fn command(folder: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).arg("--data").arg(folder).output().unwrap()
}

impl Process {
    /// Makes a relay on loopback; `config` is appended to what is set anyway.
    pub fn init(config: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("relay");
        let made = command(&folder, &["init", "--listen", "/ip4/127.0.0.1/tcp/0", "--json"]);
        assert!(made.status.success(), "{made:?}");
        let process = Self {
            folder,
            _temporary: Some(temporary),
            child: None,
            addresses: Vec::new(),
            peer_id: String::new(),
            web: String::new(),
            page: String::new(),
            log: Arc::default(),
            env: Vec::new(),
        };
        process.configure(config);
        process
    }

    /// A relay in a folder that is there.
    pub fn existing(folder: PathBuf) -> Self {
        Self {
            folder,
            _temporary: None,
            child: None,
            addresses: Vec::new(),
            peer_id: String::new(),
            web: String::new(),
            page: String::new(),
            log: Arc::default(),
            env: Vec::new(),
        }
    }

    pub fn configure(&self, config: &str) {
        // a free disk is not what these tests are about
        let listen = "listen = [\"/ip4/127.0.0.1/tcp/0\", \"/ip4/127.0.0.1/udp/0/quic-v1\", \"/ip4/127.0.0.1/tcp/0/ws\"]";
        let reserve = "[total]\nreserve = \"16 MiB\"";
        let web = if config.contains("[web]") { "" } else { "[web]\nlisten = \"127.0.0.1:0\"\n" };
        let text = format!("{listen}\n{config}\n{reserve}\n{web}");
        std::fs::write(self.folder.join("relay.toml"), text).unwrap();
    }

    /// A relay that runs and asks nobody to be slow.
    pub fn started(config: &str) -> Self {
        let mut process = Self::init(config);
        process.start();
        process
    }

    /// Another process of this relay: the same key, a folder of its own.
    pub fn another(&self, config: &str) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("relay");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(self.folder.join("relay.key"), folder.join("relay.key")).unwrap();
        let mut process = Self::existing(folder);
        process._temporary = Some(temporary);
        process.configure(config);
        process
    }

    pub fn start(&mut self) {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--json", "--data"])
            .arg(&self.folder)
            .envs(self.env.iter().cloned())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut errors, log) = (child.stderr.take().unwrap(), Arc::clone(&self.log));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = errors.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                eprint!("{text}");
                log.lock().unwrap().push_str(&text);
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(line) = lines.next() else {
            let status = child.wait().unwrap();
            reader.join().unwrap();
            panic!("the relay ended before it listened ({status}): {}", self.log());
        };
        let line = line.unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "listening");
        self.peer_id = event["peer_id"].as_str().unwrap().into();
        self.addresses =
            event["addresses"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().into()).collect();
        self.web = event["web"].as_str().unwrap_or_default().into();
        self.page = event["page"].as_str().unwrap_or_default().into();
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The first address of a kind.
    pub fn address(&self, kind: &str) -> &str {
        self.addresses.iter().find(|address| address.contains(kind)).unwrap()
    }

    pub fn tcp(&self) -> &str {
        self.addresses.iter().find(|a| a.contains("/tcp/") && !a.contains("/ws")).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    /// A command on this relay's folder that must succeed; its JSON objects.
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = command(&self.folder, &[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn status(&self) -> Value {
        self.json(&["status"]).remove(0)
    }

    /// Everything counted anew; panics if anything does not fit.
    pub fn audit(&self) -> Value {
        let report = self.json(&["audit"]).remove(0);
        assert_eq!(report["faults"], serde_json::json!([]));
        report
    }

    /// Waits until the status is as wanted.
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..1_200 {
            last = self.status();
            if holds(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("never {what}: {last}");
    }

    /// Bytes of memory the process has.
    pub fn rss(&self) -> u64 {
        rss(self.pid())
    }
}

/// Bytes of memory a process has.
pub fn rss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
