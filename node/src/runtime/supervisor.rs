//! Keeps an Engine running: after a failed write the store is opened anew and a new Engine starts from it.

use std::sync::Arc;

use kith_network::Event;
use kith_protocol::Engine;
use kith_protocol::engine::Transient;
use kith_protocol::record::Reader;
use kith_store::{CommitError, Store, StoreConfig};

use super::driver::{Driver, Ended, Ports};
use super::live::Live;
use super::orders::Order;
use super::shelf::Shelf;
use crate::api::Error;
use crate::host::now;

/// First pause before the store is opened anew, in milliseconds.
const PAUSE_MIN: u64 = 1_000;
/// Longest pause before the store is opened anew.
const PAUSE_MAX: u64 = 60_000;
/// How often a full disk is looked at.
const ROOM_CHECK: u64 = 2_000;

/// Everything a node's task needs.
pub(crate) struct Supervisor {
    pub(super) ports: Ports,
    pub(super) store: StoreConfig,
    pub(super) shelf: Arc<Shelf>,
}

impl Supervisor {
    /// Runs until the node is told to stop. The store is closed when this ends.
    pub(crate) async fn run(mut self, engine: Engine, store: Store) {
        let mut life = Some(Driver::new(engine, store));
        let mut pause = PAUSE_MIN;
        while let Some(mut driver) = life.take() {
            let born = self.ports.host.mono();
            let ended = driver.run(&mut self.ports).await;
            match ended {
                Ended::Stopped => break,
                Ended::NetworkGone => {
                    tracing::error!("the network has ended by itself; the node stops");
                    break;
                }
                Ended::Commit(error) if error.is_space() => {
                    tracing::error!(%error, "nothing can be stored; waiting for room");
                    self.leave();
                    life = self.until_room(driver.into_store(), error).await;
                }
                Ended::Commit(error) => {
                    drop(driver);
                    tracing::error!(%error, "a write failed; the store is opened anew");
                    if self.ports.host.mono().since(born) > PAUSE_MAX {
                        pause = PAUSE_MIN;
                    }
                    self.shelf.replace(Err(format!("a write failed, so it is being opened anew: {error}")));
                    self.leave();
                    life = self.reopen(&mut pause).await;
                }
            }
        }
        self.shelf.replace(Err("the node has stopped".to_owned()));
        self.ports.stop.cancel();
        self.ports.network.shutdown().await;
    }

    /// Takes back what the old Engine has told the world.
    fn leave(&mut self) {
        for account in self.ports.presence.clear() {
            // nobody may be listening
            let _ = self.ports.live.send(Live::Transient(Transient::Online { account, online: false }));
        }
        for device in self.ports.links.forget() {
            self.ports.orders.push(Order::Disconnect(device));
        }
    }

    /// Opens the store and an Engine, again and again until that works or the node is told to stop.
    async fn reopen(&mut self, pause: &mut u64) -> Option<Driver> {
        loop {
            if !self.wait(*pause, &Error::Interrupted).await {
                return None;
            }
            *pause = pause.saturating_mul(2).min(PAUSE_MAX);
            match self.open() {
                Ok((engine, store)) => {
                    self.shelf.replace(Ok(store.reader()));
                    tracing::info!("the store is open again");
                    return Some(Driver::new(engine, store));
                }
                Err(error) => tracing::error!(%error, "the store cannot be opened anew; trying again"),
            }
        }
    }

    /// Waits until there is room on the disk again, or the node is told to stop. What is stored can be read meanwhile.
    async fn until_room(&mut self, store: Store, mut error: CommitError) -> Option<Driver> {
        loop {
            if !self.wait(ROOM_CHECK, &store_error(&error)).await {
                return None;
            }
            match store.resume() {
                Ok(()) => match self.begin(&store) {
                    Ok(engine) => {
                        tracing::info!("there is room again");
                        return Some(Driver::new(engine, store));
                    }
                    Err(error) => tracing::error!(%error, "the store cannot be read; trying again"),
                },
                Err(still) => error = still,
            }
        }
    }

    /// A new Engine on what is stored.
    fn begin(&self, store: &Store) -> Result<Engine, Error> {
        let host = self.ports.host.as_ref();
        let reader: Box<dyn Reader> = Box::new(store.reader());
        Engine::open(reader, host.rng(), now(host)).map_err(store_error)
    }

    fn open(&self) -> Result<(Engine, Store), Error> {
        let host = self.ports.host.as_ref();
        let (store, report) = host.open_store(self.store.clone()).map_err(store_error)?;
        if let Some(notice) = report.notice() {
            tracing::warn!("{notice}");
        }
        Ok((self.begin(&store)?, store))
    }

    /// Waits, answering who asks and taking note of what the network says. False if the node is to stop.
    async fn wait(&mut self, millis: u64, answer: &Error) -> bool {
        let mut over = self.ports.host.sleep(millis);
        loop {
            tokio::select! {
                () = self.ports.stop.cancelled() => return false,
                () = &mut over => return true,
                () = self.ports.orders.room() => self.ports.orders.flush(),
                call = self.ports.calls.recv() => match call {
                    // whoever asked may be gone
                    Some(call) => { let _ = call.reply.send(Err(answer.clone())); }
                    None => return false,
                },
                event = self.ports.events.recv() => match event {
                    Some(Event::Connected { peer, .. }) => {
                        // no Engine would hear its frames; it comes back later
                        self.ports.orders.push(Order::Disconnect(peer));
                    }
                    Some(event) => self.ports.links.note(&event),
                    None => return false,
                },
            }
        }
    }
}

fn store_error(error: impl std::fmt::Display) -> Error {
    Error::Store { message: error.to_string() }
}
