//! The scenarios that come with the simulator.

use std::path::Path;

use super::model::Scenario;
use super::read::ScenarioError;

macro_rules! library {
    ($($name:literal),* $(,)?) => {
        /// Names and texts of the scenarios that come with the simulator.
        pub const LIBRARY: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

library!(
    "two-friends",
    "offline-week",
    "churn-100",
    "partition",
    "one-way-partition",
    "loss-30",
    "clock-skew",
    "flash-crowd",
    "lying-directory",
    "crash-storm",
    "slow-disks",
    "behind-routers",
    "power-cuts",
    "relay-first-message",
    "relay-offline-week",
    "relay-one-dies",
    "relay-lies",
    "relay-slow-and-full",
    "relay-clock-skew",
    "relay-flood",
    "relay-churn",
    "relay-author-gone",
    "relay-behind-routers",
    "bare-gossip",
);

/// A scenario by its name in the library, or from a file.
///
/// # Errors
/// [`ScenarioError`].
pub fn find(name: &str) -> Result<Scenario, ScenarioError> {
    match LIBRARY.iter().find(|(known, _)| *known == name) {
        Some((name, text)) => Scenario::parse(text, &format!("{name}.toml"), name),
        None => Scenario::read(Path::new(name)),
    }
}

/// The JSON schema of scenario files, for editors.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(Scenario);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_library_says_what_it_shows_and_what_must_hold() {
        for (name, _) in LIBRARY {
            let scenario = find(name).unwrap();
            assert_eq!(scenario.scenario.name, *name);
            assert!(scenario.scenario.about.len() > 10, "{name}");
            assert!(!scenario.expect.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_library() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(LIBRARY.iter().any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn the_committed_schema_is_the_one_of_this_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario.schema.json");
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(committed, schema(), "write it anew: `kith-sim list --schema > scenario.schema.json`");
    }
}
