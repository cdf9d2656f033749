//! What every command has at hand: the data folder, the output, the passphrase.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kith_node::keys::{self, KeyKind, OpenStage, Progress};
use kith_node::{Builder, Folder};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::cli::Global;
use crate::failure::usage;
use crate::out::Out;
use crate::terminal;

/// Largest passphrase file that is read.
const PASSPHRASE_FILE: u64 = 4096;

/// The surroundings of one command.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) folder: Folder,
    pub(crate) out: Out,
    verbose: u8,
    passphrase_file: Option<PathBuf>,
}

/// The data folder that is meant.
pub(crate) fn folder(global: &Global) -> anyhow::Result<Folder> {
    match &global.data {
        Some(path) if path.as_os_str().is_empty() => Err(usage("--data needs the name of a folder")),
        Some(path) if path.exists() && !path.is_dir() => {
            Err(usage(format!("--data names a folder, and {} is none; give another one", path.display())))
        }
        Some(path) => Ok(Folder::new(path)),
        None => Folder::default_path().map(Folder::new).ok_or_else(|| {
            usage("neither XDG_DATA_HOME nor HOME says where your data belongs; use --data DIR")
        }),
    }
}

/// Whether `kith init` was run on this folder.
pub(crate) fn has_account(folder: &Folder) -> bool {
    folder.store().exists()
}

impl App {
    pub(crate) fn new(global: Global) -> anyhow::Result<Self> {
        Ok(Self {
            folder: folder(&global)?,
            out: Out::new(global.json),
            verbose: global.verbose,
            passphrase_file: global.passphrase_file,
        })
    }

    /// Log lines go to standard error, as much as was asked for.
    pub(crate) fn start_log(&self, to_people: bool) {
        let level = match (self.verbose, to_people) {
            // what an engine says of its own damage, the store says better; why nothing was written, the command itself
            (0, false) => "error,sled=off,kith_store::writer=off,kith_store::store=off",
            // libraries warn of what is ordinary for a person with no network
            (0, true) => "error,sled=off,kith_node=warn,kith_network=warn,kith_store=warn,kith_protocol=warn",
            (1, _) => "warn,kith_node=info,kith_network=info,kith_store=info,kith_protocol=info",
            (2, _) => "info,kith_node=debug,kith_network=debug,kith_store=debug,kith_protocol=debug",
            _ => "debug,kith_node=trace,kith_network=trace,kith_store=trace,kith_protocol=trace",
        };
        let wanted = std::env::var("RUST_LOG").ok().filter(|wanted| !wanted.is_empty());
        // between a command's own lines, when and where it was noted tells people nothing
        let plain = wanted.is_none() && self.verbose == 0 && !to_people;
        let filter = EnvFilter::new(wanted.as_deref().unwrap_or(level));
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal() && self.out.colour);
        // only a second subscriber can fail here, and there is one
        drop(if plain { log.without_time().with_target(false).try_init() } else { log.try_init() });
    }

    /// Refuses to go on in a folder without an account.
    pub(crate) fn need_account(&self) -> anyhow::Result<()> {
        if self.folder.store().try_exists().with_context(|| {
            format!("{} cannot be looked into; is it another user's?", self.folder.path().display())
        })? {
            return Ok(());
        }
        bail!("there is no account in {} yet; run `kith init --name YOU` first", self.folder.path().display())
    }

    /// The passphrase from `--passphrase-file` or `KITH_PASSPHRASE`, if given.
    pub(crate) fn given_passphrase(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        if let Some(path) = &self.passphrase_file {
            return passphrase_file(path).map(Some);
        }
        match std::env::var("KITH_PASSPHRASE") {
            Ok(passphrase) if !passphrase.is_empty() => Ok(Some(Zeroizing::new(passphrase))),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(anyhow!("KITH_PASSPHRASE cannot be used: {error}")),
        }
    }

    /// The passphrase of this account, if it has one: given, or asked for at a terminal.
    pub(crate) fn passphrase_if_needed(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        if let Some(given) = self.given_passphrase()? {
            return Ok(Some(given));
        }
        if keys::kind(self.folder.path())? != Some(KeyKind::Passphrase) {
            return Ok(None);
        }
        if !terminal::can_ask() {
            bail!(
                "this account is guarded by a passphrase; give it with --passphrase-file FILE or KITH_PASSPHRASE"
            );
        }
        terminal::ask_passphrase("Passphrase").map(Some)
    }

    /// Puts a node on this data folder together.
    pub(crate) fn builder_with(&self, passphrase: Option<Zeroizing<String>>) -> Builder {
        Builder::new(self.folder.clone()).passphrase(passphrase)
    }

    /// A new passphrase: given, or asked for twice.
    pub(crate) fn new_passphrase(&self) -> anyhow::Result<Zeroizing<String>> {
        if let Some(given) = self.given_passphrase()? {
            return Ok(given);
        }
        if !terminal::can_ask() {
            bail!(
                "--key passphrase needs a passphrase; give it with --passphrase-file FILE or KITH_PASSPHRASE"
            );
        }
        let first = terminal::ask_passphrase("New passphrase")?;
        let second = terminal::ask_passphrase("The same again")?;
        if *first != *second {
            bail!("the two were not the same; nothing was changed");
        }
        Ok(first)
    }
}

/// The first line of a small file.
pub(crate) fn passphrase_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let context = || format!("the passphrase cannot be read from {}", path.display());
    let size = std::fs::metadata(path).with_context(context)?.len();
    if size > PASSPHRASE_FILE {
        bail!("{} is too large to be a passphrase file", path.display());
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(context)?);
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("the first line of {} is empty; a passphrase is expected there", path.display());
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Random bytes for ids that a program chooses.
pub(crate) fn random16() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}

/// Something that may take long, shown at a terminal once it does.
pub(crate) struct Busy(ProgressBar);

impl Busy {
    /// Begins; nothing is shown while it is quick.
    pub(crate) fn start(app: &App, what: &'static str) -> Self {
        if app.out.json || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    /// What a store tells while it opens.
    pub(crate) fn progress(&self) -> Progress {
        let bar = self.0.clone();
        Arc::new(move |stage| {
            bar.set_message(match stage {
                OpenStage::Engine => "Opening your data".to_owned(),
                OpenStage::Verifying(rows) => format!("Damage was seen; checking: {rows} rows"),
                OpenStage::Restoring(rows) => format!("Restoring your data from its log: {rows} rows"),
                OpenStage::Migrating(rows) => format!("Bringing your data to this version: {rows} rows"),
            });
        })
    }

    /// Says how far it is.
    pub(crate) fn say(&self, text: String) {
        self.0.set_message(text);
    }

    /// It is done.
    pub(crate) fn end(self) {
        self.0.finish_and_clear();
    }
}
