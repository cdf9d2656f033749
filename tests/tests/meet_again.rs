//! Two contacts change their addresses and find each other again through the directory, with no new invite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use kith_tests::{MEET, PATIENCE, Person, free_port, loopback, meet, wait_until};

#[test]
fn contacts_under_new_addresses_meet_through_a_third_node_and_only_through_it() {
    let mut cy = Person::new("Cy").listening_at(&[loopback(free_port())]);
    let bootstrap = vec![cy.run().address(&["/tcp/"]).to_owned()];
    let mut ana = Person::new("Ana").bootstrapping_at(&bootstrap);
    let mut ben = Person::new("Ben").bootstrapping_at(&bootstrap);
    ana.run();
    ben.run();
    meet(&ana, &ben);
    ana.deliver(&ben, "I am going to move");

    move_both(&mut ana, &mut ben);
    let time =
        wait_until("they meet through the third node", MEET, || online(&ana, "Ben") && online(&ben, "Ana"));
    println!("met after {time:?}");
    ana.deliver(&ben, "moved once");

    cy.kill();
    move_both(&mut ana, &mut ben);
    let queued = ana
        .kith(&["send", "Ben", "moved twice", "--wait", "delivered", "--timeout", "15s"])
        .failed(1)
        .object();
    assert_eq!(queued["status"], "queued");
    assert!(!online(&ana, "Ben") && !online(&ben, "Ana"), "they had no way to find each other");

    cy.run();
    let id = queued["id"].as_str().unwrap();
    wait_until("they meet once the third node is back", MEET, || ana.status_of(id) == "delivered");
}

#[test]
fn a_contact_that_comes_back_at_its_old_address_is_found_without_any_third_node() {
    let mut ana = Person::new("Ana");
    let mut ben = Person::new("Ben").listening_at(&[loopback(free_port())]);
    ana.run();
    ben.run();
    meet(&ana, &ben);
    ben.kill();
    wait_until("the absence is noticed", PATIENCE, || !online(&ana, "Ben"));
    ben.run();
    wait_until("back again", PATIENCE, || online(&ana, "Ben"));
}

fn move_both(ana: &mut Person, ben: &mut Person) {
    ana.stop();
    ben.stop();
    ana.move_to(&[loopback(free_port())]);
    ben.move_to(&[loopback(free_port())]);
    ana.run();
    ben.run();
}

fn online(person: &Person, whom: &str) -> bool {
    person.contact(whom).is_some_and(|contact| contact["online"] == true)
}
