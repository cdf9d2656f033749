//! Finds the programs that these tests start, and makes sure they are not older than their sources.
//!
//! Cargo names a program's path only to tests of its own crate, so it is looked for where cargo puts it: at
//! `target/<profile>/kith`, two folders above the test program. `KITH_BIN` and `KITH_RELAY_BIN` name others, which are
//! used as they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The path of the `kith` program.
///
/// # Panics
/// If it cannot be found or built.
#[must_use]
pub fn kith_binary() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("KITH_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside_this_test("kith"),
    })
}

/// The path of the `kith-relay` program.
///
/// # Panics
/// If it cannot be found or built.
#[must_use]
pub fn relay_binary() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("KITH_RELAY_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside_this_test("kith-relay"),
    })
}

fn beside_this_test(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test program knows its own path");
    let profile_dir = test.ancestors().nth(2).expect("test programs lie at target/<profile>/deps/<test>");
    let program = profile_dir.join(name);
    if !is_fresh(&program) {
        build(profile_dir, name);
    }
    assert!(
        program.is_file(),
        "no {name} program at {}; run `cargo build --workspace --bin {name}`",
        program.display()
    );
    program
}

/// Whether the program is there and newer than all sources that cargo's dep-info file beside it names.
fn is_fresh(program: &Path) -> bool {
    let Ok(info) = std::fs::read_to_string(program.with_extension("d")) else { return false };
    let Some(built) = changed(program) else { return false };
    let Some((_, sources)) = info.split_once(": ") else { return false };
    // Blanks inside a path are written with a backslash.
    let sources = sources.trim_end().replace("\\ ", "\0");
    sources
        .split(' ')
        .all(|source| changed(Path::new(&source.replace('\0', " "))).is_some_and(|at| at <= built))
}

fn changed(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|meta| meta.modified()).ok()
}

fn build(profile_dir: &Path, name: &str) {
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = profile_dir.parent().expect("a profile's folder lies in the target folder");
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bin", name, "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "`cargo build --workspace --bin {name}` failed");
}
