//! What a person does beside chatting: naming messages, moving house, asking what is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use kith_tests::{DELIVERED, PATIENCE, Person, two_friends, wait_until};

#[test]
fn a_message_is_named_by_the_first_digits_of_its_id() {
    let (ana, ben) = two_friends();
    let id = ana.deliver(&ben, "where am I?");
    assert_eq!(ana.kith(&["status", &id[..8]]).ok().object()["id"], id.as_str());
    ana.kith(&["edit", &id[..12], "here"]).ok();
    wait_until("the edit arrives", DELIVERED, || ben.texts("Ana") == ["here"]);
    let short = ana.kith(&["status", &id[..7]]).failed(1);
    assert!(short.stderr.contains("first 8 digits"), "{}", short.stderr);
}

#[test]
fn an_account_moves_to_another_folder_in_one_sealed_file() {
    let (mut ana, ben) = two_friends();
    ana.deliver(&ben, "before the move");
    let file = ana.data().with_extension("export");
    let seal = ana.data().with_extension("seal");
    std::fs::write(&seal, "correct horse battery staple\n").unwrap();
    let (file, seal) = (file.to_str().unwrap(), seal.to_str().unwrap());
    let busy = ana.kith(&["export", file, "--seal", seal]).failed(1);
    assert!(busy.stderr.contains("kith stop"), "{}", busy.stderr);
    ana.stop();
    ana.kith(&["export", file, "--seal", seal]).ok();
    ana.kith(&["export", file, "--seal", seal]).failed(1);

    let mut new_home = Person::stranger("Ana");
    let wrong = ben.data().with_extension("seal");
    std::fs::write(&wrong, "something else\n").unwrap();
    new_home.kith(&["import", file, "--seal", wrong.to_str().unwrap(), "--key", "file"]).failed(1);
    new_home.kith(&["import", file, "--seal", seal, "--key", "file"]).ok();
    assert_eq!(new_home.texts("Ben"), ["before the move"]);
    new_home.run();
    wait_until("the friend is on-line", PATIENCE, || {
        new_home.contact("Ben").is_some_and(|contact| contact["online"] == true)
    });
    new_home.deliver(&ben, "after the move");
    assert_eq!(ben.texts("Ana"), ["before the move", "after the move"]);
}

#[test]
fn the_doctor_names_a_folder_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let ana = Person::new("Ana");
    ana.kith(&["doctor"]).ok();
    std::fs::set_permissions(ana.data(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let answer = ana.kith(&["doctor"]).failed(1);
    let problem = answer.lines.iter().find(|finding| finding["level"] == "problem").expect("a problem");
    assert_eq!(problem["check"], "key");
    assert!(problem["text"].as_str().unwrap().contains("chmod 700"), "{problem}");
}

#[test]
fn lines_are_sent_by_a_node_of_their_own_where_none_runs() {
    let (mut ana, ben) = two_friends();
    ana.stop();
    let done = ana.kith_with_input(&["send", "Ben", "--lines", "-"], b"one\n\nthree").ok().object();
    assert_eq!((&done["sent"], &done["delivered"]), (&3.into(), &3.into()));
    assert_eq!(ben.texts("Ana"), ["one", "", "three"]);
}

#[test]
fn lines_that_do_not_arrive_in_time_stay_queued_and_are_counted() {
    let (ana, mut ben) = two_friends();
    ben.kill();
    let args = ["send", "Ben", "--lines", "-", "--timeout", "1s"];
    let done = ana.kith_with_input(&args, b"one\ntwo\n").failed(1).object();
    assert_eq!((&done["sent"], &done["delivered"]), (&2.into(), &0.into()));
    ben.run();
    wait_until("both arrive later", DELIVERED, || ben.texts("Ana") == ["one", "two"]);
}

#[test]
fn a_passphrase_is_needed_again_by_whoever_opens_the_store_and_not_by_whoever_attaches() {
    let ana = Person::stranger("Ana");
    let file = ana.data().with_extension("passphrase");
    std::fs::write(&file, "open sesame\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let without = ana.kith(&["init", "--name", "Ana", "--key", "passphrase"]);
    assert!(without.stderr.contains("--passphrase-file"), "{}", without.stderr);
    ana.kith(&["init", "--name", "Ana", "--key", "passphrase", "--passphrase-file", &file]).ok();
    let asked = ana.kith(&["profile"]).failed(1);
    assert!(asked.stderr.contains("--passphrase-file"), "{}", asked.stderr);
    assert_eq!(ana.kith(&["profile", "--passphrase-file", &file]).ok().object()["name"], "Ana");
    std::fs::write(&file, "open barley\n").unwrap();
    let wrong = ana.kith(&["profile", "--passphrase-file", &file]).failed(1);
    assert!(wrong.stderr.contains("wrong"), "{}", wrong.stderr);
    std::fs::write(&file, "open sesame\n").unwrap();
    let listen = ["run", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--passphrase-file", &file];
    let node = ana.start(&listen);
    wait_until("commands attach without the passphrase", PATIENCE, || ana.kith(&["status"]).code == Some(0));
    ana.kith(&["stop"]).ok();
    node.finish(PATIENCE).ok();
}
