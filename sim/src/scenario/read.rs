//! From text to a scenario that makes sense, with the line of whatever is wrong.

use std::fmt;
use std::path::Path;

use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::model::{FaultKind, Friends, FriendsKind, Lifetime, NodeKind, Scenario, Which};
use super::units::Time;
use crate::summary::is_metric;

/// Largest scenario file.
const FILE: u64 = 1 << 20;
/// Relays a person can use, as in the product.
const OWN_RELAYS: u32 = kith_protocol::limits::OWN_RELAYS as u32;

/// A scenario that cannot run.
#[derive(Debug, Clone, Error)]
pub struct ScenarioError {
    file: String,
    line: Option<usize>,
    excerpt: String,
    what: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}\n    {}", self.file, self.what, self.excerpt.trim()),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// Something wrong at a place like `fault.2.nodes`.
struct Wrong {
    place: String,
    what: String,
}

impl Scenario {
    /// Reads a scenario from a file.
    ///
    /// # Errors
    /// [`ScenarioError`] names the line and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        let fail =
            |what: String| ScenarioError { file: file.clone(), line: None, excerpt: String::new(), what };
        let size = path.metadata().map_err(|error| fail(format!("cannot be read: {error}")))?.len();
        if size > FILE {
            return Err(fail(format!("{size} bytes are no scenario; at most {FILE} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&text, &file, &name)
    }

    /// Reads a scenario from text; `file` stands in errors, `name` is its name if it has none.
    ///
    /// # Errors
    /// [`ScenarioError`] names the line and what is wrong with it.
    pub fn parse(text: &str, file: &str, name: &str) -> Result<Self, ScenarioError> {
        let at = |offset: Option<usize>, what: String| {
            let line = offset.map(|offset| text.get(..offset).unwrap_or(text).matches('\n').count() + 1);
            let excerpt = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default().to_owned();
            ScenarioError { file: file.to_owned(), line, excerpt, what }
        };
        let mut scenario: Self = toml::from_str(text)
            .map_err(|error| at(error.span().map(|span| span.start), error.message().to_owned()))?;
        if scenario.scenario.name.is_empty() {
            name.clone_into(&mut scenario.scenario.name);
        }
        match scenario.check().into_iter().next() {
            None => Ok(scenario),
            Some(Wrong { place, what }) => {
                let offset = locate(text, &place);
                Err(at(offset, format!("{}: {what}", shown(&place))))
            }
        }
    }

    /// Checks a scenario that was built.
    ///
    /// # Errors
    /// The first thing that is wrong, as `place: what`.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        match self.check().into_iter().next() {
            None => Ok(()),
            Some(Wrong { place, what }) => Err(ScenarioError {
                file: self.scenario.name.clone(),
                line: None,
                excerpt: String::new(),
                what: format!("{}: {what}", shown(&place)),
            }),
        }
    }

    fn check(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut say = |place: &str, what: String| wrong.push(Wrong { place: place.to_owned(), what });
        let nodes = &self.nodes;
        let (count, special) = (nodes.count, nodes.bootstrap.saturating_add(nodes.liars));
        if count == 0 || count > 10_000 {
            say("nodes.count", format!("{count} nodes; 1 to 10000 can be simulated"));
        } else if special > count {
            let what = format!(
                "{} bootstrap nodes and {} liars are more than {count}",
                nodes.bootstrap, nodes.liars
            );
            say("nodes.count", what);
        }
        if nodes.bootstrap == 0 {
            say(
                "nodes.bootstrap",
                "without a bootstrap node nobody finds anybody; give at least 1".to_owned(),
            );
        }
        if nodes.kind == NodeKind::Bare && nodes.liars > 0 {
            say("nodes.liars", "bare nodes have no directory that liars could answer for".to_owned());
        }
        if nodes.turns.is_some_and(|turn| turn < Time::seconds(60)) {
            say("nodes.turns", "turns are too short for anything; give at least 60s".to_owned());
        }
        self.check_relays(&mut say);
        self.check_friends(&self.friends, &mut say);
        if self.scenario.duration.nanos() == 0 {
            say("scenario.duration", "a run of no time shows nothing".to_owned());
        }
        let rows = self.link.latency.len();
        if rows == 0 {
            say("link.latency", "give at least one row of one latency, like [[\"50ms\"]]".to_owned());
        }
        for row in &self.link.latency {
            if row.len() != rows {
                say(
                    "link.latency",
                    format!("{rows} rows, so each row needs {rows} latencies; one has {}", row.len()),
                );
            }
        }
        if self.link.mtu.0 < 128 {
            say("link.mtu", format!("packets of {} bytes are too small; at least 128", self.link.mtu));
        }
        let nat = &self.nat;
        let shares = nat.open.0 + nat.full_cone.0 + nat.restricted.0 + nat.symmetric.0;
        if shares > 1.0 + 1e-9 {
            say("nat", format!("the shares add up to {:.0} %, more than all nodes", shares * 100.0));
        }
        if let Some(churn) = &self.churn {
            for (place, lifetime) in [("churn.session", &churn.session), ("churn.downtime", &churn.downtime)]
            {
                match lifetime {
                    Lifetime::Exponential(mean) if mean.nanos() == 0 => say(place, "a mean of 0".to_owned()),
                    Lifetime::Weibull { shape, scale }
                        if !(*shape > 0.05 && *shape < 100.0) || scale.nanos() == 0 =>
                    {
                        say(place, format!("shape {shape} and scale {scale}; both must be above 0"));
                    }
                    _ => {}
                }
            }
        }
        let work = &self.workload;
        if !(0.0..=100_000.0).contains(&work.rate) {
            say("workload.rate", format!("{} messages a second; 0 to 100000 are possible", work.rate));
        }
        if work.min_size > work.max_size {
            say("workload.min_size", format!("{} is above max_size, {}", work.min_size, work.max_size));
        }
        let longest = kith_protocol::limits::TEXT as u64;
        if work.max_size.0 > longest {
            say("workload.max_size", format!("a message holds at most {longest} bytes"));
        }
        for (n, fault) in self.fault.iter().enumerate() {
            self.check_fault(n, fault, &mut say);
        }
        for (n, expect) in self.expect.iter().enumerate() {
            if !is_metric(&expect.metric) {
                let what = format!(
                    "no figure is called {:?}; `kith-sim list --metrics` names them all",
                    expect.metric
                );
                say(&format!("expect.{n}.metric"), what);
            }
        }
        wrong
    }

    fn check_relays(&self, say: &mut impl FnMut(&str, String)) {
        let relays = &self.relays;
        if relays.count > 100 {
            say("relays.count", format!("{} relays; up to 100 can be simulated", relays.count));
        }
        if relays.count > 0 && self.nodes.kind == NodeKind::Bare {
            say("relays.count", "bare nodes have no use for relays".to_owned());
        }
        if relays.count > 0 && (relays.each == 0 || relays.each > relays.count.min(OWN_RELAYS)) {
            let most = relays.count.min(OWN_RELAYS);
            say("relays.each", format!("each person uses {} relays; 1 to {most} are possible", relays.each));
        }
        if relays.flooders > 100 {
            say("relays.flooders", format!("{} flooders; up to 100 can be simulated", relays.flooders));
        }
    }

    fn check_friends(&self, friends: &Friends, say: &mut impl FnMut(&str, String)) {
        let nodes = &self.nodes;
        let mut people = nodes.count.saturating_sub(nodes.liars);
        if !friends.bootstrap_too {
            people = people.saturating_sub(nodes.bootstrap);
        }
        let degree = friends.degree;
        if nodes.kind == NodeKind::Kith
            && matches!(friends.kind, FriendsKind::Ring | FriendsKind::Random)
            && (degree == 0 || (degree >= people && people > 1 && degree != 3))
        {
            say(
                "friends.degree",
                format!(
                    "{degree} friends each among {people} people; 1 to {} are possible",
                    people.saturating_sub(1)
                ),
            );
        }
    }

    fn check_fault(&self, n: usize, fault: &super::model::Fault, say: &mut impl FnMut(&str, String)) {
        let mut say = |field: &str, what: String| say(&format!("fault.{n}.{field}"), what);
        let kind = fault.kind;
        if fault.at >= self.scenario.duration {
            say("at", format!("{} is after the end of the workload, {}", fault.at, self.scenario.duration));
        }
        self.check_victims(fault, &mut say);
        let by = matches!(kind, FaultKind::Clock | FaultKind::Delay | FaultKind::SlowDisk);
        if by != fault.by.is_some() {
            let what = if by { "it needs `by`, a time" } else { "`by` means nothing for this kind" };
            say(if by { "kind" } else { "by" }, what.to_owned());
        }
        let share = matches!(kind, FaultKind::Loss | FaultKind::BadLine | FaultKind::Forget);
        if share != fault.share.is_some() {
            let what = if share { "it needs a `share`" } else { "`share` means nothing for this kind" };
            say(if share { "kind" } else { "share" }, what.to_owned());
        }
        if kind != FaultKind::Partition && (fault.groups.is_some() || fault.one_way) {
            say(if fault.one_way { "one_way" } else { "groups" }, "only a partition has groups".to_owned());
        }
        if fault.groups.is_some_and(|groups| !(2..=1_000).contains(&groups)) {
            say("groups", "a partition needs at least 2 groups".to_owned());
        }
        if kind != FaultKind::Crash && fault.between_outputs.is_some() {
            say("between_outputs", "only a crash comes between outputs".to_owned());
        }
        let down = matches!(kind, FaultKind::Crash | FaultKind::PowerCut | FaultKind::Offline);
        if fault.for_good && (!down || fault.lasts.is_some() || fault.between_outputs.is_some()) {
            say("for_good", "only crashes, power cuts and absences without an end last for good".to_owned());
        }
        if kind == FaultKind::Flood && self.relays.flooders == 0 {
            say("kind", "nobody floods; `relays.flooders` says how many do".to_owned());
        }
        if fault.back && kind != FaultKind::Clock {
            say("back", "only clocks go back".to_owned());
        }
        if fault.every.is_some_and(|every| every.nanos() < crate::trace::MILLI) {
            say("every", "at least 1ms".to_owned());
        }
        if fault.times.is_some() && fault.every.is_none() {
            say("times", "how often it happens needs `every`, the time between".to_owned());
        }
    }
}

/// Whom a fault hits, and whom it may hit.
#[derive(Clone, Copy, PartialEq)]
enum Hits {
    /// The whole network.
    All,
    /// Nodes, or relays.
    Either,
    /// Relays.
    Relays,
}

impl Scenario {
    fn check_victims(&self, fault: &super::model::Fault, say: &mut impl FnMut(&str, String)) {
        let hits = match fault.kind {
            FaultKind::Partition | FaultKind::Loss | FaultKind::Delay | FaultKind::Flood => Hits::All,
            FaultKind::Forget | FaultKind::Full | FaultKind::LoseDisk => Hits::Relays,
            _ => Hits::Either,
        };
        match (hits, &fault.nodes, &fault.relays) {
            (Hits::All, Some(_), _) => say("nodes", "this kind concerns the whole network".to_owned()),
            (Hits::All, _, Some(_)) => say("relays", "this kind concerns the whole network".to_owned()),
            (Hits::Relays, Some(_), _) => say("nodes", "this kind hits `relays`".to_owned()),
            (Hits::Relays, None, None) => {
                say("kind", "it needs `relays`, a number of them or a list".to_owned())
            }
            (Hits::Either, None, None) => {
                say("kind", "it needs `nodes` or `relays`, a number of them or a list".to_owned());
            }
            (Hits::Either, Some(_), Some(_)) => {
                say("relays", "either nodes or relays; make it two faults".to_owned());
            }
            _ => {}
        }
        let able = self.nodes.count.saturating_sub(self.nodes.bootstrap + self.nodes.liars);
        let mut fits = |place: &str, which: &Option<Which>, all: u32, able: u32, some: &str| match which {
            Some(Which::These(list)) => {
                if let Some(one) = list.iter().find(|one| **one >= all) {
                    let kind = place.trim_end_matches('s');
                    say(place, format!("there is no {kind} {one}; {all} {place} are numbered from 0"));
                }
            }
            Some(Which::Some(n)) if *n > able => say(place, format!("{n} {place}, but only {able} {some}")),
            _ => {}
        };
        fits("nodes", &fault.nodes, self.nodes.count, able, "are neither bootstrap nodes nor liars");
        fits("relays", &fault.relays, self.relays.count, self.relays.count, "are there");
    }
}

/// A place as people write it: `fault[2].nodes`.
fn shown(place: &str) -> String {
    place.split('.').fold(String::new(), |text, part| match part.parse::<usize>() {
        Ok(n) => format!("{text}[{n}]"),
        Err(_) if text.is_empty() => part.to_owned(),
        Err(_) => format!("{text}.{part}"),
    })
}

/// Where in the text a place stands, or the nearest thing around it.
fn locate(text: &str, place: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut offset = None;
    let mut table = Some(document.get_ref());
    let mut value: Option<&DeValue<'_>> = None;
    for part in place.split('.') {
        if let Ok(n) = part.parse::<usize>() {
            let item = value?.as_array()?.get(n)?;
            offset = Some(item.span().start);
            value = Some(item.get_ref());
        } else {
            let Some((key, item)) =
                table.and_then(|table| table.iter().find(|(key, _)| key.get_ref().as_ref() == part))
            else {
                return offset;
            };
            offset = Some(key.span().start);
            value = Some(item.get_ref());
        }
        table = value.and_then(DeValue::as_table);
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Scenario::parse(text, "test.toml", "test").unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let scenario = Scenario::parse("", "test.toml", "test").unwrap();
        assert_eq!(scenario.scenario.name, "test");
        assert_eq!(scenario.nodes.count, 2);
    }

    #[test]
    fn the_line_of_a_mistake_is_named() {
        let text = "[nodes]\ncount = 5\n\n[link]\nlos = \"3%\"\n";
        let error = error(text);
        assert!(error.starts_with("test.toml:5: unknown field `los`"), "{error}");
        assert!(error.contains("`loss`"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_fits() {
        let error = error("[link]\nloss = 1.5\n");
        assert!(error.starts_with("test.toml:2:") && error.contains("0 to 1"), "{error}");
        let error = self::error("[scenario]\nduration = \"5 parsecs\"\n");
        assert!(error.starts_with("test.toml:2:") && error.contains("250ms"), "{error}");
    }

    #[test]
    fn what_does_not_fit_together_is_named_where_it_stands() {
        let text = "[nodes]\ncount = 4\n[[fault]]\nkind = \"loss\"\nat = \"1s\"\nshare = 0.1\n[[fault]]\nkind = \"crash\"\nat = \"2s\"\nnodes = [9]\n";
        let error = error(text);
        assert!(error.starts_with("test.toml:10: fault[1].nodes: there is no node 9"), "{error}");
        let error = self::error("[[expect]]\nmetric = \"delivery_rato\"\nop = \">=\"\nvalue = 1\n");
        assert!(error.starts_with("test.toml:2: expect[0].metric"), "{error}");
        let error = self::error("[[fault]]\nkind = \"clock\"\nat = \"1s\"\nnodes = 1\n");
        assert!(error.contains("`by`"), "{error}");
    }

    #[test]
    fn a_scenario_written_out_is_read_back() {
        for (name, text) in crate::scenario::LIBRARY {
            let scenario = Scenario::parse(text, name, name).unwrap();
            let again = Scenario::parse(&scenario.to_toml(), name, name).unwrap();
            assert_eq!(scenario, again, "{name}");
        }
    }
}
