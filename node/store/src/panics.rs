//! Panics of engines. Both disk engines panic on some damaged files; [`engine`](crate::engine) turns that into an error
//! that says what to do. What the runtime prints of such a panic would tell people nothing, and whether it is printed is
//! the program's to say: this library never touches the hook by itself.

use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::Once;

thread_local! {
    /// This thread is inside an engine.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as inside an engine, until it is dropped.
pub(crate) struct Inside {
    before: bool,
}

impl Inside {
    pub(crate) fn enter() -> Self {
        Self { before: INSIDE.replace(true) }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.before);
    }
}

/// For hooks: whether the panic of this thread is an engine's own and comes back as an error of the store.
#[must_use]
pub fn is_engines() -> bool {
    INSIDE.get() || std::thread::current().name().is_some_and(crate::engine::is_thread_of_engine)
}

/// For programs, at their start: keeps engines' panics off standard error, they go to the log at debug level. All others
/// go to the hook there was. A second call changes nothing.
pub fn keep_off_terminal() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
            if is_engines() {
                tracing::debug!(%panic, "an engine panicked; it comes back as damage");
            } else {
                others(panic);
            }
        }));
    });
}
