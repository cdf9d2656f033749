//! `kith init`: an account on this machine.

use std::path::PathBuf;

use clap::ValueEnum;
use kith_node::ProductHost;
use kith_node::account::{self, NewAccount};
use kith_node::keys::{EngineKind, KeyKind};

use crate::app::App;
use crate::failure::usage;
use crate::out::Style;

/// `kith init --name NAME`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kith init --name Ana\n  kith init --name Ana --key passphrase --phrase-file /media/stick/ana-words.txt"
)]
pub(crate) struct Args {
    /// The name contacts see
    #[arg(long)]
    name: String,
    /// Where the key of your data is kept
    #[arg(long, value_enum, default_value_t = Key::Auto)]
    key: Key,
    /// A file that does not exist yet, for the 24 words of your account; - shows them here instead
    /// [default: phrase.txt in the data folder]
    #[arg(long, value_name = "FILE|-")]
    phrase_file: Option<PathBuf>,
    /// What keeps your messages on disk; `kith store migrate` changes it later
    #[arg(long, value_enum, default_value_t = Engine::Sled)]
    engine: Engine,
}

/// Where the key of the data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    /// The system's keyring if there is one, else a passphrase if one is given, else a file
    Auto,
    /// The system's keyring
    Keyring,
    /// A passphrase, asked for at each start
    Passphrase,
    /// A file only you can read
    File,
}

impl Key {
    pub(crate) const fn kind(self) -> KeyKind {
        match self {
            Self::Auto => KeyKind::Auto,
            Self::Keyring => KeyKind::Keyring,
            Self::Passphrase => KeyKind::Passphrase,
            Self::File => KeyKind::File,
        }
    }
}

/// What keeps the rows on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Fast writes
    Sled,
    /// Half the disk, opens large stores fastest
    Redb,
}

impl Engine {
    pub(crate) const fn kind(self) -> EngineKind {
        match self {
            Self::Sled => EngineKind::Sled,
            Self::Redb => EngineKind::Redb,
        }
    }
}

/// Where the words are written unless told otherwise.
pub(crate) fn default_phrase_file(app: &App) -> PathBuf {
    app.folder.path().join("phrase.txt")
}

pub(crate) fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    if args.name.trim().is_empty() {
        return Err(usage("the name is empty; say what contacts shall see, for example --name Ana"));
    }
    let mut new = NewAccount::named(args.name);
    new.key = args.key.kind();
    new.engine = args.engine.kind();
    new.passphrase = match args.key {
        Key::Passphrase => Some(app.new_passphrase()?),
        _ => app.given_passphrase()?,
    };
    let show = args.phrase_file.as_ref().is_some_and(|file| file.as_os_str() == "-");
    let file = (!show).then(|| args.phrase_file.unwrap_or_else(|| default_phrase_file(app)));
    new.phrase_file.clone_from(&file);
    let created = account::create(&ProductHost::current()?, &app.folder, new)?;
    if app.out.json {
        return app.out.json(&serde_json::json!({
            "account": created.account.to_string(),
            "device": created.device.to_string(),
            "peer_id": created.peer_id,
            "key": created.key.name(),
            "phrase_file": file,
            "words": show.then(|| created.phrase.to_string()),
        }));
    }
    app.out.line(format!("Your account is {}", app.out.paint(Style::Bold, &created.account.to_string())))?;
    app.out.line(match created.key {
        KeyKind::Keyring => "Your data is sealed with a key in this system's keyring.",
        KeyKind::Passphrase => "Your data is sealed with your passphrase.",
        KeyKind::File | KeyKind::Auto => "Your data is sealed with a key in a file that only you can read.",
    })?;
    match &file {
        Some(file) => app.out.line(format!(
            "The 24 words that stand for your account are in {}\nWrite them on paper, then delete the file: they are kept nowhere else.",
            app.out.paint(Style::Bold, &file.display().to_string())
        ))?,
        None => app.out.line(format!(
            "The 24 words that stand for your account, kept nowhere else; write them on paper:\n  {}",
            created.phrase.as_str()
        ))?,
    }
    app.out.line("\nNext: `kith run` to be on-line, then `kith invite` in another terminal.")
}
