//! One connection, ready for use.

use std::sync::Arc;

use futures::future::{Either, poll_fn, select, try_join_all};
use kith_network::Environment;
use kith_protocol::DeviceId;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Connection, Socket, Statement};
use tracing::{debug, info, warn};

use super::address::Address;
use super::error::Failure;
use super::schema;
use super::tls::{Stream, Tls};

/// How long a connection may take until it is ready.
const READY: u64 = 8_000;
/// What one statement may take here; the server ends it before.
const STATEMENT: u64 = 8_000;
/// What a change of the tables may take.
const MIGRATION: u64 = 600_000;
/// The oldest server.
pub(super) const OLDEST: i32 = 130_000;
/// Clocks that differ by more are told.
const CLOCKS: u64 = 30_000;

/// What every session is set to. Plans must not be made for tables that were small when the first statement came: rows are
/// always found by their keys. What is turned off costs a great deal in the planner's eyes, enough to compile each statement
/// for tens of milliseconds: that is off, too. Every commit waits for the disk, whatever the server does for others.
const SETTINGS: &str = "\
    SET search_path TO kith_relay; \
    SET statement_timeout TO '6s'; \
    SET lock_timeout TO '3s'; \
    SET idle_in_transaction_session_timeout TO '30s'; \
    SET default_transaction_isolation TO 'read committed'; \
    SET plan_cache_mode TO force_generic_plan; \
    SET enable_seqscan TO off; \
    SET enable_hashjoin TO off; \
    SET enable_mergejoin TO off; \
    SET jit TO off; \
    SET client_min_messages TO warning; \
    SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// How to make connections.
pub(super) struct Connector {
    pub(super) environment: Arc<dyn Environment>,
    pub(super) address: Address,
    pub(super) tls: Tls,
    pub(super) relay: DeviceId,
}

/// Prepared statements, in the order of [`SQL`].
#[derive(Clone)]
pub(super) struct Statements {
    pub(super) heads: Statement,
    pub(super) items: Statement,
    pub(super) envelopes: Statement,
    pub(super) marks: Statement,
    pub(super) lists: Statement,
    pub(super) marks_until: Statement,
    pub(super) rest: Statement,
    pub(super) heads_after: Statement,
    pub(super) write: Statement,
    pub(super) notify: Statement,
    pub(super) state: Statement,
}

const SQL: [&str; 11] = [
    "SELECT h.kind, h.id, h.content FROM unnest($1::smallint[], $2::bytea[]) AS k (kind, id) \
     JOIN heads h ON h.kind = k.kind AND h.id = k.id",
    "SELECT i.mailbox, i.kind, i.key, i.content \
     FROM unnest($1::bytea[], $2::smallint[], $3::bytea[]) AS k (mailbox, kind, key) \
     JOIN items i ON i.mailbox = k.mailbox AND i.kind = k.kind AND i.key = k.key",
    "SELECT e.mailbox, e.cursor, e.id, e.right_id, e.stored_at, e.body \
     FROM unnest($1::bytea[], $2::bigint[]) AS k (mailbox, cursor) \
     JOIN envelopes e ON e.mailbox = k.mailbox AND e.cursor = k.cursor",
    "SELECT m.kind, m.time, m.mailbox, m.key, m.content \
     FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS k (kind, time, mailbox, key) \
     JOIN marks m ON m.kind = k.kind AND m.time = k.time AND m.mailbox = k.mailbox AND m.key = k.key",
    "SELECT q.number, l.cursor, l.id, l.right_id, l.stored_at, l.bytes \
     FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS q (mailbox, after, most, number) \
     CROSS JOIN LATERAL ( \
         SELECT e.cursor, e.id, e.right_id, e.stored_at, length(e.body) AS bytes FROM envelopes e \
         WHERE e.mailbox = q.mailbox AND e.cursor > q.after ORDER BY e.cursor LIMIT q.most \
     ) l ORDER BY q.number, l.cursor",
    "SELECT kind, time, mailbox, key, content FROM marks WHERE kind = $1 AND time <= $2 \
     ORDER BY kind, time, mailbox, key LIMIT $3",
    "SELECT mailbox, kind, key FROM items WHERE mailbox = $1 ORDER BY mailbox, kind, key LIMIT $2",
    "SELECT kind, id, content FROM heads WHERE kind = $1 AND id > $2 ORDER BY kind, id LIMIT $3",
    "SELECT * FROM write_batches($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
     $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, \
     $41, $42, $43)",
    // what is told need not be on disk, so nobody waits for that
    "SELECT set_config('synchronous_commit', 'off', true), pg_notify('kith_arrivals', n) FROM unnest($1::text[]) AS n",
    "SELECT sum(mailboxes)::bigint, sum(envelopes)::bigint, sum(bytes)::bigint, sum(tombstones)::bigint, \
     sum(rights)::bigint, (array_agg(instant ORDER BY write DESC))[1] FROM sums",
];

