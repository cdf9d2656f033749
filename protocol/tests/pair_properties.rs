//! Properties that must hold whatever two people and their network do: nothing accepted is lost, each message once,
//! ranks only rise, every tick has a proof, the same order on both sides after quiet.

use kith_protocol::engine::Command;
use kith_protocol::testing::{Pair, Weather, Who};
use proptest::prelude::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Send(Who, u8),
    Edit(Who),
    Delete(Who),
    React(Who),
    Read(Who),
    Wait(u64),
    Cut,
    Network(bool),
    CrashIn(Who, u64),
    Weather(u64, u32, u32, bool),
    Skew(Who, i64),
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![Just(Who::A), Just(Who::B)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (who(), 1..6_u8).prop_map(|(who, count)| Step::Send(who, count)),
        1 => who().prop_map(Step::Edit),
        1 => who().prop_map(Step::Delete),
        1 => who().prop_map(Step::React),
        2 => who().prop_map(Step::Read),
        4 => (0..30_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Cut),
        1 => any::<bool>().prop_map(Step::Network),
        3 => (who(), 0..40_u64).prop_map(|(who, outputs)| Step::CrashIn(who, outputs)),
        1 => (0..3_000_u64, 0..100_u32, 0..100_u32, any::<bool>())
            .prop_map(|(delay, loss, duplicate, reorder)| Step::Weather(delay, loss, duplicate, reorder)),
        1 => (who(), -600_000..600_000_i64).prop_map(|(who, millis)| Step::Skew(who, millis)),
    ]
}

fn play(pair: &mut Pair, steps: &[Step]) {
    let mut number = 0;
    for step in steps {
        match step {
            Step::Send(who, count) => {
                for _ in 0..*count {
                    number += 1;
                    pair.send(*who, &format!("message {number}"));
                }
            }
            Step::Edit(who) => {
                if let Some(target) = own_message(pair, *who) {
                    let _ = pair.command(*who, Command::Edit { target, text: format!("edited {number}") });
                }
            }
            Step::Delete(who) => {
                if let Some(target) = own_message(pair, *who) {
                    let _ = pair.command(*who, Command::Delete { target });
                }
            }
            Step::React(who) => {
                if let Some(target) = pair.history(*who).last().map(|entry| entry.id) {
                    let _ = pair.command(*who, Command::React { target, emoji: "👍".into() });
                }
            }
            Step::Read(who) => {
                let with = pair.side(who.other()).account;
                let _ = pair.command(*who, Command::MarkRead { with, up_to: None });
            }
            Step::Wait(millis) => pair.run_for(*millis),
            Step::Cut => pair.cut(),
            Step::Network(up) => pair.set_network(*up),
            Step::CrashIn(who, outputs) => pair.crash_in(*who, *outputs),
            Step::Weather(delay, loss, duplicate, reorder) => pair.set_weather(Weather {
                delay: 1,
                delay_max: 1 + delay,
                loss: *loss,
                duplicate: *duplicate,
                reorder: *reorder,
            }),
            Step::Skew(who, millis) => pair.skew(*who, *millis),
        }
    }
}

fn own_message(pair: &Pair, who: Who) -> Option<kith_protocol::EntryId> {
    let own = pair.side(who).account;
    pair.history(who)
        .into_iter()
        .rev()
        .find(|entry| entry.author == own && !entry.deleted)
        .map(|entry| entry.id)
}

/// A day of good weather: whatever happened before, now all must come right.
fn quiet(pair: &mut Pair) -> bool {
    pair.set_network(true);
    pair.set_weather(Weather::FAIR);
    pair.crash_in(Who::A, u64::MAX);
    pair.crash_in(Who::B, u64::MAX);
    pair.run_until(86_400_000, |pair| pair.all_delivered() && pair.standing(Who::A) == pair.standing(Who::B))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_no_tick_lies(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..40)) {
        let mut pair = Pair::friends(seed, Weather::FAIR);
        play(&mut pair, &steps);
        let quiet = quiet(&mut pair);
        let left = [Who::A, Who::B].map(|who| {
            pair.history(who).into_iter().map(|entry| (entry.text, entry.rank)).collect::<Vec<_>>()
        });
        prop_assert!(quiet, "not at rest after a day: {:?}", left);
        pair.check();
        pair.check_same_history();
    }

    #[test]
    fn strangers_meet_whatever_crashes(seed in any::<u64>(), a in 0..30_u64, b in 0..30_u64, foul in any::<bool>()) {
        let mut pair = Pair::new(seed, if foul { Weather::FOUL } else { Weather::FAIR });
        pair.crash_in(Who::A, a + 5);
        pair.crash_in(Who::B, b + 5);
        pair.befriend();
        pair.send(Who::A, "one");
        pair.send(Who::B, "two");
        prop_assert!(quiet(&mut pair));
        pair.check();
    }
}

#[test]
fn three_thousand_messages_in_random_order_all_open() {
    // within the time an envelope waits at a hole, and beyond it, where repair takes over
    for (seed, delay_max) in [(1, 8_000), (2, 45_000)] {
        let mut pair = Pair::friends(seed, Weather::FAIR);
        pair.set_weather(Weather { delay: 1, delay_max, loss: 0, duplicate: 30, reorder: true });
        for number in 0..3_000 {
            pair.send(Who::A, &format!("{number}")).expect("sent");
        }
        // looked at once in ten virtual seconds: a look reads everything
        let done = (0..7 * 8_640).any(|_| {
            pair.run_for(10_000);
            pair.all_delivered()
        });
        assert!(done, "{} of 3000 arrived", pair.history(Who::B).len());
        let texts: Vec<String> = pair.history(Who::B).into_iter().map(|entry| entry.text).collect();
        let wanted: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
        assert_eq!(texts, wanted);
        pair.check();
    }
}
