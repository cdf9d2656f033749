//! The whole database as it was at one moment.

use std::sync::Arc;

use kith_store::mailbox::{Doing, Found, MailboxSnapshot, Read, ScanPage, StoredState};

use super::error::Failure;
use super::session::Session;
use super::{Shared, read, scan};

/// A transaction that sees nothing of what is committed after it began. It ends with its connection.
pub(super) struct Snapshot {
    shared: Arc<Shared>,
    session: Session,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Snapshot {
    pub(super) async fn take(shared: Arc<Shared>) -> Result<Self, Failure> {
        let session = shared.pool.connector().session().await?;
        // whoever reads may be slow; with the first statement the moment is fixed
        let begin = async {
            session
                .client
                .batch_execute(
                    "SET idle_in_transaction_session_timeout TO '10min'; \
                     START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT slot FROM sums LIMIT 1",
                )
                .await?;
            Ok(())
        };
        shared.pool.connector().statement(begin).await?;
        Ok(Self { shared, session })
    }
}

impl MailboxSnapshot for Snapshot {
    fn state(&self) -> Doing<'_, StoredState> {
        Box::pin(async { Ok(self.shared.pool.connector().statement(read::state(&self.session)).await?) })
    }

    fn read(&self, reads: Vec<Read>) -> Doing<'_, Vec<Found>> {
        Box::pin(async move {
            Ok(self.shared.pool.connector().statement(read::read(&self.session, &reads, true)).await?)
        })
    }

    fn scan(&self, after: Vec<u8>, max: usize) -> Doing<'_, ScanPage> {
        Box::pin(async move {
            Ok(self.shared.pool.connector().statement(scan::scan(&self.session, &after, max)).await?)
        })
    }
}
