//! `cargo xtask bench`: runs the bench programs in release and prints one table.
//!
//! A bench program is a `[[bench]]` target with `harness = false`. For each figure it prints one line to standard
//! output, fields separated by tabs:
//!
//! ```text
//! BENCH <name> <unit> <samples> <median> <p99> <bar>
//! ```
//!
//! with `-` for a p99 or a bar it has not. The bar is the highest median that is still good, or the lowest if it is
//! written with `>` before the number. All other lines pass through.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::shell::{Cmd, target_dir};
use crate::system::{self, Install};

pub(crate) fn bench(args: &[String]) -> Result<()> {
    system::ensure(&[system::CC], Install::Allowed)?;
    // PostgreSQL's figures beside the others'
    if let Err(error) = system::ensure_postgres(Install::Allowed) {
        println!("    without PostgreSQL: {error:#}");
    }
    let pattern = match args {
        [] => "*".to_owned(),
        [name] if !name.starts_with('-') => format!("*{name}*"),
        _ => bail!("usage: cargo xtask bench [NAME]"),
    };
    // Whole-system figures need the program itself, built the same way.
    Cmd::cargo("build --release --workspace --bin kith").run()?;
    let cmd = Cmd::cargo("bench --workspace --no-fail-fast").arg("--bench").arg(pattern);
    println!("==> {cmd}");
    let mut child =
        cmd.command().stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{cmd}`"))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut figures = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("a bench program did not print UTF-8")?;
        match Figure::parse(&line) {
            Some(figure) => {
                println!("    {}: {} {}", figure.name, figure.median, figure.unit);
                figures.push(figure);
            }
            None if line.trim().is_empty() => {}
            None => println!("    {line}"),
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if figures.is_empty() {
        bail!("no bench program printed a figure ({status}); repeat with `{cmd}`");
    }
    print!("\n{}", table(&figures));
    let file = target_dir()?.join("bench.json");
    std::fs::write(&file, json(&figures)).with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nAs JSON: {}", file.display());
    if !status.success() {
        bail!("a bench program failed; repeat with `{cmd}`");
    }
    let missed = figures.iter().filter(|figure| figure.within() == Some(false)).count();
    if missed > 0 {
        bail!("{missed} of {} figures miss their bar", figures.len());
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Figure {
    name: String,
    unit: String,
    samples: u64,
    median: f64,
    p99: Option<f64>,
    bar: Option<Bar>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        if fields.next() != Some("BENCH") {
            return None;
        }
        let name = fields.next()?.to_owned();
        let unit = fields.next()?.to_owned();
        let samples = fields.next()?.trim().parse().ok()?;
        let median = number(fields.next()?)?;
        let p99 = number(fields.next()?);
        let bar = fields.next().and_then(|bar| match bar.trim().strip_prefix('>') {
            Some(least) => number(least).map(Bar::AtLeast),
            None => number(bar).map(Bar::AtMost),
        });
        Some(Self { name, unit, samples, median, p99, bar })
    }

    fn within(&self) -> Option<bool> {
        self.bar.map(|bar| match bar {
            Bar::AtMost(most) => self.median <= most,
            Bar::AtLeast(least) => self.median >= least,
        })
    }
}

fn number(field: &str) -> Option<f64> {
    field.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0).max(6);
    let mut out = format!(
        "{:<width$}  {:>12}  {:>12}  {:<8}  {:>8}  {:>12}\n",
        "figure", "median", "p99", "unit", "samples", "bar"
    );
    for figure in figures {
        let p99 = figure.p99.map_or_else(|| "-".to_owned(), short);
        let bar = match figure.bar {
            None => "-".to_owned(),
            Some(Bar::AtMost(bar)) => format!("<= {}", short(bar)),
            Some(Bar::AtLeast(bar)) => format!(">= {}", short(bar)),
        };
        let verdict = match figure.within() {
            None => "",
            Some(true) => "  ok",
            Some(false) => "  MISSED",
        };
        out += &format!(
            "{:<width$}  {:>12}  {:>12}  {:<8}  {:>8}  {:>12}{verdict}\n",
            figure.name,
            short(figure.median),
            p99,
            figure.unit,
            figure.samples,
            bar
        );
    }
    out
}

fn short(number: f64) -> String {
    if number.abs() >= 100.0 || number == 0.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

fn json(figures: &[Figure]) -> String {
    let optional =
        |number: Option<f64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
    let rows: Vec<String> = figures
        .iter()
        .map(|figure| {
            let (most, least) = match figure.bar {
                None => (None, None),
                Some(Bar::AtMost(bar)) => (Some(bar), None),
                Some(Bar::AtLeast(bar)) => (None, Some(bar)),
            };
            format!(
                r#"  {{"name": "{}", "unit": "{}", "samples": {}, "median": {}, "p99": {}, "at_most": {}, "at_least": {}}}"#,
                escaped(&figure.name),
                escaped(&figure.unit),
                figure.samples,
                figure.median,
                optional(figure.p99),
                optional(most),
                optional(least)
            )
        })
        .collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c if c.is_control() => vec![' '],
            c => vec![c],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_with_and_without_its_bar() {
        let figure = Figure::parse("BENCH\tsession start\tus\t100\t812.5\t990\t1000").unwrap();
        assert_eq!(figure.bar, Some(Bar::AtMost(1000.0)));
        assert_eq!(figure.within(), Some(true));
        let figure = Figure::parse("BENCH\tmessages\t/s\t1\t900\t-\t>1000").unwrap();
        assert_eq!((figure.p99, figure.within()), (None, Some(false)));
        let figure = Figure::parse("BENCH\tmemory\tMB\t1\t40\t-\t-").unwrap();
        assert_eq!(figure.within(), None);
        assert_eq!(Figure::parse("running 0 tests"), None);
        assert_eq!(Figure::parse("BENCH\tbad\tus\t1\tNaN\t-\t-"), None);
    }

    #[test]
    fn names_cannot_break_the_json() {
        let figure = Figure::parse("BENCH\ta \"quoted\" name\tus\t1\t2\t3\t-").unwrap();
        assert!(json(&[figure]).contains(r#""name": "a \"quoted\" name""#));
    }
}
