//! A progress bar on a terminal, and a watchdog everywhere.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kith_sim::{Phase, Progress};

/// A run whose virtual time stands still for so long has hung.
const HANGS: Duration = Duration::from_secs(300);

/// Watches a run from another thread until it is dropped.
pub(crate) struct Watcher {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watcher {
    pub(crate) fn new(progress: Arc<Progress>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || watch(&progress, &ended));
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // it has nothing to tell
            let _ = thread.join();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "this thread is outside of the simulation")]
fn watch(progress: &Progress, over: &AtomicBool) {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(1);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {prefix} virtual, {elapsed} real");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    });
    let (mut beats, mut since) = (0, Instant::now());
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
        let (now, end) = progress.times();
        if let Some(bar) = &bar {
            bar.set_message(match progress.phase() {
                Phase::Meeting => "people meet   ",
                Phase::Working => "people write  ",
                Phase::Quiet => "what is left  ",
                Phase::Judging => "stores audited",
            });
            bar.set_length(end.max(1));
            bar.set_position(now);
            bar.set_prefix(format!("{:.0} s", now as f64 / 1e9));
        }
        if progress.beats() != beats {
            (beats, since) = (progress.beats(), Instant::now());
        } else if since.elapsed() > HANGS && progress.phase() != Phase::Judging {
            eprintln!(
                "virtual time has stood still at {:.3} s for {HANGS:?}: some task never rests",
                now as f64 / 1e9
            );
            std::process::exit(1);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}
