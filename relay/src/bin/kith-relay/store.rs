//! Taking the folder and opening its store.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use kith_network::ProductEnvironment;
use kith_protocol::secret::Secret32;
use kith_relay::admin::Client;
use kith_relay::config::RelayConfig;
use kith_relay::folder::Folder;
use kith_store::mailbox::{KvConfig, KvStore, MailboxStore};
use kith_store::{DataLock, LockError};

pub(crate) fn lock(folder: &Folder) -> anyhow::Result<DataLock> {
    match DataLock::acquire(folder.path()) {
        Err(error @ LockError::Held { .. }) => match Client::new(folder) {
            Ok(client) => bail!(
                "a relay is running on {} already (process {}); `kith-relay stop` ends it",
                folder.path().display(),
                client.pid()
            ),
            Err(_) => Err(error.into()),
        },
        other => Ok(other?),
    }
}

pub(crate) async fn open_store(
    folder: &Folder,
    config: &RelayConfig,
    host: &Arc<ProductEnvironment>,
    key: &Secret32,
) -> anyhow::Result<Arc<dyn MailboxStore>> {
    let Some(engine) = config.store.kind.engine() else { return open_database(config, host, key).await };
    let config = KvConfig {
        engine,
        folder: folder.store(),
        cache_bytes: config.store.cache.0,
        min_free: config.total.reserve.0 / 8,
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // an engine may repair itself for a while, and must not hold up the runtime
    std::thread::Builder::new().name("open-store".into()).spawn(move || {
        // nobody waits any more: fine
        let _ = sender.send(KvStore::open(config));
    })?;
    let store = receiver.await.context("the store stopped while it was opened")?;
    Ok(Arc::new(store.with_context(|| format!("the store in {}", folder.store().display()))?))
}

#[cfg(feature = "postgres")]
async fn open_database(
    config: &RelayConfig,
    host: &Arc<ProductEnvironment>,
    key: &Secret32,
) -> anyhow::Result<Arc<dyn MailboxStore>> {
    use kith_relay::postgres::{PostgresConfig, PostgresStore};
    let config = PostgresConfig::new(config, key).map_err(anyhow::Error::msg)?;
    let store = Box::pin(PostgresStore::open(Arc::clone(host) as _, &config)).await;
    Ok(Arc::new(store.context("the database; `kith-relay check` says more")?))
}

#[cfg(not(feature = "postgres"))]
#[allow(clippy::unused_async, reason = "as with the feature")]
async fn open_database(
    _: &RelayConfig,
    _: &Arc<ProductEnvironment>,
    _: &Secret32,
) -> anyhow::Result<Arc<dyn MailboxStore>> {
    bail!("this kith-relay was built without PostgreSQL: build it with the feature `postgres`")
}
