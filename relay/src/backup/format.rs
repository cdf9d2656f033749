//! The file.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use kith_protocol::mailbox::Totals;
use kith_protocol::secret::Secret32;
use kith_protocol::{DeviceId, Wall};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::BackupError;
use super::record::Record;

/// How a backup begins.
pub(super) const MAGIC: &[u8] = b"kith-relay backup 1\n";
/// Version of the parts.
pub(super) const VERSION: u16 = 1;
/// Longest part.
const PART: usize = 8 * 1024 * 1024;
/// Records are put together into a part up to about this.
pub(super) const ROWS: usize = 1024 * 1024;
const DIGEST: usize = 32;

/// What a backup begins with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// Of the parts.
    pub version: u16,
    /// When it was begun.
    pub made: Wall,
    /// Which relay made it.
    pub program: String,
    /// Whose it is.
    pub relay: DeviceId,
    /// The relay ran meanwhile.
    pub running: bool,
    /// It was drained.
    pub draining: bool,
    /// `relay.toml`.
    pub config: String,
    /// `relay.key`.
    pub key: Secret32,
}

/// What a backup ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The sums, as the store said.
    pub totals: Totals,
    /// The store's instant.
    pub last: Option<Wall>,
    /// Records in the file.
    pub records: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Part {
    Head(Box<Head>),
    Rows(Vec<Record>),
    End(End),
    /// It could not be finished.
    Failed(String),
}

/// Writes parts.
pub(super) struct Sink<'a> {
    to: &'a mut (dyn AsyncWrite + Send + Unpin),
    hasher: blake3::Hasher,
    pub(super) bytes: u64,
    pub(super) records: u64,
    rows: Vec<Record>,
    size: usize,
}

impl<'a> Sink<'a> {
    pub(super) async fn new(to: &'a mut (dyn AsyncWrite + Send + Unpin)) -> io::Result<Self> {
        let mut sink =
            Self { to, hasher: blake3::Hasher::new(), bytes: 0, records: 0, rows: Vec::new(), size: 0 };
        sink.write(MAGIC).await?;
        Ok(sink)
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes).await
    }

    pub(super) async fn part(&mut self, part: &Part) -> io::Result<()> {
        let bytes = zeroize::Zeroizing::new(postcard::to_stdvec(part).map_err(io::Error::other)?);
        let len = u32::try_from(bytes.len()).ok().filter(|len| *len as usize <= PART);
        let len = len.ok_or_else(|| io::Error::other("a part is too large"))?;
        self.write(&len.to_le_bytes()).await?;
        self.write(&bytes).await
    }

    /// Takes a record; written with others.
    pub(super) async fn record(&mut self, record: Record) -> io::Result<()> {
        self.size += record.len();
        self.records += 1;
        self.rows.push(record);
        if self.size >= ROWS { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.size = 0;
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() { Ok(()) } else { self.part(&Part::Rows(rows)).await }
    }

    /// Ends the file; its digest.
    pub(super) async fn finish(mut self, end: End) -> io::Result<(u64, [u8; DIGEST])> {
        self.flush().await?;
        self.part(&Part::End(end)).await?;
        let digest = *self.hasher.finalize().as_bytes();
        self.to.write_all(&digest).await?;
        self.to.flush().await?;
        Ok((self.bytes + digest.len() as u64, digest))
    }
}

/// Reads parts; after the last one the whole file is known to be as it was written.
pub(super) struct Parts<R> {
    from: R,
    hasher: blake3::Hasher,
    bytes: u64,
    ended: bool,
}

impl Parts<BufReader<File>> {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        Self::new(BufReader::with_capacity(ROWS, File::open(path)?))
    }
}

