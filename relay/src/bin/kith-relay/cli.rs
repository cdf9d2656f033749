//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kith_relay::folder::Folder;

/// Keeps sealed envelopes for devices that are away.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "A relay in two minutes:\n  kith-relay init --data /var/lib/kith-relay\n  kith-relay run --data /var/lib/kith-relay\n\
    Then give its address to those who may use it: kith run --relay ADDRESS"
)]
pub(crate) struct Cli {
    /// The relay's folder; KITH_RELAY_DATA, or else kith-relay in the data folder of this user
    #[arg(long, global = true, value_name = "DIR", env = "KITH_RELAY_DATA")]
    data: Option<PathBuf>,
    /// The relay's key, if it is not in its folder; as a credential of systemd it is found without this
    #[arg(long, global = true, value_name = "FILE", env = "KITH_RELAY_KEY")]
    key: Option<PathBuf>,
    /// One JSON object on each line of standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a relay: a key and a commented configuration
    Init(InitArgs),
    /// Run it
    Run(RunArgs),
    /// Look whether configuration and host are fit for a relay; says what to do where they are not
    #[command(
        after_help = "Exit codes: 0 fit (there may be advice), 1 something must be changed, 2 wrong usage, 3 advice, with --strict"
    )]
    Check(CheckArgs),
    /// How the running relay does
    Status,
    /// Look at mailboxes, block or remove them
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// What opens mailboxes with mode = "token"
    #[command(subcommand)]
    Token(TokenCommand),
    /// Take nothing new: mailboxes can be emptied. Lasts over restarts
    Drain {
        /// Take everything again
        #[arg(long)]
        off: bool,
    },
    /// Say that the clock is right although it has jumped: what is past its time may expire again
    ConfirmClock,
    /// Read the configuration again, as SIGHUP does
    Reload,
    /// Count everything that is stored and compare
    Audit,
    /// Write everything, with the key, into one file; the relay may run
    Backup(BackupArgs),
    /// Make a relay from a backup, in a new folder
    Restore(RestoreArgs),
    /// End the running relay
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Listen here, for example /ip4/0.0.0.0/tcp/4190; may be given several times
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// An address at which others reach the relay, for example /dns4/relay.example.org/tcp/4190
    #[arg(long, value_name = "ADDR")]
    pub(crate) external: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// End with 3 if there is advice
    #[arg(long)]
    pub(crate) strict: bool,
    /// Also count everything that is stored; the relay must not run
    #[arg(long)]
    pub(crate) store: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file, which must not exist yet
    pub(crate) file: PathBuf,
    /// Only check a backup that was made before
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// Take this configuration instead of the backup's, for example with another store
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The relay was stopped before the backup and never ran since: nothing was promised that is not in it
    #[arg(long)]
    pub(crate) moved: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Say more: -v for more detail, -vv for much
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MailboxCommand {
    /// Mailboxes by id
    List {
        /// Beyond this one
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// What is known of one
    Inspect {
        /// Its id
        id: String,
    },
    /// Remove one with everything in it
    Evict {
        /// Its id
        id: String,
    },
    /// Let nobody use one; what is in it stays until its time is over
    Block {
        /// Its id
        id: String,
        /// Let it be used again
        #[arg(long)]
        off: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make one; it is shown once
    Create {
        /// Mailboxes it opens
        #[arg(long, default_value_t = 1)]
        uses: u64,
        /// Days until it ends
        #[arg(long, value_name = "DAYS")]
        days: Option<u64>,
        /// What to call it
        #[arg(long, default_value = "")]
        label: String,
    },
    /// All of them, without the tokens themselves
    List,
    /// Take one back; mailboxes it has opened stay
    Revoke {
        /// Its id, or how it begins
        id: String,
    },
}

impl Cli {
    pub(crate) fn folder(&self) -> anyhow::Result<Folder> {
        let folder = self.data_folder()?;
        // systemd puts credentials where only the service can read them
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| PathBuf::from(folder).join("relay.key"))
            .filter(|path| path.is_file());
        Ok(match self.key.clone().or(credential) {
            Some(key) => folder.with_key(key),
            None => folder,
        })
    }

    fn data_folder(&self) -> anyhow::Result<Folder> {
        if let Some(path) = &self.data {
            anyhow::ensure!(!path.as_os_str().is_empty(), "--data needs the name of a folder");
            return Ok(Folder::new(path));
        }
        let base = std::env::var_os("XDG_DATA_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
        let base = base.or_else(home).ok_or_else(|| {
            anyhow::anyhow!("neither XDG_DATA_HOME nor HOME says where data belongs; use --data DIR")
        })?;
        Ok(Folder::new(base.join("kith-relay")))
    }
}
