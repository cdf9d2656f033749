//! The relay of the demo: the `kith-relay` program beside this one, if it is there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a relay may take to be ready.
const READY: Duration = Duration::from_secs(20);

/// How it differs from a relay somebody depends on: it lives for a minute, so it needs no room on the disk and no page of
/// its own, whose port another relay of this machine may have.
const CONFIG: &str = r#"listen = ["/ip4/127.0.0.1/tcp/0"]

[web]
listen = ""

[total]
reserve = "1 MiB"
"#;

/// A running relay; ends with its drop.
pub(super) struct Relay {
    /// With its peer id.
    pub(super) address: String,
    child: Child,
}

/// The program, where installers and builds put it.
pub(super) fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let name = format!("kith-relay{}", std::env::consts::EXE_SUFFIX);
    Some(own.with_file_name(name)).filter(|path| path.is_file())
}

impl Relay {
    pub(super) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let command = |what: &str| {
            let mut command = Command::new(program);
            command.arg(what).arg("--data").arg(folder).stdin(Stdio::null()).kill_on_drop(true);
            command
        };
        let made = command("init").args(["--listen", "/ip4/127.0.0.1/tcp/0"]).output().await?;
        if !made.status.success() {
            bail!("kith-relay init failed: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        std::fs::write(folder.join("relay.toml"), CONFIG)?;
        let mut child = command("run").arg("--json").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("the relay has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line =
            tokio::time::timeout(READY, lines.next_line()).await.context("the relay is not ready")??;
        let ready: serde_json::Value = serde_json::from_str(&line.context("the relay has ended")?)?;
        let addresses = ready["addresses"].as_array().into_iter().flatten();
        let address = addresses
            .filter_map(serde_json::Value::as_str)
            .find(|address| address.contains("/tcp/"))
            .context("the relay names no address")?;
        Ok(Self { address: address.to_owned(), child })
    }

    pub(super) async fn stop(mut self) {
        // an error means that it has ended already
        let _ = self.child.kill().await;
    }
}