impl<R: Read> Parts<R> {
    pub(super) fn new(from: R) -> Result<Self, BackupError> {
        let mut parts = Self { from, hasher: blake3::Hasher::new(), bytes: 0, ended: false };
        let mut magic = [0; MAGIC.len()];
        parts.read(&mut magic)?;
        if magic != MAGIC {
            return Err(BackupError::Damaged("it does not begin like one".into()));
        }
        Ok(parts)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.hasher.update(bytes);
                self.bytes += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(BackupError::Damaged(format!("it ends after {} bytes", self.bytes)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next part; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Part>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.bytes;
        let mut len = [0; 4];
        self.read(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > PART {
            return Err(BackupError::Damaged(format!("a part of {len} bytes at byte {at}")));
        }
        let mut bytes = zeroize::Zeroizing::new(vec![0; len]);
        self.read(&mut bytes)?;
        let part = postcard::from_bytes(&bytes)
            .map_err(|error| BackupError::Damaged(format!("the part at byte {at}: {error}")))?;
        match part {
            Part::Failed(why) => Err(BackupError::Failed(why)),
            Part::End(_) => {
                self.end()?;
                Ok(Some(part))
            }
            other => Ok(Some(other)),
        }
    }

    fn end(&mut self) -> Result<(), BackupError> {
        self.ended = true;
        let digest = *self.hasher.finalize().as_bytes();
        let mut stored = [0; DIGEST];
        self.read(&mut stored)?;
        if stored != digest {
            return Err(BackupError::Damaged("its digest is another one".into()));
        }
        match self.from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(BackupError::Damaged("something stands behind its end".into())),
        }
    }
}

/// A file that was read from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Its beginning.
    pub head: Head,
    /// Its end.
    pub end: End,
    /// Its length.
    pub bytes: u64,
}

/// Reads a whole file and checks it.
///
/// # Errors
/// [`BackupError::Damaged`] naming the first byte that is wrong.
pub fn verify(path: &Path) -> Result<Verified, BackupError> {
    let mut parts = Parts::open(path)?;
    let (mut head, mut end, mut records) = (None, None, 0);
    while let Some(part) = parts.next()? {
        match part {
            Part::Head(part) if head.is_none() && part.version > VERSION => {
                return Err(BackupError::Newer(part.version));
            }
            Part::Head(part) if head.is_none() => head = Some(*part),
            Part::Rows(rows) if head.is_some() => records += rows.len() as u64,
            Part::End(part) if head.is_some() => end = Some(part),
            _ => return Err(BackupError::Damaged("its parts are in a wrong order".into())),
        }
    }
    let (Some(head), Some(end)) = (head, end) else {
        return Err(BackupError::Damaged("its beginning or its end is missing".into()));
    };
    if end.records != records {
        return Err(BackupError::Damaged(format!("{records} rows of {}", end.records)));
    }
    Ok(Verified { head, end, bytes: parts.bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn small() -> Vec<u8> {
        let mut file = io::Cursor::new(Vec::new());
        let mut sink = Sink::new(&mut file).await.unwrap();
        let key = Secret32::new([7; 32]);
        let head = Head {
            version: VERSION,
            made: Wall(1),
            program: "0".into(),
            relay: DeviceId([1; 32]),
            running: false,
            draining: false,
            config: "mode = \"open\"".into(),
            key,
        };
        sink.part(&Part::Head(Box::new(head))).await.unwrap();
        let end = End { totals: Totals::default(), last: None, records: 0 };
        sink.finish(end).await.unwrap();
        file.into_inner()
    }

    fn read(bytes: &[u8]) -> Result<usize, BackupError> {
        let mut parts = Parts::new(bytes)?;
        let mut count = 0;
        while parts.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[tokio::test]
    async fn a_flipped_bit_a_missing_byte_and_one_too_many_are_noticed_anywhere() {
        let whole = small().await;
        assert_eq!(read(&whole).unwrap(), 2);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(read(&bytes).is_err(), "bit at {at}");
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
        }
        let longer = [whole, vec![0]].concat();
        assert!(read(&longer).unwrap_err().to_string().contains("behind its end"));
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let bytes = [MAGIC, &u32::MAX.to_le_bytes()].concat();
        assert!(read(&bytes).unwrap_err().to_string().contains("4294967295 bytes"));
    }
}
