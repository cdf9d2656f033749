//! Two nodes in one process: they meet by an invite and chat over loopback.
//!
//! `cargo run -p kith-node --example embed`

use std::error::Error;
use std::time::Duration;

use kith_node::account::{self, NewAccount};
use kith_node::api::{EventBodyView, Session, Status};
use kith_node::keys::KeyKind;
use kith_node::{Builder, Folder, Node, ProductHost};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let ann = start(Folder::new(home.path().join("ann")), "Ann").await?;
    let bob = start(Folder::new(home.path().join("bob")), "Bob").await?;
    let (a, b) = (Session::Local(ann.handle()), Session::Local(bob.handle()));
    let mut events = b.events(None).await?;

    let invite = a.invite(1, 3_600_000).await?;
    println!("Ann: {}", invite.uri);
    b.accept(invite.uri).await?;

    // Bob answers the first message he gets
    let answering = async {
        while let Some(event) = events.next().await {
            if let EventBodyView::Message { message } = event.body
                && message.author_name == "Ann"
            {
                println!("Bob reads: {}", message.text);
                b.mark_read(message.with, None).await?;
                return b.send(message.with, "hello Ann".to_owned(), Some(message.id), None).await;
            }
        }
        Err(kith_node::api::Error::Stopped)
    };
    let writing = async {
        let bob = loop {
            match a.resolve("Bob".to_owned()).await {
                Ok(contact) => break contact.account,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let sent = a.send(bob, "hello Bob".to_owned(), None, None).await?;
        let end = a.wait(sent.id, Status::Read, Duration::from_secs(10)).await?;
        println!("Ann's message is {}", end.status);
        Ok::<_, kith_node::api::Error>(bob)
    };
    let (answered, written) = tokio::join!(answering, writing);
    let end = b.wait(answered?.id, Status::Delivered, Duration::from_secs(10)).await?;
    println!("Bob's answer is {}", end.status);
    for message in a.history(written?, 10, None).await? {
        println!("  {} {}: {}", message.time, message.author_name, message.text);
    }

    ann.shutdown().await;
    bob.shutdown().await;
    Ok(())
}

async fn start(folder: Folder, name: &str) -> Result<Node, Box<dyn Error>> {
    let host = ProductHost::current()?;
    account::create(&host, &folder, NewAccount { key: KeyKind::File, ..NewAccount::named(name) })?;
    Ok(Builder::new(folder).listen(["/ip4/127.0.0.1/tcp/0"]).mdns(false).start().await?)
}
