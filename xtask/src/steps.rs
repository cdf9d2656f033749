//! A chore's steps: a heading each, their times, and a summary that says how to repeat what failed.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::shell::Cmd;

enum Outcome {
    Passed,
    Failed { why: String, again: String },
    LeftOut(String),
}

struct Step {
    name: String,
    time: Duration,
    outcome: Outcome,
}

/// Runs steps one after the other; a failed one does not stop the next.
pub(crate) struct Steps {
    done: Vec<Step>,
    started: Instant,
    colours: bool,
}

impl Steps {
    pub(crate) fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { done: Vec::new(), started: now(), colours }
    }

    /// Runs one command as a step.
    pub(crate) fn run(&mut self, name: &str, cmd: &Cmd) {
        self.step(name, &cmd.to_string(), || cmd.run());
    }

    /// Runs a step; `again` is what to type to repeat it.
    pub(crate) fn step(&mut self, name: &str, again: &str, work: impl FnOnce() -> Result<()>) {
        self.heading(name, again);
        let start = now();
        let outcome = match work() {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed { why: format!("{error:#}"), again: again.to_owned() },
        };
        let time = start.elapsed();
        match &outcome {
            Outcome::Failed { why, .. } => {
                println!("    {} after {}: {why}", self.red("failed"), shown(time))
            }
            Outcome::Passed | Outcome::LeftOut(_) => println!("    ok, {}", shown(time)),
        }
        self.done.push(Step { name: name.to_owned(), time, outcome });
    }

    /// Notes a step that cannot run here.
    pub(crate) fn leave_out(&mut self, name: &str, why: &str) {
        println!("\n{} {name}: left out, {why}", self.bold("==>"));
        let outcome = Outcome::LeftOut(why.to_owned());
        self.done.push(Step { name: name.to_owned(), time: Duration::ZERO, outcome });
    }

    /// Prints the summary; an error if any step failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n{}", self.bold("Summary"));
        for step in &self.done {
            let (mark, more) = match &step.outcome {
                Outcome::Passed => ("ok".to_owned(), String::new()),
                Outcome::Failed { .. } => (self.red("FAILED"), String::new()),
                Outcome::LeftOut(why) => ("left out".to_owned(), format!("  ({why})")),
            };
            println!("  {:<28} {:>9}  {mark}{more}", step.name, shown(step.time));
        }
        println!("  {:<28} {:>9}", "all", shown(self.started.elapsed()));
        let failed: Vec<_> = self
            .done
            .iter()
            .filter_map(|step| match &step.outcome {
                Outcome::Failed { again, .. } => Some((&step.name, again)),
                Outcome::Passed | Outcome::LeftOut(_) => None,
            })
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        println!("\nTo repeat what failed:");
        for (name, again) in &failed {
            println!("  {name}: {again}");
        }
        bail!("{} of {} steps failed", failed.len(), self.done.len());
    }

    fn heading(&self, name: &str, command: &str) {
        println!("\n{} {}  ({command})", self.bold("==>"), self.bold(name));
    }

    fn bold(&self, text: &str) -> String {
        self.style("1", text)
    }

    fn red(&self, text: &str) -> String {
        self.style("1;31", text)
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[allow(clippy::disallowed_methods, reason = "a chore on a developer's machine is never simulated")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_chore_and_later_steps_still_run() {
        let mut steps = Steps::new();
        let mut ran = false;
        steps.step("first", "false", || bail!("no"));
        steps.step("second", "true", || {
            ran = true;
            Ok(())
        });
        let error = steps.finish().unwrap_err();
        assert!(ran);
        assert_eq!(error.to_string(), "1 of 2 steps failed");
    }

    #[test]
    fn a_step_left_out_does_not_fail_the_chore() {
        let mut steps = Steps::new();
        steps.leave_out("licences", "cargo-deny is not installed");
        assert!(steps.finish().is_ok());
    }
}
