//! The tables: made and brought up to date by whichever relay comes first.

use kith_protocol::DeviceId;
use tokio_postgres::Client;
use tracing::info;

use super::error::Failure;

/// Each brings the schema to the next version. What was released is never changed.
const MIGRATIONS: [&str; 2] =
    [include_str!("migrations/0001_mailboxes.sql"), include_str!("migrations/0002_batches.sql")];
/// Locks of this database: the first number is "kith".
pub(super) const LOCKS: i32 = 0x6b69_7468;
const LOCK_MIGRATE: i32 = 1;
/// Held by the relay that does the upkeep for all.
pub(super) const LOCK_UPKEEP: i32 = 2;

/// The version this relay works with.
pub(super) fn known() -> u16 {
    u16::try_from(MIGRATIONS.len()).unwrap_or(u16::MAX)
}

/// Makes the tables or brings them up to date. Several relays may start at once: one does it, the others wait.
pub(super) async fn migrate(client: &mut Client) -> Result<(), Failure> {
    if version(client).await? == Some(known()) {
        // it may well be that we could not change anything here, and need not
        return Ok(());
    }
    // a large table takes its time, and so does another relay that does it
    let transaction = client.transaction().await?;
    transaction.batch_execute("SET LOCAL statement_timeout TO 0; SET LOCAL lock_timeout TO 0").await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1, $2)", &[&LOCKS, &LOCK_MIGRATE]).await?;
    transaction
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS kith_relay; \
             CREATE TABLE IF NOT EXISTS kith_relay.migrations \
             (version smallint PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    let row = transaction.query_one("SELECT max(version) FROM kith_relay.migrations", &[]).await?;
    let found = u16::try_from(row.try_get::<_, Option<i16>>(0)?.unwrap_or(0)).unwrap_or(u16::MAX);
    if found > known() {
        return Err(Failure::Newer { found, known: known() });
    }
    for (number, sql) in (1_i16..).zip(MIGRATIONS).skip(usize::from(found)) {
        transaction.batch_execute("SET LOCAL search_path TO kith_relay").await?;
        transaction.batch_execute(sql).await?;
        transaction.execute("INSERT INTO kith_relay.migrations (version) VALUES ($1)", &[&number]).await?;
        info!(version = number, "the tables were brought to a new version");
    }
    transaction.commit().await?;
    Ok(())
}

/// The version of the tables that are there.
pub(super) async fn version(client: &Client) -> Result<Option<u16>, Failure> {
    let row = client.query_one("SELECT to_regclass('kith_relay.migrations') IS NOT NULL", &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let row = client.query_one("SELECT max(version) FROM kith_relay.migrations", &[]).await?;
    Ok(row.try_get::<_, Option<i16>>(0)?.and_then(|version| u16::try_from(version).ok()))
}

/// Puts down whose database this is, unless that was done.
pub(super) async fn claim(client: &Client, relay: &DeviceId) -> Result<(), Failure> {
    let key = relay.0.as_slice();
    client.execute("INSERT INTO relay (key) VALUES ($1) ON CONFLICT DO NOTHING", &[&key]).await?;
    Ok(())
}

/// Checks on every new connection that the tables are those this relay knows, and its own.
pub(super) async fn check(client: &Client, relay: &DeviceId) -> Result<(), Failure> {
    let found = version(client).await?.ok_or_else(|| {
        Failure::Refused("the relay's tables have gone from the database: restore it from a backup".into())
    })?;
    if found != known() {
        return Err(Failure::Newer { found, known: known() });
    }
    match owner(client).await? {
        Some(key) if key == relay.0 => Ok(()),
        Some(key) => Err(Failure::Refused(of_another(&key, relay))),
        None => {
            Err(Failure::Refused("the database does not tell whose it is: restore it from a backup".into()))
        }
    }
}

/// Whose database it is.
pub(super) async fn owner(client: &Client) -> Result<Option<Vec<u8>>, Failure> {
    let row = client.query_opt("SELECT key FROM relay", &[]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Says that it is another relay's.
pub(super) fn of_another(key: &[u8], relay: &DeviceId) -> String {
    format!(
        "this database belongs to the relay {}, and this is {}. All processes on one database are one relay and have \
         the same relay.key: copy that relay's, or use another database",
        named(key),
        named(&relay.0)
    )
}

fn named(key: &[u8]) -> String {
    let peer = DeviceId::try_from(key).ok().and_then(|device| device.peer_id());
    peer.map_or_else(|| "with a key that is none".into(), |peer| peer.to_string())
}
