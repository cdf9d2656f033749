//! A bad client: it asks relays as much as it can, of every kind, most of it nonsense.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kith_network::{Config, Environment as _, Event, Limits, Network, Options};
use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::crypto::right::{mailbox_id, sign_open};
use kith_protocol::engine::LinkId;
use kith_protocol::identity::KeyPair;
use kith_protocol::secret::Secret32;
use kith_protocol::wire::Frame;
use kith_protocol::wire::relay::{Ask, Deposit, OpenMailbox, RelayRequest};
use kith_protocol::{Address, DeviceId, MailboxId, RightId};

use crate::draw::Draw;
use crate::host::Life;

/// How often it asks, in milliseconds,
const EVERY: u64 = 100;
/// and how much at once on each link: four times what a relay allows one link.
const AT_ONCE: usize = 200;
/// A link that was closed is opened again after this, in milliseconds.
const AGAIN: u64 = 2_000;
/// One request of so many is no request at all; a relay hangs up after a few of those.
const GARBAGE: usize = 2_000;

/// Floods these relays for as long as the life lasts.
pub(crate) fn flood(life: &Arc<Life>, seed: u64, listen: String, relays: Vec<(DeviceId, Address)>) {
    let me = Arc::clone(life);
    life.run(async move {
        let mut draw = Draw::new(seed, "flood", u64::from(me.host));
        let mut options = Options::new(Secret32::new(draw.bytes()));
        options.listen = vec![listen];
        options.mdns = false;
        options.limits = Limits { memory: None, ..Limits::default() };
        let environment: Arc<Life> = Arc::clone(&me);
        let Ok(config) = Config::new(options) else { return };
        let Ok((network, events)) = kith_network::start(environment, config) else { return };
        let client = Client { life: me, network, relays, links: BTreeMap::new(), asked: 0, draw };
        Box::pin(client.run(events)).await;
    });
}

struct Client {
    life: Arc<Life>,
    network: Network,
    relays: Vec<(DeviceId, Address)>,
    /// With the nonce of each link's hello, once it came.
    links: BTreeMap<LinkId, (DeviceId, Option<[u8; 32]>)>,
    asked: u64,
    draw: Draw,
}

impl Client {
    async fn run(mut self, mut events: tokio::sync::mpsc::Receiver<Event>) {
        self.dial().await;
        let (mut next, mut dial_again) = (self.life.mono().plus(EVERY), None);
        loop {
            let now = self.life.mono();
            if dial_again.is_some_and(|at| now >= at) {
                dial_again = None;
                self.dial().await;
            }
            if now >= next {
                next = now.plus(EVERY);
                self.ask();
            }
            let sleep = self.life.sleep(next.since(now).max(1));
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Connected { peer, link, .. }) => {
                        self.links.insert(link, (peer, None));
                    }
                    Some(Event::Disconnected { link, .. }) => {
                        self.links.remove(&link);
                        dial_again.get_or_insert(now.plus(AGAIN));
                    }
                    Some(Event::DialFailed { .. }) => {
                        dial_again.get_or_insert(now.plus(AGAIN));
                    }
                    Some(Event::Frame { link, bytes, .. }) => {
                        if let (Ok(Frame::RelayHello(hello)), Some(known)) =
                            (Frame::decode(&bytes), self.links.get_mut(&link))
                        {
                            known.1 = Some(hello.nonce);
                        }
                    }
                    Some(_) => {}
                },
                () = sleep => {}
            }
        }
    }

    async fn dial(&self) {
        for (relay, address) in &self.relays {
            // one that cannot be asked for is asked for again
            let _ = self.network.dial(*relay, vec![address.clone()]).await;
        }
    }

    fn ask(&mut self) {
        for (link, (relay, nonce)) in self.links.clone() {
            for _ in 0..AT_ONCE {
                let frame = self.frame(&relay, nonce);
                if self.network.send(link, frame).is_err() {
                    break;
                }
            }
        }
    }

    fn frame(&mut self, relay: &DeviceId, nonce: Option<[u8; 32]>) -> Bytes {
        self.asked += 1;
        if self.draw.below(GARBAGE) == 0 {
            return Bytes::copy_from_slice(&self.draw.bytes::<64>());
        }
        let mailbox = MailboxId(self.draw.bytes());
        let ask = match (self.draw.below(6), nonce) {
            (0, Some(nonce)) => {
                // a mailbox of its own, another one each time
                let key = KeyPair::from_seed(&Secret32::new(self.draw.bytes()));
                let signature = sign_open(&key, relay, &nonce);
                Ask::Open(OpenMailbox { read_key: key.public(), signature, token: Bytes::new() })
            }
            (1, _) => Ask::List { mailbox, after: 0, max: 512 },
            (2, _) => Ask::Get { mailbox, envelopes: Vec::new() },
            (3, _) => Ask::TakeBundle {
                mailbox: mailbox_id(&self.draw.bytes()),
                right: RightId(self.draw.bytes()),
                nonce: self.draw.bytes(),
                mac: self.draw.bytes(),
            },
            _ => {
                let envelope = Bytes::copy_from_slice(&self.draw.bytes::<256>());
                Ask::Deposit(Deposit {
                    mailbox,
                    right: RightId(self.draw.bytes()),
                    id: envelope_id(&envelope),
                    ttl: 3_600,
                    mac: self.draw.bytes(),
                    envelope,
                })
            }
        };
        Frame::RelayRequest(RelayRequest { id: self.asked, ask }).encode()
    }
}
