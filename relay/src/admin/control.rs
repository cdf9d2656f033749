//! Carries orders out.

use std::sync::Arc;

use kith_network::{Environment, ProductEnvironment};
use kith_protocol::limits;
use kith_protocol::mailbox::{TokenRow, token_key};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::{Ask, mailbox};
use crate::backup;
use crate::config::RelayConfig;
use crate::folder::Folder;
use crate::observed::ObservedStore;
use crate::order::MailboxView;
use crate::relay::Relay;

/// Mailboxes listed at once.
const PAGE: usize = 1_000;
/// Tokens made with one order.
const TOKEN_USES: u64 = 1_000_000;

/// A running relay with its folder.
#[derive(Debug, Clone)]
pub struct Control {
    relay: Relay,
    folder: Folder,
    store: Arc<ObservedStore>,
    host: Arc<ProductEnvironment>,
    config: Arc<watch::Sender<Arc<RelayConfig>>>,
    /// As the relay was started.
    started: Arc<RelayConfig>,
    stop: Arc<Notify>,
}

impl Control {
    /// Over a relay that was started on this folder and store.
    #[must_use]
    pub fn new(
        relay: Relay,
        folder: Folder,
        store: Arc<ObservedStore>,
        host: Arc<ProductEnvironment>,
        config: RelayConfig,
    ) -> Self {
        let started = Arc::new(config);
        let config = Arc::new(watch::Sender::new(Arc::clone(&started)));
        Self { relay, folder, store, host, config, started, stop: Arc::default() }
    }

    /// Ends when somebody orders the relay to stop.
    pub async fn stopped(&self) {
        self.stop.notified().await;
    }

    /// The configuration in force, also after it was read again.
    #[must_use]
    pub fn config(&self) -> watch::Receiver<Arc<RelayConfig>> {
        self.config.subscribe()
    }

    /// Writes a backup of the running relay.
    ///
    /// # Errors
    /// [`backup::BackupError`].
    pub async fn backup(
        &self,
        to: &mut (dyn tokio::io::AsyncWrite + Send + Unpin),
    ) -> Result<backup::Summary, backup::BackupError> {
        backup::write(&self.folder, &self.store, self.host.wall(), true, to).await
    }

    /// A backup is in safe hands.
    pub fn backup_taken(&self, at: kith_protocol::Wall) {
        if let Err(error) = self.folder.set_last_backup(at) {
            tracing::warn!("the time of the backup was not noted: {error}");
        }
    }

