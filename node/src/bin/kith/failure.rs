//! Exit codes and the one line that says why.

use std::fmt;
use std::io;
use std::process::ExitCode;

use kith_node::account::CreateError;
use kith_node::{StartError, api};

/// Something went wrong, or a wait was not met.
pub(crate) const FAILED: u8 = 1;
/// The command line itself is at fault.
pub(crate) const USAGE: u8 = 2;

/// A command line that cannot be meant: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that ends with exit code 2.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage(text.into()))
}

/// Ends the program: says on standard error why it failed, if it did.
pub(crate) fn exit(done: anyhow::Result<()>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    if is_closed_pipe(&error) {
        // the reader (`head`, a pager) has seen enough
        return ExitCode::SUCCESS;
    }
    eprintln!("kith: {}", told(&error));
    ExitCode::from(code(&error))
}

/// The error and its causes on one line; what a text says already is not said again.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn code(error: &anyhow::Error) -> u8 {
    let usage = error.downcast_ref::<Usage>().is_some()
        || error.downcast_ref::<api::Error>().is_some_and(api::Error::is_usage)
        || error.downcast_ref::<StartError>().is_some_and(StartError::is_usage)
        || error.downcast_ref::<CreateError>().is_some_and(CreateError::is_usage);
    if usage { USAGE } else { FAILED }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_candidates_and_wrong_usage_end_with_two_and_all_else_with_one() {
        let several = api::Error::AmbiguousWho { who: "Ben".to_owned(), candidates: Vec::new() };
        assert_eq!(code(&several.into()), USAGE);
        assert_eq!(code(&usage("no")), USAGE);
        assert_eq!(code(&api::Error::Offline.into()), FAILED);
        assert_eq!(code(&anyhow::anyhow!("no")), FAILED);
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || io::Error::from_raw_os_error(13);
        let twice = anyhow::Error::new(cause()).context(format!("x cannot be used: {}", cause()));
        assert_eq!(told(&twice).matches("os error 13").count(), 1);
        let bare = anyhow::Error::new(cause()).context("x cannot be used");
        assert_eq!(told(&bare), format!("x cannot be used: {}", cause()));
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let closed = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_closed_pipe(&closed));
        assert!(!is_closed_pipe(&anyhow::Error::new(io::Error::from(io::ErrorKind::NotFound))));
    }
}
