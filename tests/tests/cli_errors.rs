//! What the command line says when something is wrong, and the exit codes scripts rely on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use kith_tests::{PATIENCE, Person, meet, two_friends, wait_until};

#[test]
fn an_empty_folder_says_how_to_begin() {
    let nobody = Person::stranger("Nobody");
    for args in [
        ["run"].as_slice(),
        &["status"],
        &["contacts"],
        &["invite"],
        &["history", "Ana"],
        &["send", "Ana", "hi"],
        &["accept", "KITH:AAAA"],
    ] {
        let answer = nobody.kith(args).failed(1);
        assert!(answer.stderr.contains("kith init --name"), "{args:?}: {}", answer.stderr);
    }
}

#[test]
fn a_second_init_changes_nothing() {
    let ana = Person::new("Ana");
    let again = ana.kith(&["init", "--name", "Other", "--key", "file"]);
    assert!(matches!(again.code, Some(1 | 2)) && again.stderr.contains("already"), "{}", again.stderr);
    assert_eq!(ana.kith(&["profile"]).ok().object()["name"], "Ana");
}

#[test]
fn of_two_inits_at_once_one_makes_an_account_that_works() {
    for _ in 0..4 {
        let ana = Person::stranger("Ana");
        let init = |name| ana.kith(&["init", "--name", name, "--key", "file"]).code;
        let codes = std::thread::scope(|scope| {
            ["Ana", "Eva"].map(|name| scope.spawn(move || init(name))).map(|it| it.join().unwrap())
        });
        assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
        ana.kith(&["profile"]).ok();
    }
}

#[test]
fn an_init_beside_a_store_without_its_key_makes_no_other_key() {
    let ana = Person::new("Ana");
    let (key, away) = (ana.data().join("key.json"), ana.data().join("away"));
    std::fs::rename(&key, &away).unwrap();
    for args in [["status"].as_slice(), &["init", "--name", "Ana", "--key", "file"]] {
        let answer = ana.kith(args).failed(1);
        assert!(answer.stderr.contains("put the file back"), "{args:?}: {}", answer.stderr);
    }
    assert!(!key.exists());
    std::fs::rename(&away, &key).unwrap();
    ana.kith(&["profile"]).ok();
}

#[test]
fn the_words_of_an_account_go_to_a_new_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let ana = Person::stranger("Ana");
    let words = ana.data().with_extension("words");
    let words_arg = words.to_str().unwrap();
    ana.kith(&["init", "--name", "Ana", "--key", "file", "--phrase-file", words_arg]).ok();
    assert_eq!(std::fs::read_to_string(&words).unwrap().split_whitespace().count(), 24);
    assert_eq!(words.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let ben = Person::stranger("Ben");
    let before = std::fs::read(&words).unwrap();
    ben.kith(&["init", "--name", "Ben", "--key", "file", "--phrase-file", words_arg]).failed(1);
    assert_eq!(std::fs::read(&words).unwrap(), before, "an existing file is not overwritten");
}

#[test]
fn a_bad_invite_is_refused_with_a_reason() {
    let mut ana = Person::new("Ana");
    ana.run();
    let invite = ana.invite();
    let mut damaged = invite.clone().into_bytes();
    let middle = damaged.len() / 2;
    damaged[middle] = if damaged[middle] == b'A' { b'B' } else { b'A' };
    let damaged = String::from_utf8(damaged).unwrap();
    for bad in [
        "",
        "KITH:",
        "KITH:0189",
        "https://example.org",
        &invite[..invite.len() - 8],
        &damaged,
        &"KITH:A".repeat(10_000),
    ] {
        let answer = ana.kith(&["accept", bad]);
        assert!(matches!(answer.code, Some(1 | 2)), "{:?}: {}", answer.code, answer.stderr);
        assert!(!answer.stderr.trim().is_empty() && !answer.stderr.contains("panicked"), "{}", answer.stderr);
    }
    let own = ana.kith(&["accept", &invite]).failed(1);
    assert!(own.stderr.contains("your own"), "{}", own.stderr);
    assert!(ana.kith(&["contacts"]).ok().lines.is_empty());
}

#[test]
fn a_name_that_fits_several_contacts_is_refused_with_the_candidates() {
    let (ana, _ben) = two_friends();
    let mut other = Person::new("Ben");
    other.run();
    // The contact list holds two people of one name from here on.
    let invite = ana.invite();
    other.kith(&["accept", &invite]).ok();
    wait_until("both are contacts", PATIENCE, || ana.kith(&["contacts"]).ok().lines.len() == 2);

    let answer = ana.kith(&["send", "Ben", "which one?"]).failed(2);
    assert!(answer.stderr.contains(&other.account[..8]), "it names the candidates: {}", answer.stderr);
    ana.kith(&["send", &other.account[..8], "you"]).ok();
    ana.kith(&["contacts", "rename", &other.account[..8], "Benjamin"]).ok();
    ana.kith(&["send", "@Benjamin", "you again"]).ok();
    assert_eq!(ana.texts("Benjamin"), ["you", "you again"]);
}

