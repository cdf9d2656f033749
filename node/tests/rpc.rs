//! The API in another process's place: over a WebSocket, for holders of the token only.
#![cfg(feature = "rpc")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use std::net::SocketAddr;

use kith_node::api::{Error, EventBodyView, Session, Status};
use kith_node::rpc::{ApiFile, Client, ServeError, Server, serve};
use support::{Person, deliver, meet, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn served(person: &Person) -> (Server, Session) {
    let server = serve(&person.handle(), &person.folder, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let client = Client::attach(&person.folder).await.unwrap().expect("a node runs");
    (server, Session::Remote(client))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_session_does_what_a_local_one_does() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let (_server, remote) = served(&ann).await;
    let local = ann.session();
    let mut events = remote.events(None).await.unwrap();
    let sent = deliver(&remote, bob.account, "over the socket").await;
    let seen = until(&mut events, |event| match &event.body {
        EventBodyView::Status { id, status: Status::Delivered, .. } => Some(*id),
        _ => None,
    })
    .await;
    assert_eq!(seen, sent.id);
    assert_eq!(remote.history(bob.account, 5, None).await, local.history(bob.account, 5, None).await);
    assert_eq!(remote.contacts().await, local.contacts().await);
    assert_eq!(remote.journey(sent.id).await, local.journey(sent.id).await);
    assert_eq!(remote.profile().await, local.profile().await);
    assert_eq!(remote.status().await.unwrap().addresses, local.status().await.unwrap().addresses);
    assert_eq!(remote.invite(2, 60_000).await.unwrap().uses, 2);
    // errors arrive as they are
    let nobody = remote.resolve("Nobody".to_owned()).await;
    assert_eq!(nobody, Err(Error::UnknownWho { who: "Nobody".to_owned() }));
    let long = remote.send(bob.account, "x".repeat(20_000), None, None).await.unwrap_err();
    assert!(matches!(&long, Error::Refused { reason, .. } if reason == "too-long"), "{long}");
    // the longest text there can be fits through the socket, however it is escaped
    deliver(&remote, bob.account, &"\u{1}".repeat(16 * 1024)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_over_the_socket_ends_the_node_and_takes_the_file_away() {
    let mut ann = Person::new("Ann");
    ann.start().await;
    let (server, remote) = served(&ann).await;
    assert!(ann.folder.api().exists());
    remote.stop().await.unwrap();
    support::patient(ann.node.as_ref().unwrap().ended()).await;
    support::patient(server.stop()).await;
    assert!(!ann.folder.api().exists());
    assert!(Client::attach(&ann.folder).await.unwrap().is_none());
    let gone = remote.profile().await.unwrap_err();
    assert!(gone.is_passing(), "{gone}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_file_with_the_token_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let mut ann = Person::new("Ann");
    ann.start().await;
    let (first, _) = served(&ann).await;
    let mode = std::fs::metadata(ann.folder.api()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = ApiFile::read(&ann.folder).unwrap().unwrap().token;
    first.stop().await;
    let (_second, _) = served(&ann).await;
    assert_ne!(ApiFile::read(&ann.folder).unwrap().unwrap().token, token);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_a_socket() {
    let mut ann = Person::new("Ann");
    ann.start().await;
    let open = serve(&ann.handle(), &ann.folder, "0.0.0.0:0".parse().unwrap()).await;
    assert!(matches!(open, Err(ServeError::NotLoopback(_))));

    let (_server, remote) = served(&ann).await;
    let file = ApiFile::read(&ann.folder).unwrap().unwrap();
    let host = file.address.strip_prefix("ws://").unwrap().to_owned();
    let token = format!("Authorization: Bearer {}\r\n", file.token);
    assert_eq!(upgrade(&host, &host, &token).await, 101);
    assert_eq!(upgrade(&host, &host, "").await, 403);
    assert_eq!(upgrade(&host, &host, "Authorization: Bearer 00\r\n").await, 403);
    assert_eq!(upgrade(&host, &host, &format!("{token}Origin: http://{host}\r\n")).await, 403);
    assert_eq!(upgrade(&host, "evil.example", &token).await, 403);
    assert!(remote.profile().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_left_by_a_killed_node_is_no_node() {
    let ann = Person::new("Ann");
    let left = r#"{"address":"ws://127.0.0.1:1","token":"00","pid":4194304999}"#;
    std::fs::write(ann.folder.api(), left.replace("4194304999", "4194303")).unwrap();
    assert!(Client::attach(&ann.folder).await.unwrap().is_none());
    std::fs::write(ann.folder.api(), left).unwrap();
    assert!(Client::attach(&ann.folder).await.is_ok(), "a damaged file is no node either");
}

/// Asks for a WebSocket and returns the HTTP status.
async fn upgrade(address: &str, host: &str, headers: &str) -> u16 {
    let address: SocketAddr = address.parse().unwrap();
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    support::patient(socket.read_exact(&mut answer)).await.unwrap();
    std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
}
