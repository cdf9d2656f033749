//! Somebody with a data folder, who types commands.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::binary::kith_binary;
use crate::node::{Node, loopback};
use crate::wait::{PATIENCE, wait_for, wait_within};

/// A person: a name, a data folder, and maybe a running node.
#[derive(Debug)]
pub struct Person {
    /// Profile name.
    pub name: String,
    /// Account id.
    pub account: String,
    home: TempDir,
    node: Option<Node>,
    listen: Vec<String>,
    bootstrap: Vec<String>,
    relays: Vec<String>,
    log: Option<String>,
}

impl Person {
    /// Somebody new, with an account, not running.
    ///
    /// # Panics
    /// If `kith init` fails.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut person = Self::stranger(name);
        let made = person.kith(&["init", "--name", name, "--key", "file"]).ok().object();
        person.account = made["account"].as_str().expect("init names the account").to_owned();
        person
    }

    /// Somebody with an empty data folder.
    ///
    /// # Panics
    /// If no folder can be made.
    #[must_use]
    pub fn stranger(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            account: String::new(),
            home: tempfile::tempdir().expect("a folder for tests"),
            node: None,
            listen: vec![loopback(0)],
            bootstrap: Vec::new(),
            relays: Vec::new(),
            log: None,
        }
    }

    /// Listens at these addresses from the next start on.
    #[must_use]
    pub fn listening_at(mut self, addresses: &[String]) -> Self {
        self.listen = addresses.to_vec();
        self
    }

    /// Changes where the next start listens.
    pub fn move_to(&mut self, addresses: &[String]) {
        self.listen = addresses.to_vec();
    }

    /// Knows these nodes from the next start on.
    #[must_use]
    pub fn bootstrapping_at(mut self, addresses: &[String]) -> Self {
        self.bootstrap = addresses.to_vec();
        self
    }

    /// Keeps mailboxes at these relays from the next start on.
    #[must_use]
    pub fn relayed_by(mut self, addresses: &[String]) -> Self {
        self.relays = addresses.to_vec();
        self
    }

    /// Waits until so many relays keep a mailbox.
    ///
    /// # Panics
    /// If they do not in time.
    pub fn wait_for_relays(&self, count: usize) {
        wait_for("relays keep a mailbox", PATIENCE, || {
            let relays = self.kith(&["relay", "list"]).ok().lines;
            let open = relays.iter().filter(|relay| relay["state"] == "open" && relay["connected"] == true);
            (open.count() >= count).then_some(())
        });
    }

    /// Logs by this filter from the next start on.
    #[must_use]
    pub fn logging(mut self, filter: &str) -> Self {
        self.log = Some(filter.to_owned());
        self
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.path().join("kith")
    }

    /// Starts `kith run` and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start, or runs already.
    pub fn run(&mut self) -> &mut Node {
        assert!(self.node.is_none(), "{} runs already", self.name);
        let mut command = self.command(&["run", "--no-mdns"]);
        for address in &self.listen {
            command.args(["--listen", address]);
        }
        for address in &self.bootstrap {
            command.args(["--bootstrap", address]);
        }
        for address in &self.relays {
            command.args(["--relay", address]);
        }
        if let Some(filter) = &self.log {
            command.env("RUST_LOG", filter);
        }
        self.node.insert(Node::start(&mut command))
    }

    /// The running node.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("the node runs")
    }

    /// The running node.
    ///
    /// # Panics
    /// If there is none.
    pub fn node_mut(&mut self) -> &mut Node {
        self.node.as_mut().expect("the node runs")
    }

    /// SIGKILL for the running node.
    ///
    /// # Panics
    /// If there is none.
    pub fn kill(&mut self) {
        self.node.take().expect("the node runs").kill();
    }

    /// `kith stop`, and waits for the end of the node.
    ///
    /// # Panics
    /// If the node does not end well.
    pub fn stop(&mut self) {
        self.kith(&["stop"]).ok();
        let node = self.node.take().expect("the node runs");
        assert_eq!(node.ended(), Some(0), "a stopped node ends with 0");
    }

    /// Runs one command to its end.
    #[must_use]
    pub fn kith(&self, args: &[&str]) -> Finished {
        self.start(args).finish(PATIENCE)
    }

    /// Runs one command to its end with these bytes as standard input.
    #[must_use]
    pub fn kith_with_input(&self, args: &[&str], input: &[u8]) -> Finished {
        self.start_with_input(args, input.to_vec()).finish(PATIENCE)
    }

    /// Starts one command.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Command {
        self.start_with_input(args, Vec::new())
    }

    /// Starts one command with these bytes as standard input.
    ///
    /// # Panics
    /// If the program does not start.
    #[must_use]
    pub fn start_with_input(&self, args: &[&str], input: Vec<u8>) -> Command {
        Command::start(self.command(args), &args.join(" "), input)
    }

    /// The bare command, for a test that reads its output itself.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = kith(self.home.path());
        command.arg("--json").args(args);
        command
    }

    /// The bare command without `--json`.
    #[must_use]
    pub fn readable_command(&self, args: &[&str]) -> std::process::Command {
        let mut command = kith(self.home.path());
        command.args(args);
        command
    }

    /// Makes an invite and returns its link.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn invite(&self) -> String {
        let made = self.kith(&["invite"]).ok().object();
        made["uri"].as_str().expect("invite prints its uri").to_owned()
    }

    /// The contact of this name.
    ///
    /// # Panics
    /// If contacts cannot be listed.
    #[must_use]
    pub fn contact(&self, name: &str) -> Option<Value> {
        self.kith(&["contacts"]).ok().lines.into_iter().find(|contact| contact["name"] == name)
    }

    /// Sends a text with `--wait delivered` and returns the message's id.
    ///
    /// # Panics
    /// If it is not delivered.
    pub fn deliver(&self, to: &Person, text: &str) -> String {
        let sent =
            self.kith(&["send", &to.name, text, "--wait", "delivered", "--timeout", "20s"]).ok().object();
        assert!(sent["status"] == "delivered" || sent["status"] == "read", "{sent}");
        sent["id"].as_str().expect("send prints the id").to_owned()
    }

    /// All messages of the conversation with somebody, oldest first.
    ///
    /// # Panics
    /// If the history cannot be read.
    #[must_use]
    pub fn history(&self, with: &str) -> Vec<Value> {
        self.kith(&["history", with, "--limit", "1000000"]).ok().lines
    }

    /// The texts of the conversation with somebody, oldest first.
    #[must_use]
    pub fn texts(&self, with: &str) -> Vec<String> {
        self.history(with).iter().filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
    }

    /// The last message with somebody.
    ///
    /// # Panics
    /// If the history cannot be read.
    #[must_use]
    pub fn last_message(&self, with: &str) -> Option<Value> {
        self.kith(&["history", with, "--limit", "1"]).ok().lines.pop()
    }

    /// Status word of one's message.
    ///
    /// # Panics
    /// If there is no such message.
    #[must_use]
    pub fn status_of(&self, id: &str) -> String {
        let status = self.kith(&["status", id]).ok().object();
        status["status"].as_str().expect("a message has a status").to_owned()
    }
}

