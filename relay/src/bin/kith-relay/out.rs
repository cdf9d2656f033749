//! Lines for people, or one JSON object a line.

use std::io::{self, IsTerminal as _, Write as _};

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::Value;

/// Where results go.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
    terminal: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: io::stdout().is_terminal() }
    }

    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stdout(), "{text}").map_err(lost)
    }

    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        let mut out = io::stdout();
        writeln!(out, "{value}").and_then(|()| out.flush()).map_err(lost)
    }

    /// A code for cameras, where there is a screen.
    pub(crate) fn qr(&self, text: &str) -> io::Result<()> {
        if !self.terminal {
            return Ok(());
        }
        if let Ok(code) = QrCode::new(text) {
            let picture = code
                .render::<Dense1x2>()
                .dark_color(Dense1x2::Light)
                .light_color(Dense1x2::Dark)
                .quiet_zone(true)
                .build();
            self.line(&picture)?;
        }
        Ok(())
    }
}

fn lost(error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("what there is to say cannot be written to standard output: {error}"),
    )
}

/// An error with its causes, without those it names itself.
fn whole(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// One line on standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    // nobody is left to tell if standard error is closed
    let _ = writeln!(io::stderr(), "kith-relay: {}", whole(error));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_once() {
        let cause = io::Error::other("no such thing");
        let error = anyhow::Error::new(cause).context("the file: no such thing").context("the folder");
        assert_eq!(whole(&error), "the folder: the file: no such thing");
    }
}
