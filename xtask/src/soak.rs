//! `cargo xtask soak`: the tests that are too long for CI, and a minute of fuzzing for each decoder.

use anyhow::{Context, Result, bail};

use crate::shell::{Cmd, root};
use crate::steps::Steps;
use crate::system::{self, Install};
use crate::tools;

pub(crate) fn soak(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("`cargo xtask soak` takes no arguments");
    }
    system::ensure(&[system::CC, system::CXX], Install::Allowed)?;
    let mut steps = Steps::new();
    // KITH_SOAK makes the store's and the system's tests repeat their kills, power cuts and bit flips in full.
    steps.run("build", &Cmd::cargo("build --release --workspace --bin kith --quiet"));
    let long = if tools::has_nextest() {
        Cmd::cargo("nextest run --release --workspace --profile soak")
    } else {
        Cmd::cargo("test --release --workspace --lib --bins --tests")
    };
    steps.run("long tests", &long.env("KITH_SOAK", "1"));
    steps.run("simulations", &Cmd::cargo("run --quiet -- sweep --seeds 1..20 --jobs 2").dir("sim"));
    match fuzz_targets() {
        Ok(targets) => {
            steps.step("cargo-fuzz", "cargo install cargo-fuzz --locked", tools::ensure_fuzz);
            for target in targets {
                // The corpus is what this machine has found so far, the seeds are committed.
                let corpus = format!("fuzz/corpus/{target}");
                if let Err(error) = std::fs::create_dir_all(root().join(&corpus)) {
                    steps.step(&corpus, "mkdir", || Err(error.into()));
                    continue;
                }
                let cmd = Cmd::cargo("fuzz run --fuzz-dir fuzz -s none")
                    .arg(&target)
                    .words(&format!("{corpus} fuzz/seeds/{target} -- -max_total_time=60"));
                steps.run(&format!("fuzz {target}"), &cmd);
            }
        }
        Err(error) => steps.step("fuzz", "ls fuzz", || Err(error)),
    }
    steps.finish()
}

fn fuzz_targets() -> Result<Vec<String>> {
    let manifest = root().join("fuzz/Cargo.toml");
    let text =
        std::fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let targets = bins(&text);
    if targets.is_empty() {
        bail!("{} names no [[bin]]", manifest.display());
    }
    Ok(targets)
}

/// The names of a manifest's `[[bin]]` tables.
fn bins(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_bin = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_bin = line == "[[bin]]";
        } else if in_bin
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == "name"
        {
            names.push(value.trim().trim_matches('"').to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_targets_are_read_from_the_manifest() {
        let manifest = "[package]\nname = \"fuzz\"\n\n[[bin]]\nname = \"frame\"\npath = \"x.rs\"\n[[bin]]\npath = \"y.rs\"\nname= \"invite\"\n";
        assert_eq!(bins(manifest), ["frame", "invite"]);
    }
}