/// A connection.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
}

impl Connector {
    /// Ends when `work` does, or fails after a time.
    pub(super) async fn within<T>(
        &self,
        millis: u64,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        let work = std::pin::pin!(work);
        match select(work, self.environment.sleep(millis)).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(Failure::Lost(format!("{} does not answer", self.address.shown))),
        }
    }

    /// [`Self::within`] the time of a statement.
    pub(super) async fn statement<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        self.within(STATEMENT, work).await
    }

    /// [`Self::within`] the time of a change of the tables.
    pub(super) async fn migration<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        self.within(MIGRATION, work).await
    }

    /// Connects to a server that keeps what it acknowledges; what other relays notify goes to `notified`.
    pub(super) async fn client(&self, notified: Option<mpsc::Sender<String>>) -> Result<Client, Failure> {
        // what is only worth a warning is told for one connection of a relay
        let is_first = notified.is_some();
        let client = self.connect(notified).await?;
        self.named(self.within(READY, self.check_server(&client, is_first)).await)?;
        Ok(client)
    }

    /// Connects.
    pub(super) async fn connect(&self, notified: Option<mpsc::Sender<String>>) -> Result<Client, Failure> {
        let work = async {
            let (client, connection) = self.address.config.connect(self.tls.clone()).await?;
            self.environment.spawn("database", Box::pin(carry(connection, notified)));
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        };
        self.named(self.within(READY, work).await)
    }

    /// What went wrong, with the database's name.
    fn named<T>(&self, done: Result<T, Failure>) -> Result<T, Failure> {
        let shown = &self.address.shown;
        done.map_err(|failure| match failure {
            Failure::Lost(text) | Failure::Failed(text) if !text.contains(shown.as_str()) => {
                Failure::Lost(format!("{shown}: {text}"))
            }
            Failure::Refused(text) => Failure::Refused(format!("{shown}: {text}")),
            other => other,
        })
    }

    /// Connects for reading and writing.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        let client = self.client(None).await?;
        let work = async {
            schema::check(&client, &self.relay).await?;
            let prepared = try_join_all(SQL.map(|sql| client.prepare(sql))).await?;
            let prepared: [Statement; 11] = prepared
                .try_into()
                .map_err(|_| Failure::Lost("the server did not prepare every statement".into()))?;
            let [heads, items, envelopes, marks, lists, marks_until, rest, heads_after, write, notify, state] =
                prepared;
            Ok(Statements {
                heads,
                items,
                envelopes,
                marks,
                lists,
                marks_until,
                rest,
                heads_after,
                write,
                notify,
                state,
            })
        };
        let statements = self.within(READY, work).await?;
        Ok(Session { client, statements })
    }

    /// A server that forgets what it acknowledged is not used.
    async fn check_server(&self, client: &Client, warn: bool) -> Result<(), Failure> {
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int, coalesce(current_setting('fsync', true), 'on'), \
                 coalesce(current_setting('full_page_writes', true), 'on'), \
                 coalesce(current_setting('data_checksums', true), 'on'), pg_is_in_recovery(), \
                 (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
                &[],
            )
            .await?;
        let version: i32 = row.try_get(0)?;
        if version < OLDEST {
            return Err(Failure::Refused(format!(
                "the server is PostgreSQL {}: at least {} is needed",
                version / 10_000,
                OLDEST / 10_000
            )));
        }
        if row.try_get::<_, &str>(1)? != "on" {
            return Err(Failure::Refused(
                "the server runs with fsync = off and would lose acknowledged envelopes in a power cut: set fsync = on \
                 in its postgresql.conf"
                    .into(),
            ));
        }
        if row.try_get::<_, bool>(4)? {
            return Err(Failure::Lost("the server is a standby and takes no writes".into()));
        }
        if !warn {
            return Ok(());
        }
        if row.try_get::<_, &str>(2)? != "on" {
            warn!("the database server runs with full_page_writes = off: a power cut may damage its pages");
        }
        if row.try_get::<_, &str>(3)? != "on" {
            info!("the database server has no page checksums: it does not notice damage of its disk");
        }
        let theirs = row.try_get::<_, i64>(5)?.cast_unsigned();
        let ours = self.environment.wall().0;
        if theirs.abs_diff(ours) > CLOCKS {
            warn!(
                seconds = theirs.abs_diff(ours) / 1_000,
                "the clocks of this machine and of the database server differ: let both follow NTP"
            );
        }
        Ok(())
    }
}

/// Carries a connection's bytes until it ends.
async fn carry(mut connection: Connection<Socket, Stream>, notified: Option<mpsc::Sender<String>>) {
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                if let Some(notified) = &notified {
                    // one that finds no room is found a second later by looking
                    let _ = notified.try_send(notification.payload().to_owned());
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                debug!("a connection to the database has ended: {error}");
                return;
            }
            None => return,
        }
    }
}
