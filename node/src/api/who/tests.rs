use proptest::prelude::*;

use super::*;

fn person(n: u8, own_name: Option<&str>, profile_name: &str) -> Person {
    Person {
        account: AccountId([n; 32]),
        own_name: own_name.map(str::to_owned),
        profile_name: profile_name.to_owned(),
    }
}

fn account(n: u8) -> AccountId {
    AccountId([n; 32])
}

#[test]
fn an_id_and_its_first_eight_digits_mean_the_account() {
    let people = [person(0xab, None, "Ann"), person(0xcd, None, "Bob")];
    let pins = Pins::default();
    assert_eq!(resolve(&account(0xab).to_string(), &people, &pins), Meaning::One(account(0xab)));
    assert_eq!(resolve("CDCDCDCD", &people, &pins), Meaning::One(account(0xcd)));
    assert_eq!(resolve("cdcdcdc", &people, &pins), Meaning::Nobody);
}

#[test]
fn a_shared_prefix_is_ambiguous() {
    let mut second = [0xab; 32];
    second[31] = 1;
    let people = [person(0xab, None, "Ann"), Person { account: AccountId(second), ..person(0, None, "Bob") }];
    assert_eq!(
        resolve("abababab", &people, &Pins::default()),
        Meaning::Several(vec![account(0xab), AccountId(second)])
    );
}

#[test]
fn our_own_name_beats_a_profile_name() {
    let people = [person(1, Some("Ann"), "Other"), person(2, None, "Ann")];
    let pins = Pins::default();
    assert_eq!(resolve("Ann", &people, &pins), Meaning::One(account(1)));
    assert_eq!(resolve("@Ann", &people, &pins), Meaning::One(account(1)));
    assert_eq!(resolve("@Other", &people, &pins), Meaning::Nobody);
}

#[test]
fn profile_names_compare_after_folding() {
    let people = [person(1, None, "ＡＮＮ Straße"), person(2, None, "Ὀδυσσεύς")];
    let pins = Pins::default();
    assert_eq!(resolve("ann STRASSE", &people, &pins), Meaning::ByProfileName(account(1)));
    assert_eq!(resolve("ὈΔΥΣΣΕΎΣ", &people, &pins), Meaning::ByProfileName(account(2)));
}

#[test]
fn two_people_of_one_name_are_ambiguous() {
    let people = [person(1, None, "Ann"), person(2, None, "ann")];
    assert_eq!(resolve("Ann", &people, &Pins::default()), Meaning::Several(vec![account(1), account(2)]));
}

#[test]
fn a_renaming_never_redirects_a_name_in_use() {
    let mut pins = Pins::default();
    assert!(pins.pin("Bob", account(1)));
    assert!(!pins.pin("bob", account(2)), "the first use stays");
    // the first Bob calls himself Robert now, another contact takes his name
    let people = [person(1, None, "Robert"), person(2, None, "Bob")];
    assert_eq!(resolve("Bob", &people, &pins), Meaning::Several(vec![account(2), account(1)]));
    // without the impostor the old name still finds him
    assert_eq!(resolve("Bob", &people[..1], &pins), Meaning::ByProfileName(account(1)));
    // and once he is gone, the name is free
    assert_eq!(resolve("Bob", &people[1..], &pins), Meaning::ByProfileName(account(2)));
}

proptest! {
    #[test]
    fn nothing_typed_panics_or_means_a_stranger(who in ".{0,80}", names in prop::collection::vec(".{0,12}", 0..6)) {
        let people: Vec<_> =
            names.iter().enumerate().map(|(n, name)| person(n as u8, None, name)).collect();
        match resolve(&who, &people, &Pins::default()) {
            Meaning::One(account) | Meaning::ByProfileName(account) => {
                prop_assert!(people.iter().any(|person| person.account == account));
            }
            Meaning::Several(accounts) => prop_assert!(accounts.len() > 1),
            Meaning::Nobody => {}
        }
    }

    #[test]
    fn whoever_is_named_alone_is_found(name in "[a-zA-Zäöüßéñ]{1,7}", other in "[a-zA-Z]{1,7}") {
        prop_assume!(fold(&name) != fold(&other));
        let people = [person(1, None, &name), person(2, None, &other)];
        prop_assert_eq!(resolve(&name, &people, &Pins::default()), Meaning::ByProfileName(account(1)));
        prop_assert_eq!(resolve(&name.to_uppercase(), &people, &Pins::default()), Meaning::ByProfileName(account(1)));
    }

    #[test]
    fn once_pinned_a_name_never_means_another_person_alone(
        name in "[a-z]{1,6}", later in prop::collection::vec("[a-z]{1,6}", 2..5)
    ) {
        let mut pins = Pins::default();
        pins.pin(&name, account(0));
        let people: Vec<_> =
            later.iter().enumerate().map(|(n, name)| person(n as u8, None, name)).collect();
        match resolve(&name, &people, &pins) {
            Meaning::One(found) | Meaning::ByProfileName(found) => prop_assert_eq!(found, account(0)),
            Meaning::Several(all) => prop_assert!(all.contains(&account(0))),
            Meaning::Nobody => prop_assert!(false, "the pinned person is still a contact"),
        }
    }
}
