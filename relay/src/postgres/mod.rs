//! A relay's rows in PostgreSQL, so that several processes serve one set of mailboxes and any of them can be killed.
//!
//! ```text
//! read   one round trip: a statement for each table, sent one behind the other
//! write  one round trip: one call of write_batches is one transaction. It locks the rows of the mailboxes, compares their
//!        versions, writes the batches that fit, and adds to the sums; the answer comes after the commit is on the
//!        server's disk
//! tell   pg_notify behind the write, for owners who wait at another process
//! ```
//! A connection that ends during a write leaves it unknown whether it was made. Then nothing is acknowledged: whoever
//! asked asks again, it is read again, and decided anew on what is there. One process does the upkeep for all: the one
//! that holds an advisory lock, until its connection ends.

mod address;
mod error;
mod inspect;
mod listen;
mod pool;
mod read;
mod rows;
mod scan;
mod schema;
mod session;
mod snapshot;
mod tls;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{join, select};
use kith_network::Environment;
use kith_protocol::identity::KeyPair;
use kith_protocol::mailbox::Batch;
use kith_protocol::secret::Secret32;
use kith_protocol::{DeviceId, MailboxId, Mono, Wall};
use kith_store::mailbox::{
    Doing, Found, MailboxSnapshot, MailboxStore, MailboxStoreError, MailboxStoreStats, Read, ScanPage,
    StoredState, Written,
};
use tokio::sync::{Mutex as Gate, mpsc, watch};
use tracing::debug;

use crate::config::{DatabaseLogin, DatabaseUrl, RelayConfig};
use address::Address;
use error::Failure;
use pool::Pool;
use session::Connector;
use tls::Tls;

pub use inspect::{Inspection, inspect};

/// Connections for reading and writing; one more listens.
const CONNECTIONS: usize = 4;
/// Rows of one batch.
const ROWS: usize = 4_000;
/// Arrivals told and not taken yet, in notifications.
const ARRIVALS: usize = 256;
/// How long a size is good.
const SIZE: u64 = 30_000;

/// Where the database is, and whose rows are to be in it.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// Address and password.
    pub login: DatabaseLogin,
    /// Certificate authorities in PEM form; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The relay's key.
    pub relay: DeviceId,
}

impl PostgresConfig {
    /// As the configuration and the environment say, for the relay with this key.
    ///
    /// # Errors
    /// One sentence, without the password.
    pub fn new(config: &RelayConfig, key: &Secret32) -> Result<Self, String> {
        let ca = &config.database.ca;
        Ok(Self {
            login: config.database.login()?,
            ca: (!ca.is_empty()).then(|| PathBuf::from(ca)),
            relay: DeviceId(KeyPair::from_seed(key).public()),
        })
    }
}

/// Whether this can be the address of a database.
///
/// # Errors
/// One sentence, without the password.
pub fn check_url(url: &DatabaseUrl) -> Result<(), String> {
    Address::parse(url).map(drop)
}

/// A store in PostgreSQL.
pub struct PostgresStore {
    shared: Arc<Shared>,
    arrivals: Gate<mpsc::Receiver<Vec<MailboxId>>>,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("database", &self.shared.pool.connector().address.shown)
            .finish_non_exhaustive()
    }
}

struct Shared {
    pool: Pool,
    /// Marks what this process tells, so that it does not hear itself.
    tag: String,
    /// This process does the upkeep for all.
    leads: AtomicBool,
    told: mpsc::Sender<Vec<MailboxId>>,
    closed: watch::Sender<bool>,
    size: Mutex<Option<(Mono, u64)>>,
}

fn connector(
    environment: Arc<dyn Environment>,
    config: &PostgresConfig,
) -> Result<Connector, MailboxStoreError> {
    let address = Address::new(&config.login).map_err(MailboxStoreError::Refused)?;
    let tls = if address.tls { Tls::load(config.ca.as_deref().map(Path::new)) } else { Tls::unused() };
    let tls = tls.map_err(MailboxStoreError::Refused)?;
    Ok(Connector { environment, address, tls, relay: config.relay })
}

