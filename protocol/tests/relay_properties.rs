//! Properties that must hold whatever two people, who come and go, and their relays do: nothing accepted is lost, each
//! message once, ranks only rise, every tick has a proof, the same order on both sides after quiet.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use kith_protocol::engine::Command;
use kith_protocol::testing::{Pair, Temper, Weather, Who};
use proptest::prelude::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Send(Who, u8),
    Read(Who),
    Wait(u64),
    Stop(Who),
    Start(Who),
    Network(bool),
    CrashIn(Who, u64),
    Relay(usize, bool),
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![Just(Who::A), Just(Who::B)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (who(), 1..6_u8).prop_map(|(who, count)| Step::Send(who, count)),
        1 => who().prop_map(Step::Read),
        4 => (0..60_000_u64).prop_map(Step::Wait),
        2 => who().prop_map(Step::Stop),
        2 => who().prop_map(Step::Start),
        1 => any::<bool>().prop_map(Step::Network),
        3 => (who(), 0..60_u64).prop_map(|(who, outputs)| Step::CrashIn(who, outputs)),
        2 => (0..3_usize, any::<bool>()).prop_map(|(number, up)| Step::Relay(number, up)),
    ]
}

fn play(pair: &mut Pair, steps: &[Step]) {
    let mut number = 0;
    for step in steps {
        match step {
            Step::Send(who, count) if !pair.is_stopped(*who) => {
                for _ in 0..*count {
                    number += 1;
                    pair.send(*who, &format!("message {number}"));
                }
            }
            Step::Read(who) if !pair.is_stopped(*who) => {
                let with = pair.side(who.other()).account;
                let _ = pair.command(*who, Command::MarkRead { with, up_to: None });
            }
            Step::Send(..) | Step::Read(_) => {}
            Step::Wait(millis) => pair.run_for(*millis),
            Step::Stop(who) => pair.stop(*who),
            Step::Start(who) if pair.is_stopped(*who) => pair.start(*who),
            Step::Start(_) => {}
            Step::Network(up) => pair.set_network(*up),
            Step::CrashIn(who, outputs) => pair.crash_in(*who, *outputs),
            Step::Relay(number, up) => pair.set_relay(*number, *up),
        }
    }
}

/// Everybody and every relay is there for two days, but there is no direct way between the two.
fn quiet(pair: &mut Pair) -> bool {
    pair.set_network(false);
    for number in 0..3 {
        pair.set_relay(number, true);
    }
    for who in [Who::A, Who::B] {
        pair.crash_in(who, u64::MAX);
        if pair.is_stopped(who) {
            pair.start(who);
        }
    }
    pair.run_until(2 * 86_400_000, |pair| {
        pair.all_delivered() && pair.standing(Who::A) == pair.standing(Who::B)
    })
}

fn world(seed: u64, tempers: [Temper; 3]) -> Pair {
    let mut pair = Pair::friends(seed, Weather::FAIR);
    for temper in tempers {
        pair.add_relay(temper, &[Who::A, Who::B]);
    }
    pair.run_for(60_000);
    pair
}

fn holds(mut pair: Pair, steps: &[Step]) -> Result<(), TestCaseError> {
    play(&mut pair, steps);
    let quiet = quiet(&mut pair);
    let left = [Who::A, Who::B]
        .map(|who| pair.history(who).into_iter().map(|entry| (entry.text, entry.rank)).collect::<Vec<_>>());
    prop_assert!(quiet, "not at rest after two days: {:?}", left);
    pair.check();
    pair.check_same_history();
    for number in 0..3 {
        prop_assert_eq!(pair.relay(number).audit(), []);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_by_good_relays(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..40)) {
        holds(world(seed, [Temper::Good; 3]), &steps)?;
    }

    #[test]
    fn nothing_is_lost_by_a_liar_and_a_slow_one(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        holds(world(seed, [Temper::Good, Temper::Lying, Temper::Slow(4_000)]), &steps)?;
    }

    #[test]
    fn nothing_is_lost_by_a_full_one(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..30)) {
        holds(world(seed, [Temper::Good, Temper::Full(5), Temper::Good]), &steps)?;
    }
}
