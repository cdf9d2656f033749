//! How `kith-relay` talks to the relay that runs: one line of JSON each way over a loopback socket. Whoever can read
//! `admin.json` (only the relay's user can) may give orders.

mod client;
mod control;
mod server;

use kith_protocol::MailboxId;
use serde::{Deserialize, Serialize};

pub use client::{AdminError, BackupStream, Client};
pub use control::Control;
pub use server::{AdminServer, serve};

/// What comes back once a backup is in safe hands.
const TAKEN: &[u8; 6] = b"taken\n";
/// Longest line.
const LINE: usize = 1024 * 1024;

/// `admin.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entrance {
    address: std::net::SocketAddr,
    token: String,
    pid: u32,
}

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Ask {
    /// How it does.
    Status,
    /// Mailboxes by id.
    MailboxList {
        /// Beyond this one.
        after: Option<String>,
        /// At most so many.
        max: usize,
    },
    /// One mailbox.
    MailboxInspect {
        /// Its id.
        mailbox: String,
    },
    /// Remove a mailbox with all in it.
    MailboxEvict {
        /// Its id.
        mailbox: String,
    },
    /// Let nobody use a mailbox, or let them again.
    MailboxBlock {
        /// Its id.
        mailbox: String,
        /// Block, or not any more.
        blocked: bool,
    },
    /// Make a token.
    TokenCreate {
        /// What to call it.
        label: String,
        /// Mailboxes it opens.
        uses: u64,
        /// Seconds until it ends.
        lifetime: Option<u64>,
    },
    /// All tokens.
    TokenList,
    /// Take a token back.
    TokenRevoke {
        /// Its id, or its beginning.
        id: String,
    },
    /// Take nothing new, or take it again; also after a restart.
    Drain {
        /// Take it again.
        off: bool,
    },
    /// The wall clock is right.
    ConfirmClock,
    /// Read the configuration again.
    Reload,
    /// Whether what is counted is what is there.
    Audit,
    /// Send a backup: after one line of answer its bytes; once they are stored safely, one line comes back.
    Backup,
    /// End.
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    token: String,
    #[serde(flatten)]
    ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Response {
    Done(serde_json::Value),
    Error(String),
}

fn mailbox(text: &str) -> Result<MailboxId, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}