impl PostgresStore {
    /// Connects, and makes the tables or brings them up to date. Must be called on a tokio runtime with IO and time.
    ///
    /// # Errors
    /// [`MailboxStoreError`]: the server cannot be reached, refuses, does not keep what it acknowledges, or its tables
    /// belong to another relay or a newer one.
    pub async fn open(
        environment: Arc<dyn Environment>,
        config: &PostgresConfig,
    ) -> Result<Self, MailboxStoreError> {
        let connector = connector(Arc::clone(&environment), config)?;
        let mut client = connector.client(None).await?;
        connector.migration(schema::migrate(&mut client)).await?;
        connector.statement(schema::claim(&client, &config.relay)).await?;
        drop(client);
        let mut random = [0; 8];
        environment.rng().fill_bytes(&mut random);
        let (told, arrivals) = mpsc::channel(ARRIVALS);
        let shared = Arc::new(Shared {
            pool: Pool::new(connector, CONNECTIONS),
            tag: data_encoding::HEXLOWER.encode(&random),
            leads: AtomicBool::new(false),
            told,
            closed: watch::Sender::new(false),
            size: Mutex::default(),
        });
        // the first connection, so that what is wrong is told now
        drop(shared.pool.get().await?);
        for (name, task) in [("database-revive", true), ("database-listen", false)] {
            let shared = Arc::clone(&shared);
            environment.spawn(
                name,
                Box::pin(async move {
                    let mut closed = shared.closed.subscribe();
                    let work = async {
                        if task { shared.pool.revive().await } else { listen::listen(&shared).await }
                    };
                    let closed = closed.wait_for(|closed| *closed);
                    select(std::pin::pin!(work), std::pin::pin!(closed)).await;
                }),
            );
        }
        Ok(Self { shared, arrivals: Gate::new(arrivals) })
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        self.pool.close();
        self.closed.send_replace(true);
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Found>, Failure> {
        let lease = self.pool.get().await?;
        let leads = self.leads.load(Ordering::Relaxed);
        let read = async { read::read(lease.session()?, reads, leads).await };
        let done = self.pool.connector().statement(read).await;
        lease.done(done)
    }

    async fn state(&self) -> Result<StoredState, Failure> {
        let lease = self.pool.get().await?;
        let read = async { read::state(lease.session()?).await };
        let done = self.pool.connector().statement(read).await;
        lease.done(done)
    }

    async fn write(&self, arguments: &write::Arguments) -> Result<Written, Failure> {
        let lease = self.pool.get().await?;
        let told = listen::payloads(&self.tag, &arguments.arrivals);
        let write = async {
            let session = lease.session()?;
            let notify = async {
                if !told.is_empty() {
                    let told = session.client.execute(&session.statements.notify, &[&told]).await;
                    // others look for themselves
                    if let Err(error) = told {
                        debug!("the other relays were not told: {error}");
                    }
                }
            };
            // one behind the other on one connection: it is told after it is committed
            let (written, ()) = join(arguments.write(session), notify).await;
            written
        };
        let done = self.pool.connector().statement(write).await;
        lease.done(done)
    }

    async fn size(&self) -> Result<u64, Failure> {
        let now = self.pool.connector().environment.mono();
        if let Some((at, bytes)) = *self.size.lock().unwrap_or_else(PoisonError::into_inner)
            && now.since(at) < SIZE
        {
            return Ok(bytes);
        }
        let lease = self.pool.get().await?;
        let read = async { read::size(lease.session()?).await };
        let done = self.pool.connector().statement(read).await;
        let bytes = lease.done(done)?;
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, bytes));
        Ok(bytes)
    }

    async fn scan(&self, after: &[u8], max: usize) -> Result<ScanPage, Failure> {
        let lease = self.pool.get().await?;
        let scan = async { scan::scan(lease.session()?, after, max).await };
        let done = self.pool.connector().statement(scan).await;
        lease.done(done)
    }
}

impl MailboxStore for PostgresStore {
    fn name(&self) -> &str {
        "postgres"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn batch_rows(&self) -> usize {
        ROWS
    }

    fn state(&self) -> Doing<'_, StoredState> {
        Box::pin(async { Ok(self.shared.state().await?) })
    }

    fn read(&self, reads: Vec<Read>) -> Doing<'_, Vec<Found>> {
        Box::pin(async move {
            if reads.is_empty() {
                return Ok(Vec::new());
            }
            Ok(self.shared.read(&reads).await?)
        })
    }

    fn write(&self, batches: Vec<Batch>, now: Wall) -> Doing<'_, Written> {
        Box::pin(async move {
            let arguments = write::Arguments::new(batches, now)?;
            match self.shared.write(&arguments).await {
                Ok(written) => Ok(written),
                Err(Failure::Conflict) => Ok(Written { totals: None, conflicts: arguments.all_expected() }),
                Err(failure) => Err(failure.into()),
            }
        })
    }

    fn stats(&self) -> Doing<'_, MailboxStoreStats> {
        Box::pin(async { Ok(MailboxStoreStats { bytes: self.shared.size().await?, free: None }) })
    }

    fn scan(&self, after: Vec<u8>, max: usize) -> Doing<'_, ScanPage> {
        Box::pin(async move { Ok(self.shared.scan(&after, max).await?) })
    }

    fn arrivals(&self) -> Doing<'_, Vec<MailboxId>> {
        Box::pin(async { self.arrivals.lock().await.recv().await.ok_or(MailboxStoreError::Closed) })
    }

    fn snapshot(&self) -> Doing<'_, Option<Box<dyn MailboxSnapshot>>> {
        Box::pin(async {
            let snapshot = snapshot::Snapshot::take(Arc::clone(&self.shared)).await?;
            Ok(Some(Box::new(snapshot) as Box<dyn MailboxSnapshot>))
        })
    }

    fn close(&self) -> Doing<'_, ()> {
        Box::pin(async {
            self.shared.close();
            Ok(())
        })
    }
}
