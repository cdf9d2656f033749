//! What the cryptography of a message costs.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::cell::RefCell;
use std::hint::black_box;

use kith_protocol::Wall;
use kith_protocol::crypto::bundle::Bundle;
use kith_protocol::crypto::envelope;
use kith_protocol::crypto::session::{self, LocalDevice};
use kith_protocol::identity::{Certificate, KeyPair};
use kith_protocol::record::Session;
use kith_protocol::secret::Secret32;
use kith_tests::bench::{Bar, report, time};

const NOW: Wall = Wall(1_790_000_000_000);
const TEXT: &[u8] = b"See you at nine, at the old harbour. I will bring the blue plates and your umbrella.";

struct Device {
    key: KeyPair,
    local: LocalDevice,
}

fn device(n: u8) -> Device {
    let account = KeyPair::from_seed(&Secret32::new([n; 32]));
    let key = KeyPair::from_seed(&Secret32::new([n + 1; 32]));
    let identity_secret = Secret32::new([n + 2; 32]);
    let identity_key = LocalDevice::identity_key(&identity_secret);
    let certificate = Certificate::sign(&account, &key, identity_key, NOW, NOW.plus(365 * 86_400_000), 1);
    Device { key, local: LocalDevice { identity_secret, certificate } }
}

fn main() {
    let (ana, ben) = (device(1), device(11));
    let prekey = Bundle::create(&ben.key, &ben.local.certificate, 1, NOW, &mut rand::rng());
    let bundle = Bundle::parse(&prekey.bundle).unwrap();
    let start = || session::start(&ana.local, &bundle, None, NOW, &mut rand::rng()).unwrap();

    report("session start, first side", "us", &time(200, || drop(black_box(start()))), Bar::AtMost(1_000.0));
    let mut fresh = start();
    let first = session::encrypt(&mut fresh, TEXT, &mut rand::rng()).unwrap();
    let accept = || session::accept(&ben.local, &prekey, &first, NOW, &mut rand::rng()).unwrap();
    report("session start, other side", "us", &time(200, || drop(black_box(accept()))), Bar::AtMost(1_000.0));
    report(
        "bundle made",
        "us",
        &time(200, || {
            drop(black_box(Bundle::create(&ben.key, &ben.local.certificate, 1, NOW, &mut rand::rng())))
        }),
        Bar::None,
    );
    report("bundle checked", "us", &time(200, || drop(black_box(Bundle::parse(&prekey.bundle)))), Bar::None);

    let mut at_ben: Session = accept().session;
    let answer = session::encrypt(&mut at_ben, TEXT, &mut rand::rng()).unwrap();
    session::decrypt(&mut fresh, &answer).unwrap();
    let (ana_side, ben_side) = (RefCell::new(fresh), RefCell::new(at_ben));
    let right = Secret32::new([7; 32]);
    let sealed = RefCell::new(Vec::new());
    let encrypt = time(2_000, || {
        let content = session::encrypt(&mut ana_side.borrow_mut(), TEXT, &mut rand::rng()).unwrap();
        sealed.borrow_mut().push(envelope::seal(&right, &content, &mut rand::rng()).unwrap());
    });
    report("encrypt and seal a message", "us", &encrypt, Bar::AtMost(100.0));
    let mut envelopes = sealed.into_inner().into_iter();
    let decrypt = time(2_000, || {
        let Some(bytes) = envelopes.next() else { return };
        let content = envelope::open(&right, &bytes).unwrap();
        black_box(session::decrypt(&mut ben_side.borrow_mut(), &content).unwrap());
    });
    report("open and decrypt a message", "us", &decrypt, Bar::AtMost(100.0));
}
