//! How a relay's host treats what the relay writes. It outlives the relay's lives.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::draw::Draw;

/// See the module.
#[derive(Debug)]
pub(crate) struct Conduct {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    draw: Draw,
    /// Share of envelopes that are signed for and not kept.
    forgets: f64,
    /// The disk has no room.
    full: bool,
    /// Moments until the relay crashes; there is one before each write and one after it.
    fuse: Option<u32>,
    /// It has lost something it had signed for: it forgot, or its disk was lost.
    has_failed: bool,
    forgotten: u64,
}

impl Conduct {
    pub(crate) fn new(seed: u64, host: u32) -> Self {
        Self {
            inner: Mutex::new(Inner {
                draw: Draw::new(seed, "conduct", u64::from(host)),
                forgets: 0.0,
                full: false,
                fuse: None,
                has_failed: false,
                forgotten: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this share of envelopes is signed for and not kept.
    pub(crate) fn forget(&self, share: f64) {
        let mut inner = self.lock();
        inner.forgets = share;
        inner.has_failed |= share > 0.0;
    }

    /// Whether this envelope is forgotten.
    pub(super) fn forgets(&self) -> bool {
        let mut inner = self.lock();
        let share = inner.forgets;
        let forgets = inner.draw.chance(share);
        inner.forgotten += u64::from(forgets);
        forgets
    }

    /// The disk is full, or no more.
    pub(crate) fn fill(&self, full: bool) {
        self.lock().full = full;
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().full
    }

    /// Everything it had is gone.
    pub(crate) fn lose(&self) {
        self.lock().has_failed = true;
    }

    /// Whether its word holds for everything it ever signed.
    pub(crate) fn is_honest(&self) -> bool {
        !self.lock().has_failed
    }

    /// The relay crashes at the so-manieth moment from now.
    pub(crate) fn light(&self, moments: u32) {
        self.lock().fuse = Some(moments);
    }

    /// A moment passes; true if the relay crashes now.
    pub(super) fn burns(&self) -> bool {
        let mut inner = self.lock();
        let Some(left) = &mut inner.fuse else { return false };
        *left = left.saturating_sub(1);
        let over = *left == 0;
        if over {
            inner.fuse = None;
        }
        over
    }

    /// The relay went down: a fuse that still burns means the next life no harm.
    pub(crate) fn snuff(&self) {
        self.lock().fuse = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_forgot_once_is_not_honest_any_more() {
        let conduct = Conduct::new(1, 2);
        assert!(!conduct.forgets() && conduct.is_honest());
        conduct.forget(1.0);
        assert!(conduct.forgets());
        conduct.forget(0.0);
        assert!(!conduct.forgets() && !conduct.is_honest());
    }

    #[test]
    fn a_fuse_burns_down_once() {
        let conduct = Conduct::new(1, 2);
        conduct.light(2);
        assert_eq!([conduct.burns(), conduct.burns(), conduct.burns()], [false, true, false]);
    }
}
