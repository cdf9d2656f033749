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
        writeln!(io::stdout(), "{text}")
    }

    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        let mut out = io::stdout();
        writeln!(out, "{value}")?;
        out.flush()
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

/// One line on standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    // nobody is left to tell if standard error is closed
    let _ = writeln!(io::stderr(), "kith-relay: {error:#}");
}
