//! Taking the folder and opening its store.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use kith_network::ProductEnvironment;
use kith_protocol::DeviceId;
use kith_protocol::identity::KeyPair;
use kith_protocol::secret::Secret32;
use kith_relay::admin::Client;
use kith_relay::config::RelayConfig;
use kith_relay::folder::Folder;
use kith_store::mailbox::{KvConfig, KvStore, MailboxStore, MailboxStoreError};
use kith_store::{DataLock, EngineKind, LockError};

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
    let Some(engine) = config.store.kind.engine() else {
        check_kind(folder, None)?;
        return open_database(config, host, key).await;
    };
    check_kind(folder, Some(engine))?;
    let config = KvConfig {
        engine,
        owner: Some(DeviceId(KeyPair::from_seed(key).public())),
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
    let store = store.map_err(|error| match error {
        MailboxStoreError::Damaged(_) => anyhow!(
            "the store in {}: {error}. Keep the folder to be looked at, and `kith-relay restore` the last backup into a new \
             one",
            folder.store().display()
        ),
        other => anyhow!("the store in {}: {other}", folder.store().display()),
    })?;
    Ok(Arc::new(store))
}

/// Another kind of store than the one that is here would begin empty: all mailboxes would seem to be gone.
fn check_kind(folder: &Folder, wanted: Option<EngineKind>) -> anyhow::Result<()> {
    let is_here = |kind: &EngineKind| folder.store().join(kind.name()).exists();
    if wanted.is_some_and(|kind| is_here(&kind)) {
        return Ok(());
    }
    let others = [EngineKind::Redb, EngineKind::Sled].into_iter().filter(|kind| Some(*kind) != wanted);
    if let Some(found) = others.into_iter().find(is_here) {
        bail!(
            "the mailboxes of this relay are in {} in {}, and store.kind in relay.toml is {:?}, which would begin empty: set it \
             back, or move them (`kith-relay backup`, then `kith-relay restore --moved --config` with the new relay.toml)",
            found.name(),
            folder.store().display(),
            wanted.map_or("postgres", EngineKind::name)
        );
    }
    Ok(())
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
