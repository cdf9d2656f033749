//! `kith init`: an account on this machine.

use std::path::PathBuf;

use clap::ValueEnum;
use kith_node::ProductHost;
use kith_node::account::{self, NewAccount};
use kith_node::keys::KeyKind;

use crate::app::{App, has_account};
use crate::failure::usage;

/// `kith init --name NAME`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name contacts see
    #[arg(long)]
    name: String,
    /// Where the key of your data is kept
    #[arg(long, value_enum, default_value_t = Key::Auto)]
    key: Key,
    /// A file that does not exist yet, for the 24 words of your account [default: phrase.txt in the data folder]
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
}

/// Where the key of the data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Key {
    /// The system's keyring if there is one, else a passphrase if one is given, else a file
    Auto,
    /// The system's keyring
    Keyring,
    /// A passphrase, asked for at each start
    Passphrase,
    /// A file only you can read
    File,
}

/// Where the words are written unless told otherwise.
pub(crate) fn default_phrase_file(app: &App) -> PathBuf {
    app.folder.path().join("phrase.txt")
}

pub(crate) fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    if has_account(&app.folder) {
        return Err(usage(format!("there is an account in {} already", app.folder.path().display())));
    }
    let mut new = NewAccount::named(args.name);
    new.key = match args.key {
        Key::Auto => KeyKind::Auto,
        Key::Keyring => KeyKind::Keyring,
        Key::Passphrase => KeyKind::Passphrase,
        Key::File => KeyKind::File,
    };
    new.passphrase =
        if args.key == Key::Passphrase { Some(app.new_passphrase()?) } else { app.given_passphrase()? };
    let words = args.phrase_file.unwrap_or_else(|| default_phrase_file(app));
    new.phrase_file = Some(words.clone());
    let host = ProductHost::current()?;
    let created = account::create(&host, &app.folder, new)?;
    let answer = serde_json::json!({
        "account": created.account.to_string(),
        "device": created.device.to_string(),
        "peer_id": created.peer_id,
        "phrase_file": words,
    });
    app.out.either(&answer, || {
        format!(
            "Your account is made: {}\nThe 24 words that restore it are in {}. Write them down and delete the file.\n\
             Next: `kith run` to be on-line, then `kith invite` in another terminal.",
            created.account,
            words.display()
        )
    })
}
