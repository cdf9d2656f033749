//! Small files beside the store, sealed with its master key as rows are.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::codec::Codec;
use crate::keys::MasterKey;
use crate::private;

/// Longest file of this kind that is read.
const MAX: u64 = 4 * 1024 * 1024;

/// A file that only the holder of the master key can read, and nobody can change unnoticed.
pub struct SealedFile {
    codec: Codec,
    path: PathBuf,
    /// What the file is for: the content of one cannot be put in another's place.
    purpose: String,
}

impl std::fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SealedFile {
    /// The file at `path`, which need not exist yet, for one purpose.
    #[must_use]
    pub fn new(key: &MasterKey, path: impl Into<PathBuf>, purpose: &str) -> Self {
        // no keyspace of the store begins with this letter
        Self { codec: Codec::new(key), path: path.into(), purpose: format!("file {purpose}") }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it; `None` if there is no such file.
    ///
    /// # Errors
    /// The system's reason; `InvalidData` if it is not what was written with this key for this purpose.
    pub fn read(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > MAX => Err(invalid("it is too large to be ours".to_owned())),
            Ok(_) => {
                let sealed = std::fs::read(&self.path)?;
                let plain = self.codec.open(self.purpose.as_bytes(), &sealed);
                plain.map(Some).map_err(|error| invalid(error.to_string()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces what is in it, whole or not at all.
    ///
    /// # Errors
    /// The system's reason; the file is then as it was.
    pub fn write(&self, content: &[u8]) -> io::Result<()> {
        let sealed = self
            .codec
            .seal(self.purpose.as_bytes(), content)
            .map_err(|error| io::Error::other(error.to_string()))?;
        private::write(&self.path, &sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_opens_with_its_key_for_its_purpose_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.sealed");
        let key = MasterKey::from_bytes([1; 32]);
        let file = SealedFile::new(&key, &path, "names");
        assert!(file.read().unwrap().is_none());
        file.write(b"Ben is 0123").unwrap();
        assert_eq!(file.read().unwrap().unwrap().as_slice(), b"Ben is 0123");
        let stored = std::fs::read(&path).unwrap();
        assert!(!stored.windows(3).any(|part| part == b"Ben"));
        for other in [
            SealedFile::new(&MasterKey::from_bytes([2; 32]), &path, "names"),
            SealedFile::new(&key, &path, "other"),
        ] {
            assert_eq!(other.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let mut changed = stored;
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert!(file.read().is_err());
    }
}
