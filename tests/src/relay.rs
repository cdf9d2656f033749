//! One `kith-relay` with a data folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::relay_binary;
use crate::node::{Node, free_port, loopback};

/// Files of a relay's data folder that are not what it keeps for others.
const IDENTITY: [&str; 2] = ["relay.key", "relay.toml"];

/// A relay that may be killed and started again.
#[derive(Debug)]
pub struct Relay {
    home: TempDir,
    node: Option<Node>,
    /// Where it is, with its peer id.
    pub address: String,
}

/// What a relay kept at some time.
#[derive(Debug)]
pub struct Backup(TempDir);

/// A relay that is stopped and goes on again all the time, until this is dropped.
#[derive(Debug)]
pub struct Limping {
    pid: u32,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A new relay, running on a port of its own.
    ///
    /// # Panics
    /// If it cannot be made or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A new relay with these settings of its configuration file: key, and value as it is written there.
    ///
    /// # Panics
    /// If it cannot be made or does not start, or has no such setting.
    #[must_use]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a folder for tests");
        let listen = loopback(free_port());
        let mut relay = Self { home, node: None, address: String::new() };
        let made = relay.command("init").args(["--listen", &listen]).output().expect("kith-relay starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let file = relay.data().join("relay.toml");
        let mut config = fs::read_to_string(&file).expect("a relay has a configuration");
        // several on one machine cannot show their pages at one port
        config = config.replacen("#listen = \"127.0.0.1:", "listen = \"\" # 127.0.0.1:", 1);
        // what they test must not hang on how full this machine's disk is
        let spare = ("reserve", "\"1 MiB\"");
        let spare = (!settings.iter().any(|(key, _)| *key == spare.0)).then_some(spare);
        for (key, value) in settings.iter().copied().chain(spare) {
            let before = config.lines().find(|line| line.starts_with(&format!("#{key} = ")));
            let before = before.unwrap_or_else(|| panic!("no setting {key} in {config}")).to_owned();
            config = config.replacen(&before, &format!("{key} = {value}"), 1);
        }
        fs::write(&file, config).expect("the configuration can be written");
        relay.run();
        relay
    }

    /// Starts it again.
    ///
    /// # Panics
    /// If it does not start, or runs already.
    pub fn run(&mut self) {
        assert!(self.node.is_none(), "the relay runs already");
        let mut command = self.command("run");
        let node = self.node.insert(Node::start(command.arg("--json")));
        self.address = node.address(&["/tcp/", "/p2p/"]).to_owned();
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.node.take().expect("the relay runs").kill();
    }

    /// It loses everything it keeps, and goes on under its name.
    ///
    /// # Panics
    /// If it does not run, or its files cannot be removed.
    pub fn forget(&mut self) {
        self.kill();
        self.clear();
        self.run();
    }

    /// What it keeps now.
    ///
    /// # Panics
    /// If it does not run, or its files cannot be copied.
    #[must_use]
    pub fn backup(&mut self) -> Backup {
        let copy = tempfile::tempdir().expect("a folder for tests");
        self.kill();
        copy_files(&self.data(), copy.path());
        self.run();
        Backup(copy)
    }

    /// It goes on with what it kept when the backup was made.
    ///
    /// # Panics
    /// If it does not run, or its files cannot be changed.
    pub fn restore(&mut self, backup: &Backup) {
        self.kill();
        self.clear();
        copy_files(backup.0.path(), &self.data());
        self.run();
    }

    /// From now on it works a part of the time only: `works` of every `round`.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn limp(&self, works: Duration, round: Duration) -> Limping {
        let pid = self.node.as_ref().expect("the relay runs").pid();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                signal(pid, "STOP");
                sleep(round.saturating_sub(works));
                signal(pid, "CONT");
                sleep(works);
            }
        });
        Limping { pid, over, thread: Some(thread) }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("relay")
    }

    fn clear(&self) {
        for entry in fs::read_dir(self.data()).expect("a relay has a folder") {
            let entry = entry.expect("a folder can be listed");
            if IDENTITY.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.expect("a relay's file can be removed");
        }
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(relay_binary());
        command.env("HOME", self.home.path()).env("NO_COLOR", "1");
        command.arg(what).arg("--data").arg(self.data());
        command
    }
}

impl Drop for Limping {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // whatever became of it, the relay must be able to end
            let _ = thread.join();
        }
        signal(self.pid, "CONT");
    }
}

fn signal(pid: u32, name: &str) {
    // the relay may have ended
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be listed") {
        let entry = entry.expect("a folder can be listed");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_files(&path, &target);
        } else if path.is_file() {
            fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}
