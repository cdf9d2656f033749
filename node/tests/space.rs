//! A store without room: what was refused is said, what is stored can be read, and all goes on once there is room.

mod support;

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use kith_network::{Environment, Keypair, Purpose, Transport};
use kith_node::api::Error;
use kith_node::protocol::{Mono, Wall};
use kith_node::{Host, ProductHost};
use kith_store::{OpenError, OpenReport, Store, StoreConfig};
use support::{Person, befriend, deliver, patient};

const QUOTA: u64 = 64 * 1024 * 1024;

/// The product's host with a store that may not outgrow a quota.
struct Tight(ProductHost);

impl Host for Tight {
    fn open_store(&self, config: StoreConfig) -> Result<(Store, OpenReport), OpenError> {
        Store::open(StoreConfig { quota_bytes: Some(QUOTA), ..config })
    }
}

impl Environment for Tight {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.0.spawn(name, task);
    }
    fn wall(&self) -> Wall {
        self.0.wall()
    }
    fn mono(&self) -> Mono {
        self.0.mono()
    }
    fn sleep(&self, millis: u64) -> BoxFuture<'static, ()> {
        self.0.sleep(millis.min(50))
    }
    fn rng(&self) -> Box<dyn rand::CryptoRng + Send> {
        self.0.rng()
    }
    fn transport(&self, identity: &Keypair, purpose: Purpose) -> io::Result<Transport> {
        self.0.transport(identity, purpose)
    }
    fn has_lan(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_can_be_read_and_takes_messages_again_once_there_is_room() {
    let mut ann = Person::on("Ann", Arc::new(Tight(ProductHost::current().unwrap())));
    let mut bob = Person::new("Bob");
    let (a, b) = (ann.start().await, bob.start().await);
    befriend(&a, ann.account, &b, bob.account).await;
    deliver(&ann.session(), bob.account, "before").await;

    // the folder is measured anew after a mebibyte at the latest
    let ballast = ann.folder.store().join("ballast");
    std::fs::File::create(&ballast).unwrap().set_len(2 * QUOTA).unwrap();
    let refused = patient(async {
        loop {
            match a.send(bob.account, "x".repeat(16_000), None, None).await {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(matches!(&refused, Error::Store { message } if message.contains("quota")), "{refused:?}");
    let again = patient(a.send(bob.account, "still full".to_owned(), None, None)).await;
    assert!(matches!(&again, Err(Error::Store { .. })), "{again:?}");
    let stored = a.history(bob.account, 1_000, None).unwrap();
    assert!(stored.iter().any(|message| message.text == "before"));

    std::fs::remove_file(&ballast).unwrap();
    patient(async {
        while a.send(bob.account, "after".to_owned(), None, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    deliver(&ann.session(), bob.account, "last").await;
    let arrived = b.history(ann.account, 1_000, None).unwrap();
    assert!(arrived.iter().any(|message| message.text == "after"));
    assert!(!arrived.iter().any(|message| message.text == "still full"), "what was refused is not sent");
    ann.stop().await;
    bob.stop().await;
}