#[test]
fn unknown_people_and_messages_are_named_in_the_error() {
    let mut ana = Person::new("Ana");
    ana.run();
    let answer = ana.kith(&["send", "Zoe", "hi"]);
    assert!(matches!(answer.code, Some(1 | 2)), "{:?}", answer.code);
    assert!(answer.stderr.contains("Zoe"), "{}", answer.stderr);
    ana.kith(&["status", &"ab".repeat(32)]).failed(1);
    let answer = ana.kith(&["status", "not-an-id"]);
    assert!(matches!(answer.code, Some(1 | 2)), "{:?}", answer.code);
}

#[test]
fn wrong_usage_exits_with_two() {
    let ana = Person::new("Ana");
    for args in [
        ["no-such-command"].as_slice(),
        &["send"],
        &["send", "Ana", "hi", "--wait", "whenever"],
        &["send", "Ana", "hi", "--timeout", "soon"],
        &["history"],
        &["invite", "--uses", "many"],
        &["run", "--no-mdns", "--listen", "not-an-address"],
        &["run", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", "/ip4/127.0.0.1"],
    ] {
        ana.kith(args).failed(2);
    }
}

#[test]
fn a_text_that_is_too_long_is_refused_with_both_sizes() {
    let (ana, ben) = two_friends();
    let largest = "x".repeat(16 * 1024);
    ana.deliver(&ben, &largest);
    let answer = ana.kith(&["send", "Ben", &format!("{largest}x")]);
    assert!(matches!(answer.code, Some(1 | 2)), "{:?}", answer.code);
    assert!(answer.stderr.contains("16384") || answer.stderr.contains("16 KiB"), "{}", answer.stderr);
    assert_eq!(ana.texts("Ben").len(), 1);
}

#[test]
fn a_message_may_come_from_standard_input_and_may_be_empty() {
    let (ana, ben) = two_friends();
    ana.kith_with_input(&["send", "Ben", "-"], "two\nlines".as_bytes()).ok();
    ana.deliver(&ben, "");
    assert_eq!(ben.texts("Ana"), ["two\nlines", ""]);
}

#[test]
fn a_line_that_can_be_no_message_stops_with_its_number_after_those_before_it_arrived() {
    let (ana, ben) = two_friends();
    let mut input = b"one\ntwo\n".to_vec();
    input.extend_from_slice(&[b'x'; 16 * 1024 + 1]);
    input.extend_from_slice(b"\nafter\n");
    let stopped = ana.kith_with_input(&["send", "Ben", "--lines", "-"], &input).failed(1);
    let counts = stopped.object();
    assert_eq!((&counts["sent"], &counts["delivered"]), (&2.into(), &2.into()));
    assert!(stopped.stderr.contains("line 3 is longer than 16384 bytes"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("lines 1 to 2 were sent and are delivered"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("tail -n +3"), "{}", stopped.stderr);
    assert_eq!(ben.texts("Ana"), ["one", "two"]);
    let stopped = ana.kith_with_input(&["send", "Ben", "--lines", "-"], b"\xff\xfe\n").failed(1);
    assert!(stopped.stderr.contains("line 1 is not UTF-8; nothing was sent"), "{}", stopped.stderr);
}

#[test]
fn typing_is_switched_like_receipts() {
    let mut ana = Person::new("Ana");
    ana.run();
    assert_eq!(ana.kith(&["settings", "typing", "off"]).ok().object()["typing"], false);
    assert_eq!(ana.kith(&["settings"]).ok().object()["typing"], false);
    assert_eq!(ana.kith(&["settings", "typing", "on"]).ok().object()["typing"], true);
    ana.kith(&["settings", "typing", "default"]).failed(2);
    let help = ana.kith(&["settings", "--help"]);
    assert!(help.stdout.contains("typing") && help.stdout.contains("receipts"), "{}", help.stdout);
}

#[test]
fn after_a_kill_stop_says_that_nothing_runs_even_if_the_number_is_another_programs_now() {
    let mut ana = Person::new("Ana");
    ana.run();
    let file = ana.data().join("api.json");
    ana.kill();
    let text = std::fs::read_to_string(&file).unwrap();
    let pid: serde_json::Value = serde_json::from_str(&text).unwrap();
    for now in [pid["pid"].to_string(), std::process::id().to_string()] {
        std::fs::write(&file, text.replace(&pid["pid"].to_string(), &now)).unwrap();
        let answer = ana.kith(&["stop"]).failed(1);
        assert!(
            answer.stderr.contains("was killed") && answer.stderr.contains("kith run"),
            "{}",
            answer.stderr
        );
        ana.kith(&["status"]).ok();
    }
    ana.run();
    ana.stop();
    let answer = ana.kith(&["stop"]).failed(1);
    assert!(answer.stderr.contains("nothing to stop"), "{}", answer.stderr);
}

#[test]
fn a_data_folder_that_cannot_be_one_is_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let ana = Person::stranger("Ana");
    std::fs::write(ana.data(), "I am a file").unwrap();
    for args in [["status"].as_slice(), &["init", "--name", "Ana"], &["run"]] {
        let answer = ana.kith(args).failed(2);
        assert!(answer.stderr.contains("names a folder"), "{args:?}: {}", answer.stderr);
    }
    std::fs::remove_file(ana.data()).unwrap();
    // one where anybody could put files of their own
    std::fs::create_dir(ana.data()).unwrap();
    let mode = |mode| std::fs::set_permissions(ana.data(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    std::fs::write(ana.data().join("theirs"), "").unwrap();
    let answer = ana.kith(&["init", "--name", "Ana", "--key", "file"]).failed(1);
    assert!(answer.stderr.contains("others on this machine can write in"), "{}", answer.stderr);
    assert!(!ana.data().join("key.json").exists());
    std::fs::remove_file(ana.data().join("theirs")).unwrap();
    ana.kith(&["init", "--name", "Ana", "--key", "file"]).ok();
    assert_eq!(ana.data().metadata().unwrap().permissions().mode() & 0o777, 0o700, "an empty one is closed");
}

#[test]
fn the_key_behind_a_link_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let ana = Person::new("Ana");
    let (key, elsewhere) = (ana.data().join("key.json"), ana.data().with_extension("key"));
    std::fs::rename(&key, &elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &key).unwrap();
    ana.kith(&["profile"]).ok();
    assert_eq!(elsewhere.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_is_no_link_is_refused_as_such() {
    let ana = Person::new("Ana");
    let noise: Vec<u8> = (0..2_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let answer = ana.kith_with_input(&["accept", "-"], &noise).failed(2);
    assert!(answer.stderr.contains("a link begins with KITH:"), "{}", answer.stderr);
    ana.kith_with_input(&["accept", "-"], b"hello\n").failed(1);
    for name in ["\u{200b}", "\u{2800}\u{2800}", "\u{206a}"] {
        let eve = Person::stranger("Eve");
        let answer = eve.kith(&["init", "--name", name, "--key", "file"]).failed(2);
        assert!(answer.stderr.contains("visible character"), "{}", answer.stderr);
    }
}

#[test]
fn help_shows_examples_and_version_shows_a_version() {
    let ana = Person::stranger("Ana");
    let help = ana.readable_command(&["--help"]).output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("kith init --name") && help.contains("chat"), "{help}");
    assert!(!help.contains('\u{1b}'), "no colours without a terminal");
    let version = ana.readable_command(&["--version"]).output().unwrap();
    assert!(version.status.success() && version.stdout.starts_with(b"kith "));
}

#[test]
fn a_damaged_store_is_reported_and_the_original_is_kept() {
    let (mut ana, ben) = two_friends();
    for number in 0..20 {
        ben.deliver(&ana, &format!("number {number}"));
    }
    ana.stop();
    let files = || -> Vec<std::path::PathBuf> { walk(&ana.data()) };
    let largest =
        files().into_iter().max_by_key(|file| file.metadata().map_or(0, |meta| meta.len())).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 64] {
        *byte ^= 0xff;
    }
    std::fs::write(&largest, &bytes).unwrap();
    let answer = ana.kith(&["store", "check"]);
    assert!(matches!(answer.code, Some(0 | 1)), "{:?} {}", answer.code, answer.stderr);
    assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
}

#[test]
fn every_command_that_needs_a_contact_accepts_its_account_id() {
    let mut ana = Person::new("Ana");
    let mut ben = Person::new("Ben");
    ana.run();
    ben.run();
    meet(&ana, &ben);
    ana.kith(&["send", &ben.account, "by id", "--wait", "delivered", "--timeout", "20s"]).ok();
    assert_eq!(ana.texts(&ben.account), ["by id"]);
    ben.kith(&["read", &ana.account[..12]]).ok();
    ana.kith(&["contacts", "verify", &ben.account]).ok();
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn an_account_is_not_made_twice_also_while_its_node_runs() {
    let mut ana = Person::new("Ana");
    for running in [false, true] {
        if running {
            ana.run();
        }
        let answer = ana.kith(&["init", "--name", "Ana", "--key", "file"]).failed(1);
        assert!(answer.stderr.contains("has an account already"), "{}", answer.stderr);
    }
}

#[test]
fn who_is_blocked_is_not_shown_on_line() {
    let (ana, _ben) = two_friends();
    wait_until("Ana sees Ben", PATIENCE, || ana.kith(&["status"]).ok().object()["contacts_online"] == 1);
    ana.kith(&["contacts", "block", "Ben"]).ok();
    assert_eq!(ana.contact("Ben").unwrap()["online"], false);
    assert_eq!(ana.kith(&["status"]).ok().object()["contacts_online"], 0);
    ana.kith(&["contacts", "unblock", "Ben"]).ok();
    wait_until("they meet again", PATIENCE, || ana.contact("Ben").unwrap()["online"] == true);
}
