//! `cargo xtask run`: build for release, start.

use anyhow::{Result, bail};

use crate::shell::{Cmd, target_dir};
use crate::system::{self, Install};

pub(crate) fn run(args: &[String]) -> Result<()> {
    system::ensure(&[system::CC], Install::Allowed)?;
    Cmd::cargo("build --release --workspace --bin kith --bin kith-relay").run()?;
    let kith = target_dir()?.join("release").join("kith");
    let mut command = std::process::Command::new(&kith);
    // until the desktop app exists the demo is what there is to run, whether it is asked for or not
    command.arg("demo").args(args.iter().filter(|arg| *arg != "--demo"));
    replace(command)
}

/// Becomes the program, so that signals and the terminal are its own.
#[cfg(unix)]
fn replace(mut command: std::process::Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    bail!("cannot start {}: {error}", command.get_program().display())
}

#[cfg(not(unix))]
fn replace(mut command: std::process::Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("{} failed ({status})", command.get_program().display());
    }
    Ok(())
}
