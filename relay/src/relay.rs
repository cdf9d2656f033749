//! A running relay.

use std::sync::Arc;

use kith_network::{Config, ConfigError, Environment, Network, Options};
use kith_protocol::identity::KeyPair;
use kith_protocol::mailbox::{Mailbox, MailboxRow, Policy, Row, RowKey, TokenRow, WriteKind};
use kith_protocol::{MailboxId, Now};
use kith_store::mailbox::{Found, MailboxStore, MailboxStoreError, Read};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::counters::Counters;
use crate::driver::Driver;
use crate::order::{MailboxView, Order, OrderError, Reply, Status, TokenView};
use crate::rate::Rates;

/// Orders not taken yet.
const ORDERS: usize = 64;

/// What a relay is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its key, addresses and bounds of connections.
    pub network: Options,
    /// What it allows.
    pub policy: Policy,
    /// How much one peer and one network may ask.
    pub rates: Rates,
    /// Bytes of requests that may wait in all; a quarter of it is high load.
    pub queue_bytes: usize,
    /// When less than this is free where the store lies, nothing new is taken; new mailboxes end at twice that.
    pub reserve_bytes: u64,
}

impl Settings {
    /// The defaults, for a relay with this network.
    #[must_use]
    pub fn new(network: Options) -> Self {
        Self {
            network,
            policy: Policy::default(),
            rates: Rates::default(),
            queue_bytes: 64 * 1024 * 1024,
            reserve_bytes: 512 * 1024 * 1024,
        }
    }
}

/// Why a relay did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Wrong addresses or key.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot listen.
    #[error(transparent)]
    Network(#[from] kith_network::StartError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] MailboxStoreError),
}

/// A running relay. Clones are handles of the same; it ends with [`Relay::shutdown`] or when all are dropped.
#[derive(Debug, Clone)]
pub struct Relay {
    orders: mpsc::Sender<Order>,
    network: Network,
    counters: Arc<Counters>,
}

impl Relay {
    /// Starts a relay on an open store. In the product it must be called on a tokio runtime with IO and time.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        environment: Arc<dyn Environment>,
        settings: Settings,
        store: Arc<dyn MailboxStore>,
    ) -> Result<Self, StartError> {
        let state = store.state().await?;
        let key = KeyPair::from_seed(&settings.network.device_seed);
        let config = Config::new(settings.network.clone())?;
        let (network, events) = kith_network::start(Arc::clone(&environment), config)?;
        let now = Now { wall: environment.wall(), mono: environment.mono() };
        let mailbox = Mailbox::new(key, settings.policy.clone(), state.last, state.totals, now);
        let (orders, receiver) = mpsc::channel(ORDERS);
        let counters = Arc::new(Counters::default());
        let driver = Driver::new(
            Arc::clone(&environment),
            mailbox,
            store,
            network.clone(),
            Arc::clone(&counters),
            &settings,
        );
        environment.spawn("relay", Box::pin(driver.run(events, receiver)));
        Ok(Self { orders, network, counters })
    }

    /// Its network.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    async fn order<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, OrderError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| OrderError::Stopping)?;
        answer.await.unwrap_or(Err(OrderError::Stopping))
    }

    /// How it does.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn status(&self) -> Result<Status, OrderError> {
        self.order(Order::Status).await
    }

    /// Mailboxes by id, beyond one.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn mailboxes(
        &self,
        after: Option<MailboxId>,
        max: usize,
    ) -> Result<Vec<MailboxView>, OrderError> {
        let found = self.order(|reply| Order::Read(Read::Mailboxes { after, max }, reply)).await?;
        let Found::Rows(rows) = found else { return Ok(Vec::new()) };
        let view = |(key, row): &(RowKey, Row)| match (key, row) {
            (RowKey::Mailbox(id), Row::Mailbox(row)) => Some(MailboxView::new(*id, row)),
            _ => None,
        };
        Ok(rows.iter().filter_map(view).collect())
    }

    /// One mailbox.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn mailbox(&self, id: MailboxId) -> Result<Option<Box<MailboxRow>>, OrderError> {
        let read = Read::Row(RowKey::Mailbox(id));
        match self.order(|reply| Order::Read(read, reply)).await? {
            Found::Row(Some(Row::Mailbox(row))) => Ok(Some(row)),
            Found::Damaged(what) => Err(MailboxStoreError::Damaged(what).into()),
            _ => Ok(None),
        }
    }

    /// Removes a mailbox with everything in it. `false` if there is none.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn evict(&self, id: MailboxId) -> Result<bool, OrderError> {
        self.order(|reply| Order::Write(WriteKind::Evict(id), reply)).await
    }

    /// Blocks a mailbox, or takes that back. `false` if there is none.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn block(&self, id: MailboxId, blocked: bool) -> Result<bool, OrderError> {
        self.order(|reply| Order::Write(WriteKind::Block(id, blocked), reply)).await
    }

    /// Puts a token in force.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn put_token(&self, key: [u8; 16], row: TokenRow) -> Result<(), OrderError> {
        self.order(|reply| Order::Write(WriteKind::PutToken(key, row), reply)).await.map(drop)
    }

    /// Takes a token back. `false` if there is none.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn revoke_token(&self, key: [u8; 16]) -> Result<bool, OrderError> {
        self.order(|reply| Order::Write(WriteKind::RevokeToken(key), reply)).await
    }

    /// All tokens.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn tokens(&self) -> Result<Vec<TokenView>, OrderError> {
        let found = self.order(|reply| Order::Read(Read::Tokens { max: 10_000 }, reply)).await?;
        let Found::Rows(rows) = found else { return Ok(Vec::new()) };
        let view = |(key, row): &(RowKey, Row)| match row {
            Row::Token(row) => TokenView::new(key, row),
            _ => None,
        };
        Ok(rows.iter().filter_map(view).collect())
    }

    /// Other settings, at once. What is in custody stays in custody.
    ///
    /// # Errors
    /// [`OrderError::Stopping`].
    pub async fn set(&self, policy: Policy, rates: Rates) -> Result<(), OrderError> {
        self.orders.send(Order::Settings(Box::new(policy), rates)).await.map_err(|_| OrderError::Stopping)
    }

    /// The wall clock is right, although it has jumped.
    ///
    /// # Errors
    /// [`OrderError::Stopping`].
    pub async fn confirm_clock(&self) -> Result<(), OrderError> {
        self.orders.send(Order::ConfirmClock).await.map_err(|_| OrderError::Stopping)
    }

    /// Answers what was begun, tells every device when to come back, and closes the store.
    pub async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Shutdown(done)).await.is_ok() {
            // an error means that it has ended already
            let _ = wait.await;
        }
    }
}
