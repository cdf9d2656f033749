//! What `check` wants to know of a database, without changing anything in it.

use std::sync::Arc;

use kith_network::Environment;
use kith_store::mailbox::MailboxStoreError;
use tokio_postgres::Client;

use super::error::Failure;
use super::session::OLDEST;
use super::{PostgresConfig, connector, schema};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// Database, host and user.
    pub shown: String,
    /// The server, as it calls itself.
    pub version: String,
    /// What must be changed, each with what to do.
    pub wrong: Vec<(String, String)>,
    /// What could be better, each with what to do.
    pub advice: Vec<(String, String)>,
    /// Version of the tables; `None` if there are none yet.
    pub schema: Option<u16>,
    /// The connection is encrypted.
    pub encrypted: bool,
    /// How many milliseconds the server's clock is ahead.
    pub clock_ahead: i64,
}

/// Looks at a database.
///
/// # Errors
/// [`MailboxStoreError`] if it cannot be reached or lets nobody in.
pub async fn inspect(
    environment: Arc<dyn Environment>,
    config: &PostgresConfig,
) -> Result<Inspection, MailboxStoreError> {
    let connector = connector(environment, config)?;
    let mut found = Inspection {
        shown: connector.address.shown.clone(),
        encrypted: connector.address.tls,
        ..Inspection::default()
    };
    let client = connector.connect(None).await?;
    let look = async {
        server(&client, &mut found).await?;
        let now = connector.environment.wall().0.cast_signed();
        let row =
            client.query_one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint", &[]).await?;
        found.clock_ahead = row.try_get::<_, i64>(0)?.saturating_sub(now);
        tables(&client, config, &mut found).await
    };
    connector.statement(look).await?;
    Ok(found)
}

async fn server(client: &Client, found: &mut Inspection) -> Result<(), Failure> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int, \
             current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), \
             current_setting('data_checksums'), pg_is_in_recovery(), \
             current_setting('max_connections')::int, current_setting('transaction_read_only')",
            &[],
        )
        .await?;
    let (version, number): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
    found.version = version;
    let mut wrong = |what: &str, advice: &str| found.wrong.push((what.to_owned(), advice.to_owned()));
    if number < OLDEST {
        wrong(
            &format!("the server is PostgreSQL {}", found.version),
            "install a newer one: at least 13 is needed",
        );
    }
    if row.try_get::<_, &str>(2)? != "on" {
        wrong(
            "fsync is off: acknowledged envelopes would be lost in a power cut",
            "set fsync = on in postgresql.conf and reload the server",
        );
    }
    if row.try_get::<_, bool>(6)? || row.try_get::<_, &str>(8)? == "on" {
        wrong(
            "the server takes no writes: it is a standby, or read-only",
            "name the primary in database.url",
        );
    }
    let mut advise = |what: &str, advice: &str| found.advice.push((what.to_owned(), advice.to_owned()));
    if row.try_get::<_, &str>(3)? != "on" {
        advise(
            "full_page_writes is off: a power cut may damage pages",
            "set full_page_writes = on, unless the file system writes whole pages",
        );
    }
    if !matches!(row.try_get::<_, &str>(4)?, "on" | "remote_apply") {
        advise(
            "synchronous_commit is not on for this user",
            "nothing is lost, the relay turns it on for itself; remove the setting all the same",
        );
    }
    if row.try_get::<_, &str>(5)? != "on" {
        advise(
            "pages have no checksums: damage of the server's disk is not noticed",
            "run pg_checksums --enable on the stopped server",
        );
    }
    if row.try_get::<_, i32>(7)? < 20 {
        advise(
            "the server takes fewer than 20 connections",
            "raise max_connections: each relay process uses 5",
        );
    }
    Ok(())
}

async fn tables(client: &Client, config: &PostgresConfig, found: &mut Inspection) -> Result<(), Failure> {
    let row = client
        .query_one(
            "SELECT has_database_privilege(current_database(), 'CREATE'), \
             to_regnamespace('kith_relay') IS NOT NULL, \
             coalesce(has_schema_privilege(to_regnamespace('kith_relay'), 'USAGE'), false), current_user::text, \
             current_database()::text",
            &[],
        )
        .await?;
    let (may_create, is_there, may_use): (bool, bool, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (user, database): (String, String) = (row.try_get(3)?, row.try_get(4)?);
    let mut wrong = |what: String, advice: String| found.wrong.push((what, advice));
    if !is_there {
        if !may_create {
            wrong(
                format!("the user {user} may not make the relay's tables"),
                format!("as the database's owner: GRANT CREATE ON DATABASE {database} TO {user}"),
            );
        }
        return Ok(());
    }
    if !may_use {
        wrong(
            format!("the user {user} may not use the schema kith_relay"),
            "use the user who made it, or grant it USAGE on the schema and all rights on its tables".into(),
        );
        return Ok(());
    }
    let missing = client
        .query(
            "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'kith_relay'::regnamespace \
             AND c.relkind = 'r' AND c.relname IN ('heads', 'items', 'envelopes', 'marks', 'sums') \
             AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
             AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))",
            &[],
        )
        .await?;
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        wrong(
            format!("the user {user} may not read and write {}", names.join(", ")),
            format!(
                "as the owner: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA kith_relay TO {user}"
            ),
        );
        return Ok(());
    }
    found.schema = schema::version(client).await?;
    if found.schema.is_some_and(|version| version > schema::known()) {
        found.wrong.push((
            format!(
                "the tables have version {}, this relay knows {}",
                found.schema.unwrap_or(0),
                schema::known()
            ),
            "install a newer kith-relay".into(),
        ));
        return Ok(());
    }
    if found.schema.is_some()
        && let Some(key) = schema::owner(client).await?
        && key != config.relay.0
    {
        found
            .wrong
            .push((schema::of_another(&key, &config.relay), "set database.url, or copy relay.key".into()));
    }
    Ok(())
}
