//! `kith-relay backup` and `kith-relay restore`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use kith_network::{Environment as _, ProductEnvironment};
use kith_protocol::Wall;
use kith_protocol::limits;
use kith_relay::admin::{AdminError, Client};
use kith_relay::backup::{self, BackupError, Restored, Verified};
use kith_relay::config::RelayConfig;
use kith_relay::folder::Folder;
use kith_relay::observed::ObservedStore;
use kith_store::DataLock;
use kith_store::mailbox::MailboxStore as _;
use serde_json::json;

use crate::cli::{BackupArgs, RestoreArgs};
use crate::out::Out;
use crate::store::{lock, open_store};

pub(crate) async fn backup(folder: &Folder, out: &Out, args: &BackupArgs) -> anyhow::Result<()> {
    if args.verify {
        return tell(out, &args.file, &verified(&args.file)?, &[]);
    }
    if !folder.is_made() {
        folder.read_key()?;
    }
    if args.file.exists() {
        bail!("{} exists, and nothing is ever overwritten: choose another name", args.file.display());
    }
    let draft = Draft::new(&args.file)?;
    let mut damaged = Vec::new();
    let verified = match from_running(folder, &draft).await {
        Ok(verified) => verified,
        Err(Reason::Stopped) => {
            damaged = from_stopped(folder, &draft).await?;
            backup::verify(&draft.path)?
        }
        Err(Reason::Other(error)) => return Err(error),
    };
    draft.keep(&args.file)?;
    tell(out, &args.file, &verified, &damaged)
}

fn verified(file: &Path) -> anyhow::Result<Verified> {
    backup::verify(file).with_context(|| format!("{}", file.display()))
}

/// A file that is nothing until it is whole.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(file: &Path) -> anyhow::Result<Self> {
        let mut name = file.file_name().context("the backup needs the name of a file")?.to_owned();
        name.push(".part");
        let path = file.with_file_name(name);
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).with_context(|| {
            let shown = path.display();
            if path.exists() {
                format!("{shown} is there: another backup is being made, or one broke off; then remove it")
            } else {
                format!("{shown} cannot be made: name a file in a folder that is there and yours to write in")
            }
        })?;
        Ok(Self { path })
    }

    fn open(&self) -> std::io::Result<File> {
        File::options().write(true).truncate(true).open(&self.path)
    }

    /// Gives it its name, unless somebody else has taken it.
    fn keep(self, file: &Path) -> anyhow::Result<()> {
        std::fs::hard_link(&self.path, file).with_context(|| format!("{}", file.display()))?;
        #[cfg(unix)]
        if let Some(folder) = file.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // left behind it is only in the way
        let _ = std::fs::remove_file(&self.path);
    }
}

