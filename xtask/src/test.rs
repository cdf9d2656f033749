//! `cargo xtask test`: what must pass before a change is merged. CI runs the same.

use anyhow::{Result, bail};

use crate::shell::Cmd;
use crate::steps::Steps;
use crate::system::{self, Install};
use crate::tools;

/// Crates the pure core must never reach, with what each would bring in.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "a runtime"),
    ("mio", "sockets"),
    ("libp2p", "the network"),
    ("libp2p-swarm", "the network"),
    ("sled", "a store"),
    ("redb", "a store"),
    ("egui", "a user interface"),
];

pub(crate) fn test(args: &[String]) -> Result<()> {
    let install = match args {
        [] => Install::Allowed,
        [one] if one == "--no-install" => Install::Forbidden,
        _ => bail!(
            "`cargo xtask test` knows only --no-install; for one test use `cargo test --workspace NAME`"
        ),
    };
    system::ensure(&[system::CC], install)?;
    let mut steps = Steps::new();

    steps.step("format", "cargo fmt --all --check", || {
        tools::component("rustfmt", "fmt --version", install)?;
        Cmd::cargo("fmt --all --check").run()
    });
    let clippy = Cmd::cargo("clippy --workspace --lib --bins --quiet");
    steps.step("lints", &clippy.to_string(), || {
        tools::component("clippy", "clippy --version", install)?;
        clippy.run()
    });
    steps.step("pure core", "cargo tree -p kith-protocol -e normal", pure_core);
    // The whole-system tests join when the command line has all they call: chat, demo, store and doctor.
    tests(&mut steps);
    steps.run("doc tests", &Cmd::cargo("test --workspace --doc --quiet"));
    steps.run("documentation", &Cmd::cargo("doc --workspace --no-deps --quiet"));
    if tools::has_deny() {
        steps.run("licences and sources", &Cmd::cargo("deny --offline check licenses bans sources"));
    } else {
        steps.leave_out(
            "licences and sources",
            "no cargo-deny; `cargo install cargo-deny --locked` brings it",
        );
    }
    steps.finish()
}

fn tests(steps: &mut Steps) {
    steps.run("build", &Cmd::cargo("build --workspace --bin kith --quiet"));
    let cmd = if tools::has_nextest() {
        Cmd::cargo(
            "nextest run --workspace --exclude kith-tests --no-fail-fast --status-level slow --final-status-level fail",
        )
    } else {
        Cmd::cargo("test --workspace --exclude kith-tests --lib --bins --tests --quiet")
    };
    steps.run("tests", &cmd);
}

fn pure_core() -> Result<()> {
    let tree = Cmd::cargo("tree -p kith-protocol -e normal --prefix none").read()?;
    let found = impure(&tree);
    if !found.is_empty() {
        bail!(
            "kith-protocol reaches {}; the core takes time, entropy and bytes as arguments",
            found.join(", ")
        );
    }
    println!("    {} crates, none of them does input or output", tree.lines().count());
    Ok(())
}

fn impure(tree: &str) -> Vec<String> {
    let crates: std::collections::BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    IMPURE
        .iter()
        .filter(|(name, _)| crates.contains(name))
        .map(|(name, what)| format!("{name} ({what})"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_purity_check_sees_the_network_but_not_the_peer_id() {
        let tree = "kith-protocol v0.1.0 (/x)\nlibp2p-identity v0.3.1\nbytes v1.10.0\n";
        assert!(impure(tree).is_empty());
        let tree = format!("{tree}libp2p-swarm v0.48.0\ntokio v1.50.0 (*)\n");
        assert_eq!(impure(&tree), ["tokio (a runtime)", "libp2p-swarm (the network)"]);
    }
}
