//! Putting the log on disk while the engine takes the same commits: the disk's time and the processor's are spent at once.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A thread that syncs files, one at a time.
#[derive(Debug)]
pub(super) struct Syncer {
    files: SyncSender<Arc<File>>,
    results: Receiver<io::Result<()>>,
    under_way: bool,
}

impl Syncer {
    /// Starts the thread; it ends with its owner.
    pub(super) fn start() -> io::Result<Self> {
        let (files, todo) = sync_channel::<Arc<File>>(1);
        let (done, results) = sync_channel(1);
        std::thread::Builder::new().name("kith-log".into()).spawn(move || {
            while let Ok(file) = todo.recv() {
                let result = file.sync_data();
                // closed by the time anybody hears of it
                drop(file);
                if done.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { files, results, under_way: false })
    }

    /// Has a file put on disk; [`Syncer::finish`] says when it is there.
    pub(super) fn begin(&mut self, file: &Arc<File>) -> io::Result<()> {
        self.finish()?;
        self.files.send(Arc::clone(file)).map_err(|_| gone())?;
        self.under_way = true;
        Ok(())
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Waits for what was begun.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.under_way) {
            return Ok(());
        }
        self.results.recv().map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that syncs the log is gone")
}