enum Reason {
    Stopped,
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Reason {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// The running relay sends it, and is told once it was checked and is on disk.
async fn from_running(folder: &Folder, draft: &Draft) -> Result<Verified, Reason> {
    let stopped = |error| match error {
        AdminError::NotRunning(_) => Reason::Stopped,
        other => Reason::Other(other.into()),
    };
    let client = Client::new(folder).map_err(stopped)?;
    let mut stream = client.backup().await.map_err(stopped)?;
    let mut file = draft.open()?;
    stream.write_to(&mut file).await?;
    file.sync_all()?;
    let verified = backup::verify(&draft.path)?;
    stream.taken().await?;
    Ok(verified)
}

/// Nobody answers: the folder is taken, so that no relay begins meanwhile.
async fn from_stopped(folder: &Folder, draft: &Draft) -> anyhow::Result<Vec<String>> {
    let config = RelayConfig::read(&folder.config())?;
    let _lock = lock(folder)?;
    let host = Arc::new(ProductEnvironment::current()?.without_lan());
    let store = ObservedStore::new(open_store(folder, &config, &host, &folder.read_key()?).await?);
    let now = host.wall();
    let mut file = tokio::fs::File::from_std(draft.open()?);
    let summary = backup::write(folder, &store, now, false, &mut file).await?;
    file.sync_all().await?;
    store.close().await?;
    folder.set_last_backup(now)?;
    Ok(summary.damaged)
}

fn tell(out: &Out, file: &Path, verified: &Verified, damaged: &[String]) -> anyhow::Result<()> {
    let Verified { head, end, bytes } = verified;
    let totals = end.totals;
    if out.json {
        out.json(&json!({
            "file": file, "bytes": bytes, "made": when(head.made), "running": head.running,
            "mailboxes": totals.mailboxes, "envelopes": totals.envelopes, "envelope_bytes": totals.bytes,
            "damaged": damaged,
        }))?;
    } else {
        out.line(&format!(
            "{} is whole: {} mailboxes with {} envelopes, {bytes} bytes, made {}.",
            file.display(),
            totals.mailboxes,
            totals.envelopes,
            when(head.made)
        ))?;
        out.line("It holds the relay's secret key: keep it where only you can read it.")?;
    }
    if !damaged.is_empty() {
        bail!("{} damaged rows are not in it; `kith-relay audit` names them", damaged.len());
    }
    Ok(())
}

pub(crate) async fn restore(folder: &Folder, out: &Out, args: &RestoreArgs) -> anyhow::Result<()> {
    let path = folder.path();
    let is_empty = match std::fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    };
    if !is_empty {
        return Err(BackupError::NotEmpty(path.display().to_string()).into());
    }
    let verified = verified(&args.file)?;
    let text = match &args.config {
        Some(path) => {
            // says what is wrong with the file itself
            RelayConfig::read(path)?;
            std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?
        }
        None => verified.head.config.clone(),
    };
    let config = RelayConfig::parse(&text, &format!("relay.toml in {}", args.file.display()))?;
    let _lock = DataLock::acquire(path)?;
    let host = Arc::new(ProductEnvironment::current()?.without_lan());
    let store = open_store(folder, &config, &host, &verified.head.key).await?;
    let restored = backup::restore(&args.file, folder, &store, &text, args.moved).await;
    store.close().await?;
    let restored = restored
        .with_context(|| format!("there is no relay in {0} now; remove {0} and try again", path.display()))?;
    tell_restored(folder, out, &config, &restored, args.moved)
}

fn tell_restored(
    folder: &Folder,
    out: &Out,
    config: &RelayConfig,
    restored: &Restored,
    moved: bool,
) -> anyhow::Result<()> {
    let (totals, head) = (restored.totals, &restored.from.head);
    let broken = if moved { Vec::new() } else { broken_promises(config, restored) };
    if out.json {
        let peer = head.relay.peer_id().map(|peer| peer.to_string());
        return Ok(out.json(&json!({
            "peer_id": peer, "made": when(head.made), "mailboxes": totals.mailboxes,
            "envelopes": totals.envelopes, "bytes": totals.bytes, "one_time_keys_left_out": restored.keys_left_out,
            "may_be_broken": broken,
        }))?);
    }
    out.line(&format!(
        "The relay of {} is in {} now: {} mailboxes with {} envelopes, counted and right.",
        when(head.made),
        folder.path().display(),
        totals.mailboxes,
        totals.envelopes
    ))?;
    if !broken.is_empty() {
        out.line("\nWhat the relay did after the backup is not in it:")?;
        for line in &broken {
            out.line(&format!("  - {line}"))?;
        }
    }
    out.line("\nNever run the old one again: two relays with one key answer differently.")?;
    out.line(&format!("Start this one with: kith-relay run --data {}", folder.path().display()))?;
    Ok(())
}

fn broken_promises(config: &RelayConfig, restored: &Restored) -> Vec<String> {
    let made = restored.from.head.made;
    let until = |days: u64| when(made.plus(days.saturating_mul(limits::DAY)));
    let mut broken = vec![
        format!(
            "Envelopes taken into custody after {} are lost, though their senders hold receipts, the last of which \
             may promise until {} days after the old relay's end. Copies may lie at the recipients' other relays; tell \
             your users.",
            when(made),
            config.mailbox.days
        ),
        format!(
            "Envelopes collected since then are here again, at most until {}. Devices know them by their ids and \
             drop them.",
            until(config.mailbox.days)
        ),
        "Rights, blocks and tokens are as they were. Owners' devices set their rights again when they connect; a \
         token used since then can be used once more: `kith-relay token list` shows them."
            .into(),
        "If the backup is older than a day, nothing expires for 24 hours; `kith-relay confirm-clock` ends that.".into(),
    ];
    if restored.keys_left_out > 0 {
        broken.push(format!(
            "{} one-time keys were left out, so that none is given twice. Owners' devices bring new ones; until then \
             first messages use the last-resort key.",
            restored.keys_left_out
        ));
    }
    broken
}

pub(crate) fn when(at: Wall) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis / 1_000 * 1_000).ok())
        .map_or_else(|| at.0.to_string(), |at| at.to_string())
}
