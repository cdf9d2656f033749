//! Cargo's own add-ons: components of the toolchain, and programs such as cargo-nextest.

use anyhow::{Result, bail};

use crate::shell::Cmd;
use crate::system::Install;

/// Makes sure `cargo <name>` works, where `name` is a component of the Rust toolchain.
pub(crate) fn component(name: &str, probe: &str, install: Install) -> Result<()> {
    if Cmd::cargo(probe).works() {
        return Ok(());
    }
    let add = Cmd::new("rustup").words("component add").arg(name);
    if install == Install::Forbidden {
        bail!("{name} is missing; run `{add}`");
    }
    add.run()
}

pub(crate) fn has_nextest() -> bool {
    Cmd::cargo("nextest --version").works()
}

pub(crate) fn has_deny() -> bool {
    Cmd::cargo("deny --version").works()
}

/// Installs cargo-fuzz unless it is there.
pub(crate) fn ensure_fuzz() -> Result<()> {
    if Cmd::cargo("fuzz --version").works() {
        return Ok(());
    }
    // Without optimisation it builds in a minute, and it only starts other programs.
    Cmd::cargo("install cargo-fuzz --locked --debug").run()
}
