//! What bench programs share: taking times, and the line that `cargo xtask bench` reads.

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

/// Median microseconds that this folder's disk takes to make 4 KiB durable.
///
/// # Panics
/// If the folder cannot be written.
#[must_use]
pub fn fsync_micros(folder: &Path) -> f64 {
    let mut file = tempfile::tempfile_in(folder).expect("a file for the disk's own speed");
    let mut times = time(100, || {
        file.write_all(&[0x5a; 4096]).expect("the file can be written");
        file.sync_data().expect("the file can be synced");
    });
    times.sort_by(f64::total_cmp);
    at(&times, 50).unwrap_or_default()
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
