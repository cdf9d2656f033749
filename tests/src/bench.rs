//! What bench programs share: taking times, and the line that `cargo xtask bench` reads.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// The median that is still good.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// Only to be looked at.
    None,
}

/// Prints a figure: `BENCH name unit samples median p99 bar`, separated by tabs.
///
/// # Panics
/// If there are no samples.
pub fn report(name: &str, unit: &str, samples: &[f64], bar: Bar) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = at(&sorted, 50).expect("at least one sample");
    let p99 = if sorted.len() >= 20 { at(&sorted, 99) } else { None };
    let p99 = p99.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let bar = match bar {
        Bar::AtMost(bar) => bar.to_string(),
        Bar::AtLeast(bar) => format!(">{bar}"),
        Bar::None => "-".to_owned(),
    };
    println!("BENCH\t{name}\t{unit}\t{}\t{median}\t{p99}\t{bar}", sorted.len());
}

fn at(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len().saturating_sub(1) * percent).div_ceil(100)).copied()
}

/// Microseconds of each of `n` runs, after a few that are not counted.
pub fn time(n: usize, mut run: impl FnMut()) -> Vec<f64> {
    for _ in 0..n / 10 {
        run();
    }
    (0..n).map(|_| micros(once(&mut run).1)).collect()
}

/// How long one run takes.
#[allow(clippy::disallowed_methods, reason = "a bench measures real time")]
pub fn once<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = run();
    (value, start.elapsed())
}

/// Microseconds.
#[must_use]
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle one; zero without samples.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    at(&sorted, 50).unwrap_or_default()
}

/// A file that tells how fast the disk under it is.
#[derive(Debug)]
pub struct Disk(File);

impl Disk {
    /// On the disk this folder lies on.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(tempfile::tempfile_in(folder).expect("a file for the disk's own speed"))
    }

    /// Microseconds the disk takes to make 4 KiB more durable.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn sync_micros(&mut self) -> f64 {
        let (written, took) = once(|| {
            self.0.write_all(&[0x5a; 4096])?;
            self.0.sync_data()
        });
        written.expect("the file can be written and synced");
        micros(took)
    }
}

/// Processor time a process has used.
///
/// # Panics
/// If the process has ended.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in brackets may hold blanks; user and system time are fields 14 and 15, in hundredths of a second.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
