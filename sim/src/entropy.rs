//! Seeded entropy: one stream for each simulated host, so that a draw more in one host does not shift the others.
//!
//! Everything belongs to the thread a simulation runs on. On other threads, and before [`seed`], nothing is seeded and
//! callers use the system's random numbers. The streams are fast and well mixed; they are **not** fit for real keys.
//!
//! libp2p draws from `rand`'s generator of the thread, which keeps a state of its own. It is seeded anew from the host's
//! stream whenever a host's turn comes.

use std::cell::{Cell, RefCell};

/// The simulation itself, when no host's task is being polled.
pub(crate) const OUTSIDE: u32 = u32::MAX;

#[derive(Default)]
struct Streams {
    seed: Option<u64>,
    outside: u64,
    hosts: Vec<u64>,
    draws: u64,
}

thread_local! {
    static CURRENT: Cell<u32> = const { Cell::new(OUTSIDE) };
    static STREAMS: RefCell<Streams> =
        const { RefCell::new(Streams { seed: None, outside: 0, hosts: Vec::new(), draws: 0 }) };
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// `SplitMix64`'s output function.
#[must_use]
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Seeds this thread's streams, or (with `None`) gives it back the system's random numbers.
pub(crate) fn seed(seed: Option<u64>) {
    STREAMS.with_borrow_mut(|streams| {
        *streams = Streams {
            seed,
            outside: mix(seed.unwrap_or_default().wrapping_add(STEP)),
            hosts: Vec::new(),
            draws: 0,
        };
    });
    // the thread's generator is made now, not in the turn of whichever host draws first
    drop(rand::rng());
}

/// Whether this thread is seeded.
#[must_use]
pub(crate) fn is_seeded() -> bool {
    STREAMS
        .try_with(|streams| streams.try_borrow().is_ok_and(|streams| streams.seed.is_some()))
        .unwrap_or(false)
}

/// Draws made so far on this thread, in words of 8 bytes.
#[must_use]
pub(crate) fn draws() -> u64 {
    STREAMS.with_borrow(|streams| streams.draws)
}

/// The host whose task runs now, or [`OUTSIDE`].
#[must_use]
pub(crate) fn current() -> u32 {
    CURRENT.try_with(Cell::get).unwrap_or(OUTSIDE)
}

/// Until the guard is dropped, draws on this thread come from this host's stream.
#[must_use]
pub(crate) fn enter(host: u32) -> Entered {
    let before = CURRENT.replace(host);
    if is_seeded() {
        // its source is our `getrandom`, which cannot fail
        let _ = rand::rng().reseed();
    }
    Entered { before }
}

/// See [`enter`].
#[derive(Debug)]
pub(crate) struct Entered {
    before: u32,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// The next word of the current host's stream; `None` on a thread that is not seeded.
#[must_use]
pub(crate) fn next() -> Option<u64> {
    let host = current();
    STREAMS
        .try_with(|streams| {
            let mut streams = streams.try_borrow_mut().ok()?;
            let seed = streams.seed?;
            streams.draws += 1;
            let state = if host == OUTSIDE {
                &mut streams.outside
            } else {
                let index = host as usize;
                while streams.hosts.len() <= index {
                    let salt = streams.hosts.len() as u64;
                    streams.hosts.push(mix(seed ^ mix(salt.wrapping_add(STEP))));
                }
                streams.hosts.get_mut(index)?
            };
            *state = state.wrapping_add(STEP);
            Some(mix(*state))
        })
        .ok()
        .flatten()
}

/// Fills bytes from the current host's stream; `false` on a thread that is not seeded, whose bytes stay as they are.
#[must_use]
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    for chunk in bytes.chunks_mut(8) {
        let Some(word) = next() else { return false };
        let word = word.to_le_bytes();
        chunk.copy_from_slice(word.get(..chunk.len()).unwrap_or_default());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_draw_from_streams_of_their_own() {
        let run = |extra: bool| {
            seed(Some(7));
            if extra {
                let _first = enter(0);
                assert!(next().is_some());
            }
            let _second = enter(1);
            next()
        };
        assert_eq!(run(false), run(true));
        let first = run(false);
        seed(Some(8));
        let second = enter(1);
        assert_ne!(next(), first);
        drop(second);
        seed(None);
        assert_eq!(next(), None);
        assert!(!fill(&mut [0; 3]));
    }

    #[test]
    fn the_threads_generator_follows_the_host() {
        let run = |extra: bool| {
            seed(Some(7));
            let first = enter(0);
            let drawn: u64 = if extra { rand::random() } else { 0 };
            drop(first);
            let _second = enter(1);
            (rand::random::<u64>(), drawn).0
        };
        assert_eq!(run(false), run(true));
        seed(None);
    }
}
