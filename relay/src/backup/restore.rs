//! Making a relay from a backup.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use kith_protocol::Wall;
use kith_protocol::mailbox::{Batch, Row, RowKey, Totals, derived};
use kith_store::mailbox::{Found, MailboxStore, MailboxStoreError, Read};

use super::format::{Part, Parts, Verified};
use super::{BackupError, verify};
use crate::count::count;
use crate::folder::Folder;

/// Rows written at once, if the store likes that many,
const ROWS: usize = 2_000;
/// and bytes.
const BYTES: usize = 8 * 1024 * 1024;

/// A relay that was made.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What stood in the file.
    pub from: Verified,
    /// What was counted in the new store.
    pub totals: Totals,
    /// One-time keys that were left out.
    pub keys_left_out: u64,
}

/// Makes a relay from a backup, in an empty store and a folder without one, with this configuration. With `moved` the old relay never ran after
/// the backup, so nothing was promised that is not in it; else one-time keys are left out: none is given twice.
///
/// # Errors
/// [`BackupError`]. The folder holds no relay then; what lies in it can be removed.
pub async fn restore(
    file: &Path,
    folder: &Folder,
    store: &Arc<dyn MailboxStore>,
    config: &str,
    moved: bool,
) -> Result<Restored, BackupError> {
    let from = verify(file)?;
    if moved && from.head.running {
        return Err(BackupError::NotMoved);
    }
    if !is_empty(store.as_ref()).await? {
        return Err(BackupError::StoreNotEmpty);
    }
    let mut keys_left_out = 0;
    let mut writer = Writer { store: store.as_ref(), rows: HashMap::new(), bytes: 0, last: Wall(0) };
    writer.last = from.end.last.unwrap_or(from.head.made);
    let mut parts = Parts::open(file)?;
    while let Some(part) = parts.next()? {
        let Part::Rows(records) = part else { continue };
        for record in records {
            let row = record.into_row();
            let (key, mut row) =
                row.ok_or_else(|| BackupError::Damaged("a row of another kind than its key".into()))?;
            if !moved {
                if matches!((&key, &row), (RowKey::OneTimeKey(..), Some(_))) {
                    keys_left_out += 1;
                    continue;
                }
                if let Some(Row::Mailbox(row)) = &mut row {
                    row.first_key = row.next_key;
                }
            }
            writer.put(key, row).await?;
        }
    }
    writer.finish(from.end.totals).await?;
    let counted = count(store.as_ref()).await?;
    if !counted.faults.is_empty() {
        return Err(BackupError::Faults(counted.faults.join("; ")));
    }
    folder.create(&from.head.key, config)?;
    folder.set_draining(from.head.draining)?;
    folder.set_last_backup(from.head.made)?;
    Ok(Restored { from, totals: counted.totals, keys_left_out })
}

async fn is_empty(store: &dyn MailboxStore) -> Result<bool, MailboxStoreError> {
    let page = store.scan(Vec::new(), 1).await?;
    let tokens = store.read(vec![Read::Tokens { max: 1 }]).await?;
    let no_token = matches!(tokens.first(), Some(Found::Rows(rows)) if rows.is_empty());
    Ok(page.rows.is_empty() && page.damaged.is_empty() && no_token)
}

struct Writer<'a> {
    store: &'a dyn MailboxStore,
    rows: HashMap<RowKey, Option<Row>>,
    bytes: usize,
    last: Wall,
}

impl Writer<'_> {
    async fn put(&mut self, key: RowKey, row: Option<Row>) -> Result<(), BackupError> {
        if let Some(row) = &row {
            self.rows.extend(derived(&key, row));
            if let Row::Envelope(row) = row {
                self.bytes += row.body.len();
            }
        }
        self.rows.insert(key, row);
        if self.rows.len() >= ROWS.min(self.store.batch_rows()) || self.bytes >= BYTES {
            self.write(Totals::default()).await?;
        }
        Ok(())
    }

    async fn write(&mut self, totals: Totals) -> Result<(), BackupError> {
        self.bytes = 0;
        let mut changes: Vec<_> = std::mem::take(&mut self.rows).into_iter().collect();
        changes.sort_unstable_by_key(|(key, _)| *key);
        let batch = Batch { changes, expected: Vec::new(), totals };
        if self.store.write(vec![batch], self.last).await?.is_whole() {
            return Ok(());
        }
        Err(MailboxStoreError::Unavailable("somebody else writes to the new store".into()).into())
    }

    async fn finish(mut self, totals: Totals) -> Result<(), BackupError> {
        self.write(totals).await
    }
}
