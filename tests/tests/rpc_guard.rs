//! The API is for programs of this user on this machine: no web page and nobody without the token can use it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use kith_tests::{PATIENCE, Person, wait_until};
use serde_json::Value;

#[test]
fn only_the_owner_can_read_the_token() {
    let mut ana = Person::new("Ana");
    ana.run();
    let file = ana.data().join("api.json");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let token = Api::of(&ana).token;
    assert!(token.len() >= 32, "a token that cannot be guessed");

    ana.stop();
    ana.run();
    assert_ne!(Api::of(&ana).token, token, "a new token for each start");
}

#[test]
fn the_api_listens_on_loopback_only() {
    let mut ana = Person::new("Ana");
    ana.run();
    assert!(Api::of(&ana).host.starts_with("127.0.0.1:"));
    ana.stop();
    ana.kith(&["run", "--no-mdns", "--api", "0.0.0.0:0"]).failed(2);
}

#[test]
fn a_program_with_the_token_gets_a_socket() {
    let mut ana = Person::new("Ana");
    ana.run();
    let api = Api::of(&ana);
    assert_eq!(api.upgrade(&[("Authorization", &format!("Bearer {}", api.token))]), 101);
}

#[test]
fn without_the_token_there_is_no_socket() {
    let mut ana = Person::new("Ana");
    ana.run();
    let api = Api::of(&ana);
    let wrong = "0".repeat(api.token.len());
    let shorter = &api.token[..api.token.len() - 1];
    refused(api.upgrade(&[]));
    for token in ["", &wrong, shorter, &format!("{}0", api.token)] {
        refused(api.upgrade(&[("Authorization", &format!("Bearer {token}"))]));
    }
    refused(api.upgrade(&[("Authorization", &api.token)]));
}

#[test]
fn a_web_page_gets_no_socket_even_if_it_knew_the_token() {
    let mut ana = Person::new("Ana");
    ana.run();
    let api = Api::of(&ana);
    let token = format!("Bearer {}", api.token);
    let here = format!("http://{}", api.host);
    for origin in ["https://example.org", "null", "file://", "http://localhost", &here] {
        refused(api.upgrade(&[("Authorization", &token), ("Origin", origin)]));
    }
}

#[test]
fn a_name_that_was_rebound_to_this_machine_gets_no_socket() {
    let mut ana = Person::new("Ana");
    ana.run();
    let api = Api::of(&ana);
    let token = format!("Bearer {}", api.token);
    refused(api.upgrade_as("attacker.example", &[("Authorization", &token)]));
}

#[test]
fn plain_http_requests_do_nothing() {
    let mut ana = Person::new("Ana");
    ana.run();
    let api = Api::of(&ana);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"status","params":[]}"#;
    let request = |headers: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            api.host,
            body.len()
        )
    };
    refused(api.status_of(&request("")));
    refused(api.status_of(&request("Origin: https://example.org\r\n")));
    assert_eq!(ana.kith(&["status"]).code, Some(0), "and the node is still well");
}

#[test]
fn garbage_and_half_requests_leave_the_api_up() {
    let mut ana = Person::new("Ana");
    ana.run();
    let api = Api::of(&ana);
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut socket = TcpStream::connect(&api.host).unwrap();
        // The node may hang up in the middle.
        let _ = socket.write_all(b"GET / HTTP/1.1\r\nHost: ");
        held.push(socket);
        let mut socket = TcpStream::connect(&api.host).unwrap();
        let _ = socket.write_all(&[0xff; 4096]);
    }
    assert_eq!(ana.kith(&["status"]).code, Some(0));
    drop(held);
    assert!(ana.node_mut().is_running());
}

#[test]
fn five_hundred_sockets_that_say_nothing_neither_stop_an_honest_program_nor_stay() {
    let mut ana = Person::new("Ana");
    ana.run();
    let api = Api::of(&ana);
    let pid = ana.node().pid();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open();
    let mut silent: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(&api.host).unwrap()).collect();
    assert_eq!(ana.kith(&["status"]).code, Some(0));
    let during = open();
    assert!(during < before + 100, "{before} file descriptors before, {during} with 500 silent sockets");
    // the oldest was sent away at once
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent[0].read(&mut [0; 16]).unwrap_or(0), 0);
    // and a program that is in stays, however many knock
    let mut inside = api.enter();
    let more: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&api.host).unwrap()).collect();
    assert_eq!(ana.kith(&["status"]).code, Some(0));
    inside.set_nonblocking(true).unwrap();
    let mut rest = [0; 4096];
    let end = loop {
        match inside.read(&mut rest) {
            Ok(0) => panic!("a program that was in was cut off"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(end.kind(), std::io::ErrorKind::WouldBlock);
    wait_until("all of them are sent away", PATIENCE, || open() < before + 16);
    drop((silent, more, inside));
}

struct Api {
    host: String,
    token: String,
}

impl Api {
    fn of(person: &Person) -> Self {
        let text = std::fs::read_to_string(person.data().join("api.json")).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert!(json["pid"].is_u64(), "{json}");
        let address = json["address"].as_str().unwrap();
        let host = address.trim_start_matches("ws://").trim_end_matches('/').to_owned();
        Self { host, token: json["token"].as_str().unwrap().to_owned() }
    }

    /// A socket that has shown the token.
    fn enter(&self) -> TcpStream {
        let mut socket = TcpStream::connect(&self.host).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {}\r\n\r\n",
            self.host, self.token
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
        socket
    }

    /// Asks for a WebSocket and returns the HTTP status.
    fn upgrade(&self, headers: &[(&str, &str)]) -> u16 {
        self.upgrade_as(&self.host, headers)
    }

    fn upgrade_as(&self, host: &str, headers: &[(&str, &str)]) -> u16 {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.status_of(&format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        ))
    }

    fn status_of(&self, request: &str) -> u16 {
        let mut socket = TcpStream::connect(&self.host).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.contains(&b'\n') {
            let mut buffer = [0; 512];
            let n = socket.read(&mut buffer).unwrap();
            assert!(n > 0, "the API hung up without an answer");
            answer.extend_from_slice(&buffer[..n]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status in {answer}"))
    }
}

fn refused(status: u16) {
    assert!(matches!(status, 401 | 403 | 405), "{status}");
}
