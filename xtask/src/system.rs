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

pub(crate) const POSTGRES: Need = Need {
    program: "postgres",
    packages: &["postgresql"],
    why: "relays that share a database are tested on servers of the tests' own",
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

/// Whether a program is in the search path, or where Debian keeps those of PostgreSQL.
pub(crate) fn present(program: &str) -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders = versions.map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
        || folders.any(|dir| dir.join(program).is_file())
}

/// Debian's clusters, as (version, name).
fn clusters() -> Vec<(String, String)> {
    let list = Cmd::new("pg_lsclusters").arg("-h").read().unwrap_or_default();
    let fields = |line: &str| {
        let mut fields = line.split_whitespace().map(str::to_owned);
        Some((fields.next()?, fields.next()?))
    };
    list.lines().filter_map(fields).collect()
}

/// Makes sure the programs of PostgreSQL are there, and only they: Debian's package also makes a database and starts a
/// server, which nobody asked for. One that was there before is not touched.
pub(crate) fn ensure_postgres(install: Install) -> Result<()> {
    let before = if present("pg_lsclusters") { clusters() } else { Vec::new() };
    let was_there = present(POSTGRES.program);
    ensure(&[POSTGRES], install)?;
    if was_there || !present("pg_dropcluster") {
        return Ok(());
    }
    let root = Cmd::new("id").arg("-u").read()?.trim() == "0";
    for (version, name) in clusters().into_iter().filter(|cluster| !before.contains(cluster)) {
        let drop = if root { Cmd::new("pg_dropcluster") } else { Cmd::new("sudo").arg("pg_dropcluster") };
        drop.arg("--stop").arg(version).arg(name).run()?;
    }
    Ok(())
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