/// The program with nothing of the tester's own environment that could change what it does.
fn kith(home: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(kith_binary());
    for (key, _) in std::env::vars_os() {
        let key_text = key.to_string_lossy();
        if key_text.starts_with("KITH_") || key_text.starts_with("XDG_") || key_text.starts_with("DBUS_") {
            command.env_remove(&key);
        }
    }
    command.env("HOME", home).env("NO_COLOR", "1").env("TERM", "dumb").arg("--data").arg(home.join("kith"));
    if let Some(filter) = std::env::var_os("KITH_TEST_LOG") {
        command.env("RUST_LOG", filter);
    }
    command
}

/// A process that does not outlive its test.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // errors mean that it has ended already
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A started command.
#[derive(Debug)]
pub struct Command {
    shown: String,
    child: Running,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Command {
    fn start(mut command: std::process::Command, shown: &str, input: Vec<u8>) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the kith program starts");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A program that ends before it has read everything is no fault of the writer.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = read_all(child.stdout.take().expect("standard output is piped"));
        let stderr = read_all(child.stderr.take().expect("standard error is piped"));
        Self { shown: shown.to_owned(), child: Running(child), stdout, stderr }
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// If the system cannot tell.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.0.try_wait().expect("a child can be waited for").is_none()
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// SIGKILL, and waits for its end.
    ///
    /// # Panics
    /// If the system cannot wait for it.
    pub fn kill(mut self) {
        // An error means that it has ended already.
        let _ = self.child.0.kill();
        self.child.0.wait().expect("a child can be waited for");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within `ceiling`; it is killed then.
    #[must_use]
    pub fn finish(mut self, ceiling: Duration) -> Finished {
        let status = wait_within(ceiling, || self.child.0.try_wait().expect("a child can be waited for"));
        if status.is_none() {
            // It may have ended just now.
            let _ = self.child.0.kill();
        }
        let late = status.is_none();
        let status = self.child.0.wait().expect("a child can be waited for");
        let stdout = String::from_utf8(self.stdout.join().expect("reader")).expect("output is UTF-8");
        let stderr = String::from_utf8_lossy(&self.stderr.join().expect("reader")).into_owned();
        assert!(!late, "`kith {}` did not end within {ceiling:?}\n{stdout}\n{stderr}", self.shown);
        let lines = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Finished { shown: self.shown, code: status.code(), stdout, stderr, lines }
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        // What was read before an error is still worth showing.
        let _ = from.read_to_end(&mut all);
        all
    })
}

/// A command that has ended.
#[derive(Debug)]
pub struct Finished {
    shown: String,
    /// Exit code; none if it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The JSON values among the lines of standard output.
    pub lines: Vec<Value>,
}

impl Finished {
    /// It did what it was asked, and printed nothing but JSON objects.
    ///
    /// # Panics
    /// If not.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "`kith {}` failed\n{}\n{}", self.shown, self.stdout, self.stderr);
        assert_eq!(self.lines.len(), self.stdout.lines().count(), "not only JSON: {}", self.stdout);
        assert!(self.lines.iter().all(Value::is_object), "not only objects: {}", self.stdout);
        self
    }

    /// It failed with this exit code and said why on standard error.
    ///
    /// # Panics
    /// If not.
    pub fn failed(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "`kith {}`\n{}\n{}", self.shown, self.stdout, self.stderr);
        assert!(!self.stderr.trim().is_empty(), "`kith {}` does not say why it failed", self.shown);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The only (or last) object it printed.
    ///
    /// # Panics
    /// If it printed none.
    #[must_use]
    pub fn object(&self) -> Value {
        self.lines.last().unwrap_or_else(|| panic!("`kith {}` printed nothing", self.shown)).clone()
    }
}
