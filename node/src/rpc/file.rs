//! `api.json`: how programs of the same person find the running node.

use std::io;

use kith_store::private;
use serde::{Deserialize, Serialize};

use crate::folder::{Folder, read_small};

/// What `api.json` says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFile {
    /// `ws://127.0.0.1:PORT`
    pub address: String,
    /// Proves that a program may read the data folder.
    pub token: String,
    /// The node's process.
    pub pid: u32,
}

impl std::fmt::Debug for ApiFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiFile")
            .field("address", &self.address)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl ApiFile {
    /// Reads the file; `None` if there is none, or if it cannot be understood (then nobody can be reached by it).
    ///
    /// # Errors
    /// The system's reason if the file cannot be read.
    pub fn read(folder: &Folder) -> io::Result<Option<Self>> {
        Ok(read_small(&folder.api())?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(crate) fn write(&self, folder: &Folder) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        private::write(&folder.api(), &bytes)
    }

    /// Removes the file if it is still this one.
    pub(crate) fn remove(&self, folder: &Folder) {
        match Self::read(folder) {
            Ok(Some(found)) if found == *self => {
                if let Err(error) = std::fs::remove_file(folder.api()) {
                    tracing::warn!(%error, "api.json cannot be removed; it points to a node that has stopped");
                }
            }
            _ => {}
        }
    }
}
