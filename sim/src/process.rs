//! A thread on which time is virtual and chance is seeded, and proof that it is so.

use std::future::Future;
use std::io;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::overrides::{self, WALL_START};

/// The patched timers are in use: the released crate has no such constant, and nothing compiles.
const _: () = assert!(futures_timer::SIMULATED);

/// Why a simulation cannot run in this process.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// No thread or no runtime.
    #[error("the system gives no thread to simulate on: {0}")]
    System(#[from] io::Error),
    /// Time or chance is not ours.
    #[error("self-test failed: {0}; no run of this program means anything")]
    SelfTest(&'static str),
    /// The simulation panicked.
    #[error("the simulation ended by a panic, see above")]
    Panicked,
}

/// Stack of the simulation's thread.
const STACK: usize = 64 << 20;
/// A virtual hour must take less real time than this.
const HOUR_TAKES: u64 = 2_000_000_000;

/// Runs a simulation on a thread of its own, with virtual time, and entropy from a seed.
///
/// libp2p and tokio count things per process, so only the first simulation of a process is the same in each process.
///
/// Without `overrides` the thread keeps the system's clock and random numbers: that is how tests show that the overrides
/// are what makes runs repeatable.
///
/// # Errors
/// [`ProcessError`].
pub fn simulate<T, F>(seed: u64, overrides: bool, main: impl FnOnce() -> F + Send) -> Result<T, ProcessError>
where
    T: Send,
    F: Future<Output = T>,
{
    thread::scope(|scope| {
        let run = move || -> Result<T, ProcessError> {
            if overrides {
                crate::entropy::seed(Some(seed));
                overrides::still();
            }
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
            let result = runtime.block_on(async {
                if overrides {
                    overrides::run();
                    self_test().await?;
                }
                Ok(main().await)
            });
            if overrides {
                overrides::still();
            }
            drop(runtime);
            result
        };
        let thread = thread::Builder::new()
            .name("simulation".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, run)?;
        thread.join().unwrap_or(Err(ProcessError::Panicked))
    })
}

/// Timers fire, clocks are virtual, entropy is seeded.
#[allow(clippy::disallowed_methods, reason = "that these clocks are virtual is what is tested")]
async fn self_test() -> Result<(), ProcessError> {
    let fail = |what| Err(ProcessError::SelfTest(what));
    let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if wall().as_secs() != WALL_START {
        return fail("the system's wall clock shows through: `clock_gettime` is not overridden");
    }
    let (real, start) = (overrides::real_nanos(), std::time::Instant::now());
    futures_timer::Delay::new(Duration::from_secs(3_600)).await;
    if overrides::real_nanos().saturating_sub(real) > HOUR_TAKES {
        return fail("a virtual hour takes real time: libp2p's timers are not on the virtual clock");
    }
    let hour = Duration::from_secs(3_600)..Duration::from_secs(3_601);
    if !hour.contains(&start.elapsed()) || wall().as_secs() != WALL_START + 3_600 {
        return fail("the clocks do not go with virtual time");
    }
    let draws = crate::entropy::draws();
    let mut key = [0; 32];
    if getrandom::fill(&mut key).is_err() || crate::entropy::draws() != draws + 4 {
        return fail("random numbers come from the system: `getrandom` is not overridden");
    }
    drop(crate::entropy::enter(crate::entropy::OUTSIDE));
    if crate::entropy::draws() != draws + 8 {
        return fail("libp2p's random numbers are not seeded: `rand` draws its seed elsewhere");
    }
    Ok(())
}

/// Most memory this process has held, in MiB.
#[must_use]
pub fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse::<f64>().ok());
    (kib.unwrap_or_default() / 1024.0 * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_day_passes_at_once_and_chance_repeats() {
        let run = |seed| {
            simulate(seed, true, || async {
                tokio::time::sleep(Duration::from_secs(86_400)).await;
                (rand::random::<u64>(), std::collections::hash_map::RandomState::new())
            })
            .map(|(drawn, state)| (drawn, std::hash::BuildHasher::hash_one(&state, 1_u8)))
            .unwrap()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn without_overrides_chance_is_the_systems() {
        let run = || simulate(1, false, || async { rand::random::<u64>() }).unwrap();
        assert_ne!(run(), run());
    }

    #[test]
    fn other_threads_keep_the_systems_clock() {
        simulate(1, true, || async {}).unwrap();
        #[allow(clippy::disallowed_methods, reason = "that this clock is the system's is what is tested")]
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(wall.as_secs() > 1_700_000_000);
        assert!(real_time_passes());
    }

    fn real_time_passes() -> bool {
        let before = overrides::real_nanos();
        thread::sleep(Duration::from_millis(2));
        overrides::real_nanos() > before + 1_000_000
    }
}
