use proptest::prelude::*;

use super::*;
use crate::engine::memory::MemoryDisk;

/// Holds every write up until it is told to go on.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn Engine>,
    may: Mutex<bool>,
    changed: Condvar,
    fails: bool,
}

impl Slow {
    fn new(fails: bool) -> Arc<Self> {
        let inner = Arc::new(MemoryDisk::default().engine());
        Arc::new(Self { inner, may: Mutex::new(false), changed: Condvar::new(), fails })
    }

    fn go(&self) {
        *self.may.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Engine for Slow {
    fn kind(&self) -> EngineKind {
        self.inner.kind()
    }
    fn write(
        &self,
        batch: &Batch,
        preconditions: &[Precondition],
        durability: Durability,
    ) -> Result<(), EngineError> {
        let mut may = self.may.lock().unwrap();
        while !*may {
            may = self.changed.wait(may).unwrap();
        }
        if self.fails {
            return Err(EngineError::Gone);
        }
        self.inner.write(batch, preconditions, durability)
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.inner.get(key)
    }
    fn page(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, EngineError> {
        self.inner.page(prefix, from, direction, limit)
    }
    fn sync(&self) -> Result<(), EngineError> {
        self.inner.sync()
    }
    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.inner.stats()
    }
    fn check(&self) -> Result<(), EngineError> {
        self.inner.check()
    }
}

fn key(n: u32) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn batch(rows: impl IntoIterator<Item = (u32, Option<u8>)>) -> Batch {
    Batch { rows: rows.into_iter().map(|(n, value)| (key(n), value.map(|value| vec![value]))).collect() }
}

fn lazily(engine: &dyn Engine, rows: impl IntoIterator<Item = (u32, Option<u8>)>) {
    engine.write(&batch(rows), &[], Durability::Lazy).unwrap();
}

#[test]
fn rows_are_read_while_the_engine_has_not_taken_them() {
    let slow = Slow::new(false);
    let engine = Buffered::start(slow.clone(), Flow::LAZY).unwrap();
    lazily(&engine, (0..1_500).map(|n| (n, Some(1))));
    lazily(&engine, [(7, None), (8, Some(2))]);
    assert_eq!(slow.inner.get(&key(1)).unwrap(), None, "the engine is still busy");
    assert_eq!(engine.get(&key(1)).unwrap(), Some(vec![1]));
    assert_eq!(engine.get(&key(7)).unwrap(), None);
    let page = engine.page(&[], Some(&key(5)), Direction::Forward, 3).unwrap();
    assert_eq!(page, [(key(6), vec![1]), (key(8), vec![2]), (key(9), vec![1])]);
    slow.go();
    engine.sync().unwrap();
    assert_eq!(slow.inner.page(&[], None, Direction::Forward, 2_000).unwrap().len(), 1_499);
    assert_eq!(slow.inner.get(&key(8)).unwrap(), Some(vec![2]));
}

#[test]
fn an_engine_that_fails_is_told_of_and_the_rows_stay_readable() {
    let slow = Slow::new(true);
    let engine = Buffered::start(slow.clone(), Flow::LAZY).unwrap();
    lazily(&engine, (0..1_000).map(|n| (n, Some(1))));
    slow.go();
    assert_eq!(engine.sync(), Err(EngineError::Gone));
    assert_eq!(engine.write(&batch([(1, None)]), &[], Durability::Lazy), Err(EngineError::Gone));
    assert_eq!(engine.get(&key(1)).unwrap(), Some(vec![1]));
}

#[test]
fn a_condition_sees_rows_in_memory() {
    let engine = Buffered::start(Arc::new(MemoryDisk::default().engine()), Flow::LAZY).unwrap();
    lazily(&engine, [(1, Some(1))]);
    let refused = engine.write(&batch([(1, Some(2))]), &[Precondition::Absent(key(1))], Durability::Lazy);
    assert_eq!(refused, Err(EngineError::Precondition { key: key(1) }));
    let held = Precondition::Equals(key(1), vec![1]);
    engine.write(&batch([(1, Some(2))]), &[held], Durability::Durable).unwrap();
    assert_eq!(engine.shared.inner.get(&key(1)).unwrap(), Some(vec![2]));
}

#[test]
fn a_page_beside_a_busy_writer_is_of_one_moment() {
    let engine = Arc::new(Buffered::start(Arc::new(MemoryDisk::default().engine()), Flow::LAZY).unwrap());
    lazily(engine.as_ref(), (0..50).map(|n| (n, Some(0))));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (engine, stop) = (engine.clone(), stop.clone());
        move || {
            let mut value = 0_u8;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                value = value.wrapping_add(1);
                // fresh rows beside them make it take turns often
                lazily(
                    engine.as_ref(),
                    (0..50).map(|n| (n, Some(value))).chain((1_000..1_900).map(|n| (n, Some(0)))),
                );
                lazily(engine.as_ref(), (2_000..2_200).map(|n| (n, Some(0))));
            }
        }
    });
    for _ in 0..2_000 {
        let page = engine.page(&[0, 0, 0], None, Direction::Forward, 50).unwrap();
        let first = page[0].1.clone();
        assert!(page.iter().all(|(_, value)| *value == first), "rows of two commits in one page");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

/// A key's number and its new value, if it is not deleted.
type Written = (u32, Option<u8>);

fn steps() -> impl Strategy<Value = Vec<(Vec<Written>, u8)>> {
    let row = (0_u32..40, prop::option::weighted(0.7, any::<u8>()));
    prop::collection::vec((prop::collection::vec(row, 0..12), 0_u8..4), 1..30)
}

proptest! {
    #[test]
    fn it_reads_like_an_engine_without_memory(steps in steps(), from in 0_u32..40, limit in 0_usize..50) {
        let plain = MemoryDisk::default().engine();
        let inner: Arc<dyn Engine> = Arc::new(MemoryDisk::default().engine());
        let engine = Buffered::start(inner, Flow::LAZY).unwrap();
        for (rows, what) in steps {
            lazily(&plain, rows.clone());
            lazily(&engine, rows);
            match what {
                0 if engine.shared.tables().leaving.is_none() => engine.sync().unwrap(),
                // rows on their way that have not arrived
                1 if engine.shared.tables().leaving.is_none() => drop(engine.shared.tables_mut().turn()),
                2 => {
                    let leaving = engine.shared.tables().leaving.clone();
                    if let Some(rows) = leaving {
                        engine.shared.deliver(&rows).unwrap();
                    }
                }
                _ => {}
            }
            // settle() of a later sync would wait for a thread that knows nothing of them
            if what == 3 && engine.shared.tables().leaving.is_some() {
                let rows = engine.shared.tables().leaving.clone().unwrap();
                engine.shared.deliver(&rows).unwrap();
            }
            for direction in [Direction::Forward, Direction::Backward] {
                for start in [None, Some(key(from))] {
                    prop_assert_eq!(
                        engine.page(&[0], start.as_deref(), direction, limit).unwrap(),
                        plain.page(&[0], start.as_deref(), direction, limit).unwrap()
                    );
                }
            }
            prop_assert_eq!(engine.get(&key(from)).unwrap(), plain.get(&key(from)).unwrap());
        }
    }
}