    /// Reads the configuration again; what is wrong with it changes nothing. Says what of it is in force only after a
    /// restart.
    ///
    /// # Errors
    /// One sentence.
    pub async fn reload(&self) -> Result<Vec<&'static str>, String> {
        let config = RelayConfig::read(&self.folder.config()).map_err(|error| error.to_string())?;
        config.load_certificate(self.host.certificate()).map_err(|error| error.to_string())?;
        let policy = config.policy(self.folder.is_draining());
        self.relay.set(policy, config.rate).await.map_err(|error| error.to_string())?;
        let waiting = config.waits_for_restart(&self.started);
        self.config.send_replace(Arc::new(config));
        Ok(waiting)
    }

    /// Carries an order out.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub async fn carry_out(&self, ask: Ask) -> Result<Value, String> {
        let text = |error: crate::order::OrderError| error.to_string();
        match ask {
            Ask::Status => {
                let mut status = self.relay.status().await.map_err(text)?;
                status.certificate_expires = self.host.certificate().expires().map(|at| at.0);
                value(&status)
            }
            Ask::MailboxList { after, max } => {
                let after = after.as_deref().map(mailbox).transpose()?;
                value(&self.relay.mailboxes(after, max.min(PAGE)).await.map_err(text)?)
            }
            Ask::MailboxInspect { mailbox: id } => {
                let id = mailbox(&id)?;
                let row = self.relay.mailbox(id).await.map_err(text)?;
                let row = row.ok_or_else(|| nothing(&id.to_string()))?;
                value(&MailboxView::new(id, &row))
            }
            Ask::MailboxEvict { mailbox: id } => {
                let found = self.relay.evict(mailbox(&id)?).await.map_err(text)?;
                found.then(|| json!({ "evicting": id })).ok_or_else(|| nothing(&id))
            }
            Ask::MailboxBlock { mailbox: id, blocked } => {
                let found = self.relay.block(mailbox(&id)?, blocked).await.map_err(text)?;
                found.then(|| json!({ "mailbox": id, "blocked": blocked })).ok_or_else(|| nothing(&id))
            }
            Ask::TokenCreate { label, uses, lifetime } => self.create_token(label, uses, lifetime).await,
            Ask::TokenList => value(&self.relay.tokens().await.map_err(text)?),
            Ask::TokenRevoke { id } => self.revoke_token(&id).await,
            Ask::Drain { off } => {
                self.folder.set_draining(!off).map_err(|error| error.to_string())?;
                self.reload().await?;
                let status = self.relay.status().await.map_err(text)?;
                Ok(json!({ "draining": !off, "mailboxes": status.mailboxes, "envelopes": status.envelopes }))
            }
            Ask::ConfirmClock => self.relay.confirm_clock().await.map(|()| json!({})).map_err(text),
            Ask::Reload => self.reload().await.map(|waiting| match waiting.as_slice() {
                [] => json!({}),
                waiting => json!({ "restart": waiting }),
            }),
            Ask::Audit => self.audit().await,
            // a backup is a stream, and has its own way
            Ask::Backup => Err("a backup cannot be answered in one line".into()),
            Ask::Stop => {
                self.stop.notify_one();
                Ok(json!({}))
            }
        }
    }

    async fn create_token(&self, label: String, uses: u64, lifetime: Option<u64>) -> Result<Value, String> {
        if label.chars().count() > 64 || label.chars().any(char::is_control) {
            return Err("a label has at most 64 characters and no control characters".into());
        }
        if !(1..=TOKEN_USES).contains(&uses) {
            return Err(format!("a token opens 1 to {TOKEN_USES} mailboxes"));
        }
        let mut random = [0; 20];
        self.host.rng().fill_bytes(&mut random);
        let token = data_encoding::BASE32_NOPAD.encode(&random);
        let now = self.host.wall();
        let expires = lifetime.map(|seconds| now.plus(seconds.saturating_mul(limits::SECOND)));
        let row =
            TokenRow { version: 0, label, created: now, uses_left: uses, used: 0, expires, revoked: false };
        let key = token_key(token.as_bytes());
        self.relay.put_token(key, row).await.map_err(|error| error.to_string())?;
        Ok(json!({ "token": token, "id": data_encoding::HEXLOWER.encode(&key), "uses": uses }))
    }

    async fn revoke_token(&self, id: &str) -> Result<Value, String> {
        let tokens = self.relay.tokens().await.map_err(|error| error.to_string())?;
        let mut fitting = tokens.iter().filter(|token| !id.is_empty() && token.id.starts_with(id));
        let (Some(token), None) = (fitting.next(), fitting.next()) else {
            return Err(format!("{id:?} is not one token's id; `kith-relay token list` shows them"));
        };
        let key: Option<[u8; 16]> =
            data_encoding::HEXLOWER.decode(token.id.as_bytes()).ok().and_then(|key| key.try_into().ok());
        let key = key.ok_or("the token's id is damaged")?;
        self.relay.revoke_token(key).await.map_err(|error| error.to_string())?;
        Ok(json!({ "revoked": token.id, "label": token.label }))
    }

    /// Counts everything. What changes meanwhile may look like a fault: it is counted up to three times.
    async fn audit(&self) -> Result<Value, String> {
        let mut report = json!({});
        for _ in 0..3 {
            report = self.count().await?;
            if report.get("faults").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                break;
            }
        }
        Ok(report)
    }

    async fn count(&self) -> Result<Value, String> {
        let counted = crate::count::count(self.store.as_ref()).await.map_err(|error| error.to_string())?;
        let totals = counted.totals;
        Ok(json!({
            "mailboxes": totals.mailboxes, "envelopes": totals.envelopes, "bytes": totals.bytes,
            "tombstones": totals.tombstones, "rights": totals.rights, "faults": counted.faults,
        }))
    }
}

fn value<T: serde::Serialize>(value: &T) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

fn nothing(id: &str) -> String {
    format!("there is no mailbox {id}")
}
