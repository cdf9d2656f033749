//! An engine's panic is an error; whether the runtime prints it is the program's choice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::sync::atomic::{AtomicUsize, Ordering};

use kith_store::EngineKind;
use kith_store::engine::{
    Batch, Direction, Durability, Engine, EngineError, EngineStats, Guarded, Pair, Precondition,
};

/// Panics at every turn.
#[derive(Debug)]
struct Brittle;

impl Engine for Brittle {
    fn kind(&self) -> EngineKind {
        EngineKind::Sled
    }
    fn write(&self, _: &Batch, _: &[Precondition], _: Durability) -> Result<(), EngineError> {
        panic!("write")
    }
    fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        panic!("get")
    }
    fn page(&self, _: &[u8], _: Option<&[u8]>, _: Direction, _: usize) -> Result<Vec<Pair>, EngineError> {
        panic!("page")
    }
    fn sync(&self) -> Result<(), EngineError> {
        panic!("sync")
    }
    fn stats(&self) -> Result<EngineStats, EngineError> {
        panic!("stats")
    }
    fn check(&self) -> Result<(), EngineError> {
        panic!("check")
    }
}

static HEARD: AtomicUsize = AtomicUsize::new(0);

fn heard() -> usize {
    HEARD.swap(0, Ordering::SeqCst)
}

/// One test: a hook is the whole process's.
#[test]
fn a_programs_hook_hears_of_engines_unless_it_asks_not_to() {
    std::panic::set_hook(Box::new(|_| {
        HEARD.fetch_add(1, Ordering::SeqCst);
    }));
    let engine = Guarded::new(Brittle);
    assert!(engine.get(b"a").unwrap_err().is_damage());
    assert_eq!(heard(), 1, "the library leaves the hook alone");

    kith_store::panics::keep_off_terminal();
    kith_store::panics::keep_off_terminal();
    assert!(engine.get(b"a").unwrap_err().is_damage());
    assert!(engine.page(b"a", None, Direction::Forward, 1).unwrap_err().is_damage());
    assert_eq!(heard(), 0);

    let other = std::thread::spawn(|| panic!("the program's own"));
    assert!(other.join().is_err());
    assert_eq!(heard(), 1, "others are told as ever");
    drop(engine);
    let _ = std::panic::take_hook();
}
