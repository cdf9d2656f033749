//! Two engines that have no way to each other but relays.

use kith_protocol::record::{Grant, GrantState, KeyRange, Relay};
use kith_protocol::testing::{Pair, Temper, Weather, Who};

/// Two contacts whose relays are these, and no direct way between them any more.
pub(crate) fn apart(seed: u64, tempers: &[Temper]) -> Pair {
    let mut pair = Pair::friends(seed, Weather::FAIR);
    for temper in tempers {
        pair.add_relay(*temper, &[Who::A, Who::B]);
    }
    let ready = |pair: &Pair| [Who::A, Who::B].into_iter().all(|who| settled(pair, who));
    assert!(pair.run_until(60 * 60_000, ready), "the relays never came to be used");
    pair.run_for(5_000);
    pair.set_network(false);
    pair
}

/// All rights are registered, and everybody was told of the relays.
pub(crate) fn settled(pair: &Pair, who: Who) -> bool {
    let relays: Vec<Relay> = pair.rows(who, &KeyRange::Relays);
    let registered = relays.iter().all(|relay| {
        pair.rows::<Grant>(who, &KeyRange::Grants(relay.relay))
            .iter()
            .all(|grant| grant.state == GrantState::Registered)
    });
    registered && relays.iter().all(|relay| relay.bundle.is_some()) && pair.jobs(who).is_empty()
}

pub(crate) fn texts(pair: &Pair, who: Who) -> Vec<String> {
    pair.history(who).into_iter().map(|entry| entry.text).collect()
}

pub(crate) fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}
