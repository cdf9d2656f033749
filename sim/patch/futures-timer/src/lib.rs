//! `futures-timer` on tokio's clock. The released one keeps a thread of its own, whose time no simulation controls.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Tells this stand-in from the released crate: the simulator does not compile without it.
pub const SIMULATED: bool = true;

/// Ends after a while.
pub struct Delay(Pin<Box<Sleep>>);

impl Delay {
    /// Ends after this long.
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        Self(Box::pin(sleep(duration)))
    }

    /// Ends this long from now instead.
    pub fn reset(&mut self, duration: Duration) {
        // like the released one, far too long stands for never
        let now = Instant::now();
        let at = now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(86_400 * 365 * 30));
        self.0.as_mut().reset(at);
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay").finish_non_exhaustive()
    }
}
