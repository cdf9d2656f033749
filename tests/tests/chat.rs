//! `kith chat` as a person uses it: on a terminal, here one that `script` of util-linux makes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use kith_tests::{DELIVERED, PATIENCE, Person, kith_binary, two_friends, wait_until, wait_within};

#[test]
fn two_people_talk_in_their_terminals_and_what_they_see_counts_as_read() {
    let (ana, ben) = two_friends();
    let Some(mut anas) = Terminal::open(&ana, "chat Ben") else { return };
    let Some(mut bens) = Terminal::open(&ben, "chat Ana") else { return };

    anas.type_line("hello from a terminal");
    bens.shows("hello from a terminal");
    bens.type_line("hello to you, too 👋");
    anas.shows("hello to you, too 👋");
    wait_until("what was on the screen was read", DELIVERED, || {
        ana.history("Ben").iter().all(|message| message["status"] == "read")
    });
    anas.type_line("/info");
    anas.shows("elivered");
    anas.type_line("/quit");
    bens.type_line("/quit");
    anas.ends();
    bens.ends();
}

#[test]
fn a_chat_shows_what_was_said_before_and_what_comes_late() {
    let (ana, mut ben) = two_friends();
    ana.deliver(&ben, "said before");
    let Some(mut terminal) = Terminal::open(&ana, "chat Ben") else { return };
    terminal.shows("said before");
    ben.kill();
    terminal.type_line("said to nobody yet");
    wait_until("it is queued", PATIENCE, || {
        ana.last_message("Ben").is_some_and(|message| message["text"] == "said to nobody yet")
    });
    ben.run();
    wait_until("it is delivered", PATIENCE, || {
        ana.last_message("Ben").is_some_and(|message| message["status"] == "delivered")
    });
    terminal.type_line("/quit");
    terminal.ends();
}

#[test]
fn control_characters_of_a_message_do_not_reach_the_terminal() {
    let (ana, ben) = two_friends();
    let Some(mut terminal) = Terminal::open(&ana, "chat Ben") else { return };
    ben.deliver(&ana, "red\u{1b}[31malert\u{7}, bell \u{9b}2J end");
    terminal.shows("alert");
    let screen = terminal.screen();
    assert!(
        !screen.contains("\u{1b}[31malert") && !screen.contains("alert\u{7}") && !screen.contains('\u{9b}')
    );
    terminal.type_line("/quit");
    terminal.ends();
}

#[test]
fn what_was_written_right_before_quit_is_sent() {
    let (ana, ben) = two_friends();
    let mut chat =
        ana.readable_command(&["chat", "Ben"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"one\ntwo\nthree\n/quit\nnot this\n").unwrap();
    wait_until("the chat ends", PATIENCE, || chat.try_wait().unwrap().is_some());
    assert!(chat.wait().unwrap().success());
    wait_until("all of it arrives", DELIVERED, || ben.texts("Ana") == ["one", "two", "three"]);
}

/// One terminal with a chat in it.
struct Terminal {
    child: Child,
    stdin: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// None, with a word about it, where there is no `script`.
    fn open(person: &Person, line: &str) -> Option<Self> {
        if Command::new("script").arg("--version").output().is_err() {
            println!("left out: no `script` program (util-linux)");
            return None;
        }
        let data = person.data();
        let shell = format!("{} --data {} {line}", kith_binary().display(), data.display());
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &shell, "/dev/null"])
            .env("HOME", data.parent().unwrap())
            .env("TERM", "dumb")
            .env("COLUMNS", "100")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                shown.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        let terminal = Self { child, stdin, screen };
        wait_until("the chat begins", PATIENCE, || !terminal.screen().is_empty());
        Some(terminal)
    }

    fn type_line(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\r").as_bytes()).unwrap();
        self.stdin.flush().unwrap();
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn shows(&self, text: &str) {
        let found = wait_within(DELIVERED, || self.screen().contains(text).then_some(()));
        assert!(found.is_some(), "the screen does not show {text:?}\n{}", self.screen());
    }

    fn ends(&mut self) {
        wait_until("the chat ends", PATIENCE, || self.child.try_wait().unwrap().is_some());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.screen());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
