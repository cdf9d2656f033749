//! One `kith-relay` with a data folder.

use std::process::Command;

use tempfile::TempDir;

use crate::binary::relay_binary;
use crate::node::{Node, free_port, loopback};

/// A relay that may be killed and started again.
#[derive(Debug)]
pub struct Relay {
    home: TempDir,
    node: Option<Node>,
    /// Where it is, with its peer id.
    pub address: String,
}

impl Relay {
    /// A new relay, running on a port of its own.
    ///
    /// # Panics
    /// If it cannot be made or does not start.
    #[must_use]
    pub fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder for tests");
        let listen = loopback(free_port());
        let mut relay = Self { home, node: None, address: String::new() };
        let made = relay.command("init").args(["--listen", &listen]).output().expect("kith-relay starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
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

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(relay_binary());
        command.env("HOME", self.home.path()).env("NO_COLOR", "1");
        command.arg(what).arg("--data").arg(self.home.path().join("relay"));
        command
    }
}
