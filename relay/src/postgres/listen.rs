//! One connection that hears what other relays tell, and holds the lock of the one that does the upkeep.

use std::sync::atomic::Ordering;

use futures::future::{Either, select};
use kith_protocol::MailboxId;
use tokio::sync::mpsc;
use tokio_postgres::Client;
use tracing::{debug, info};

use super::Shared;
use super::error::Failure;
use super::pool::pause;
use super::schema::{self, LOCK_UPKEEP, LOCKS};

/// How often it is looked whether all is as it was, and who does the upkeep.
const LOOK: u64 = 3_000;
/// Mailboxes in one notification, which holds less than 8,000 bytes.
const IDS: usize = 200;
/// Notifications heard and not taken yet.
const HEARD: usize = 1_024;

/// Notifications about these mailboxes.
pub(super) fn payloads(tag: &str, mailboxes: &[MailboxId]) -> Vec<String> {
    let some = |mailboxes: &[MailboxId]| {
        let ids: Vec<String> = mailboxes.iter().map(|id| data_encoding::HEXLOWER.encode(&id.0)).collect();
        format!("{tag}:{}", ids.join(","))
    };
    mailboxes.chunks(IDS).map(some).collect()
}

/// The mailboxes in a notification of another process.
fn heard(tag: &str, payload: &str) -> Vec<MailboxId> {
    match payload.split_once(':') {
        Some((from, ids)) if from != tag => ids
            .split(',')
            .filter_map(|id| data_encoding::HEXLOWER.decode(id.as_bytes()).ok())
            .filter_map(|id| MailboxId::try_from(id.as_slice()).ok())
            .collect(),
        _ => Vec::new(),
    }
}

/// Listens as long as the store is open.
pub(super) async fn listen(shared: &Shared) {
    let mut failures = 0;
    loop {
        let (failure, was_connected) = session(shared).await;
        shared.leads.store(false, Ordering::Relaxed);
        failures = if was_connected { 0 } else { failures };
        debug!(?failure, "not listening to the database");
        shared.pool.connector().environment.sleep(pause(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// One connection until it ends.
async fn session(shared: &Shared) -> (Failure, bool) {
    let connector = shared.pool.connector();
    let (sender, mut receiver) = mpsc::channel(HEARD);
    let client = match connector.client(Some(sender)).await {
        Ok(client) => client,
        Err(failure) => return (failure, false),
    };
    let begin = async { Ok(client.batch_execute("LISTEN kith_arrivals").await?) };
    if let Err(failure) = connector.statement(begin).await {
        return (failure, true);
    }
    loop {
        if let Err(failure) = connector.statement(look(shared, &client)).await {
            return (failure, true);
        }
        let mut pause = connector.environment.sleep(LOOK);
        loop {
            match select(std::pin::pin!(receiver.recv()), pause).await {
                Either::Left((Some(payload), rest)) => {
                    pause = rest;
                    let mailboxes = heard(&shared.tag, &payload);
                    if !mailboxes.is_empty() {
                        // one that finds no room is found by looking
                        let _ = shared.told.try_send(mailboxes);
                    }
                }
                Either::Left((None, _)) => return (Failure::Lost("the connection has ended".into()), true),
                Either::Right(_) => break,
            }
        }
    }
}

/// Sees that the tables are still those this relay knows, and takes the lock if nobody has it.
async fn look(shared: &Shared, client: &Client) -> Result<(), Failure> {
    if let Err(failure) = schema::check(client, &shared.pool.connector().relay).await {
        // a newer relay has changed them, or they are gone: those connections that are there do not look
        shared.pool.renew();
        return Err(failure);
    }
    if shared.leads.load(Ordering::Relaxed) {
        return Ok(());
    }
    let row = client.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCKS, &LOCK_UPKEEP]).await?;
    if row.try_get(0)? {
        info!("this relay does the upkeep of the database");
        shared.leads.store(true, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_heard_and_oneself_is_not() {
        let mailboxes: Vec<MailboxId> = (0..=255).map(|n| MailboxId([n; 16])).collect();
        let told = payloads("ab", &mailboxes);
        assert!(told.len() == 2 && told.iter().all(|payload| payload.len() < 8_000));
        let back: Vec<MailboxId> = told.iter().flat_map(|payload| heard("cd", payload)).collect();
        assert_eq!(back, mailboxes);
        assert!(told.iter().all(|payload| heard("ab", payload).is_empty()));
        assert_eq!((heard("ab", ""), heard("ab", "cd:xyz,00")), (vec![], vec![]));
        assert!(payloads("ab", &[]).is_empty());
    }
}
