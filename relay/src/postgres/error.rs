//! What went wrong, sorted by what can be done about it.

use kith_store::mailbox::MailboxStoreError;
use tokio_postgres::error::{Severity, SqlState};

/// Raised by `write_batches` when another relay made the same mailbox.
const MADE_MEANWHILE: &str = "KC001";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another relay was faster: decide again.
    Conflict,
    /// The server does not answer: connect again.
    Lost(String),
    /// It answered that it cannot do this now.
    Failed(String),
    /// It would be the same the next time: somebody has to change something.
    Refused(String),
    /// A page cannot be read.
    Damaged(String),
    /// Written by a newer relay.
    Newer { found: u16, known: u16 },
    /// It was closed here.
    Closed,
}

/// The whole story: the driver's own text leaves out the causes. What a server tells as a detail holds contents of rows
/// and is left out.
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = told(&error);
        let Some(code) = error.code() else { return Self::Lost(text) };
        if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
            || code.code() == MADE_MEANWHILE
        {
            return Self::Conflict;
        }
        if *code == SqlState::DISK_FULL {
            return Self::Failed(format!(
                "the disk of the database server is full: free some space there; {text}"
            ));
        }
        let ends = error
            .as_db_error()
            .and_then(tokio_postgres::error::DbError::parsed_severity)
            .is_some_and(|severity| matches!(severity, Severity::Fatal | Severity::Panic));
        match code.code().get(..2) {
            Some("XX") if *code != SqlState::INTERNAL_ERROR => Self::Damaged(text),
            // who we are, which database, what is in it, what we may
            Some("28" | "3D" | "3F" | "42") => Self::Refused(text),
            // a standby that was asked to write, and a server that ends
            Some("25" | "57") if *code != SqlState::QUERY_CANCELED => Self::Lost(text),
            _ if ends => Self::Lost(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<MailboxStoreError> for Failure {
    fn from(error: MailboxStoreError) -> Self {
        match error {
            MailboxStoreError::Damaged(text) => Self::Damaged(text),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<Failure> for MailboxStoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflict => Self::Unavailable("other relays changed the same rows".into()),
            Failure::Lost(text) | Failure::Failed(text) => Self::Unavailable(text),
            Failure::Refused(text) => Self::Refused(text),
            Failure::Damaged(text) => Self::Damaged(text),
            Failure::Newer { found, known } => Self::Newer { found, known },
            Failure::Closed => Self::Closed,
        }
    }
}
