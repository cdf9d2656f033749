//! Packages of the operating system: installed on Debian and Ubuntu, named everywhere else.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell::Cmd;

/// A program a chore needs, and the Debian packages that bring it.
pub(crate) struct Need {
    pub(crate) program: &'static str,
    pub(crate) packages: &'static [&'static str],
    pub(crate) why: &'static str,
}

pub(crate) const CC: Need =
    Need { program: "cc", packages: &["gcc", "libc6-dev"], why: "aws-lc and ring are C" };
pub(crate) const CXX: Need = Need { program: "c++", packages: &["g++"], why: "libFuzzer is C++" };
pub(crate) const NODE: Need =
    Need { program: "node", packages: &["nodejs"], why: "a js-libp2p peer is tested" };
pub(crate) const NPM: Need = Need { program: "npm", packages: &["npm"], why: "it installs js-libp2p" };

pub(crate) const CHROMIUM: Need = Need {
    program: "chromium",
    packages: &["chromium", "fonts-dejavu-core"],
    why: "it reads the relay's status page",
};

/// Whether what is missing may be installed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    /// As root at once, else by sudo after asking on the terminal.
    Allowed,
    /// Never.
    Forbidden,
}

/// Makes sure all of `needs` are there.
pub(crate) fn ensure(needs: &[Need], install: Install) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !present(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing.iter().map(|need| format!("{} ({})", need.program, need.why)).collect();
    let list = list.join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages.iter().copied()).collect();
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("missing: {list}. Install them with this system's package manager");
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if install == Install::Forbidden {
        bail!("missing: {list}. Install with `sudo {by_hand}`");
    }
    let root = Cmd::new("id").arg("-u").read()?.trim() == "0";
    if !root && !agreed(&format!("Missing: {list}. Run `sudo {by_hand}` now?"))? {
        bail!("missing: {list}. Install with `sudo {by_hand}`");
    }
    println!("    installing {}", packages.join(" "));
    apt(root, "update --quiet=2").run()?;
    let install = packages
        .iter()
        .fold(apt(root, "install --yes --quiet=2 --no-install-recommends"), |cmd, package| cmd.arg(*package));
    install.run()?;
    match needs.iter().find(|need| !present(need.program)) {
        None => Ok(()),
        Some(need) => bail!("{} is still missing after `{by_hand}`", need.program),
    }
}

/// Whether a program is in the search path.
pub(crate) fn present(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn apt(root: bool, line: &str) -> Cmd {
    if root {
        Cmd::new("apt-get").words(line).env("DEBIAN_FRONTEND", "noninteractive")
    } else {
        Cmd::new("sudo").words("DEBIAN_FRONTEND=noninteractive apt-get").words(line)
    }
}

fn agreed(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() || !present("sudo") {
        return Ok(false);
    }
    print!("{question} [y/N] ");
    std::io::stdout().flush().context("cannot write to the terminal")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
