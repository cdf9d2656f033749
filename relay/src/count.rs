//! Counts what is stored, and compares.

use kith_protocol::mailbox::{Audit, Totals};
use kith_store::mailbox::{MailboxStore, MailboxStoreError};

/// Rows counted at once.
const ROWS: usize = 1_000;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counted {
    /// The sums.
    pub totals: Totals,
    /// What does not fit, one sentence each.
    pub faults: Vec<String>,
}

/// Counts a whole store. What changes meanwhile may look like a fault, but in a store of several processes: there it is
/// counted as it was at one moment.
///
/// # Errors
/// [`MailboxStoreError`] if it cannot be read.
pub async fn count(store: &dyn MailboxStore) -> Result<Counted, MailboxStoreError> {
    let snapshot = store.snapshot().await?;
    let mut audit = Audit::default();
    let mut faults = Vec::new();
    let mut after = Vec::new();
    loop {
        let page = match &snapshot {
            Some(snapshot) => snapshot.scan(after, ROWS).await?,
            None => store.scan(after, ROWS).await?,
        };
        for (key, row) in &page.rows {
            audit.row(key, row);
        }
        faults.extend(page.damaged);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let state = match &snapshot {
        Some(snapshot) => snapshot.state().await?,
        None => store.state().await?,
    };
    let (totals, found) = audit.finish(state.totals);
    faults.extend(found.into_iter().map(|fault| match fault.mailbox {
        Some(mailbox) => format!("mailbox {mailbox}: {}", fault.what),
        None => fault.what,
    }));
    Ok(Counted { totals, faults })
}
