//! `cargo xtask test`: what must pass before a change is merged. CI runs the same.

use anyhow::{Result, bail};

use crate::shell::{Cmd, root};
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

/// Scenarios short enough for every change; `cargo xtask soak` runs all of them with many seeds.
const SIMULATED: &[&str] = &[
    "two-friends",
    "partition",
    "one-way-partition",
    "loss-30",
    "clock-skew",
    "crash-storm",
    "slow-disks",
    "behind-routers",
    "power-cuts",
    "relay-first-message",
    "relay-one-dies",
    "relay-lies",
    "relay-slow-and-full",
    "relay-flood",
    "relay-author-gone",
    "relay-behind-routers",
    "bare-gossip",
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
    let clippy = Cmd::cargo("clippy --workspace --all-targets --quiet -- -D warnings");
    steps.step("lints", &clippy.to_string(), || {
        tools::component("clippy", "clippy --version", install)?;
        clippy.run()
    });
    steps.step("pure core", "cargo tree -p kith-protocol -e normal", pure_core);
    let js = js_peer(&mut steps, install);
    let chromium = chromium(&mut steps, install);
    let postgres = postgres(&mut steps, install);
    tests(&mut steps, js, chromium, postgres);
    simulator(&mut steps, chromium);
    steps.run("doc tests", &Cmd::cargo("test --workspace --doc --quiet"));
    steps.run(
        "documentation",
        &Cmd::cargo("doc --workspace --no-deps --quiet").env("RUSTDOCFLAGS", "-D warnings"),
    );
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

/// The simulator is a workspace of its own, since its patches must not reach the product. `tests` builds everything it
/// needs once; the scenarios then run in the same build.
fn simulator(steps: &mut Steps, chromium: bool) {
    if !cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")) {
        steps.leave_out("simulator", "it takes the place of symbols of glibc on x86-64 Linux");
        return;
    }
    steps.run("simulator: format", &Cmd::cargo("fmt --check").dir("sim"));
    steps.run(
        "simulator: lints",
        &Cmd::cargo("clippy --quiet --all-targets --no-deps -- -D warnings").dir("sim"),
    );
    let tests = Cmd::cargo("test --quiet --lib --bins --tests --examples").dir("sim");
    steps.run("simulator: tests", &tests.env("KITH_TEST_CHROMIUM", if chromium { "1" } else { "0" }));
    let scenarios = SIMULATED.join(" ");
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let sweep = Cmd::cargo("run --quiet -- sweep").words(&scenarios);
    steps.run("simulator: scenarios", &sweep.words(&format!("--seeds 1..1 --jobs {jobs}")).dir("sim"));
}

fn tests(steps: &mut Steps, js: bool, chromium: bool, postgres: bool) {
    let required = |there: bool| if there { "1" } else { "0" };
    // The whole-system tests start the `kith` and `kith-relay` programs, which a test build does not always make.
    steps.run("build", &Cmd::cargo("build --workspace --bin kith --bin kith-relay --quiet"));
    let cmd = if tools::has_nextest() {
        Cmd::cargo("nextest run --workspace --status-level slow --final-status-level fail")
    } else {
        Cmd::cargo("test --workspace --lib --bins --tests --examples --quiet")
    };
    let cmd = cmd.env("KITH_TEST_JS", required(js)).env("KITH_TEST_CHROMIUM", required(chromium));
    steps.run("tests", &cmd.env("KITH_TEST_POSTGRES", required(postgres)));
}

/// Makes a browser ready; false if there is none.
fn chromium(steps: &mut Steps, install: Install) -> bool {
    let there = system::ensure(&[system::CHROMIUM], install);
    if let Err(error) = &there {
        steps.leave_out("status page in Chromium", &format!("{error:#}"));
    }
    there.is_ok()
}

/// Makes the programs of a PostgreSQL server ready; false if there are none. The tests start servers of their own from
/// them and end them; one of the system is not touched.
fn postgres(steps: &mut Steps, install: Install) -> bool {
    let there = system::ensure_postgres(install);
    if let Err(error) = &there {
        steps.leave_out("relays on PostgreSQL", &format!("{error:#}"));
    }
    there.is_ok()
}

/// Makes the js-libp2p peer ready; false if it cannot be run here.
fn js_peer(steps: &mut Steps, install: Install) -> bool {
    const NAME: &str = "js-libp2p peer";
    if let Err(error) = system::ensure(&[system::NODE, system::NPM], install) {
        steps.leave_out(NAME, &format!("{error:#}"));
        return false;
    }
    let installed = root().join("tests/js/node_modules/.package-lock.json");
    let lock = root().join("tests/js/package-lock.json");
    if newer(&installed, &lock) {
        return true;
    }
    let cmd = Cmd::new("npm").words("ci --no-audit --no-fund --loglevel=error").dir("tests/js");
    steps.run(NAME, &cmd);
    installed.exists()
}

fn newer(file: &std::path::Path, than: &std::path::Path) -> bool {
    let time = |path: &std::path::Path| path.metadata().and_then(|meta| meta.modified()).ok();
    matches!((time(file), time(than)), (Some(a), Some(b)) if a >= b)
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
