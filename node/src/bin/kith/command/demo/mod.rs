//! `kith demo`: two nodes in one terminal meet, chat, part and meet again.
//!
//! Nothing in it is made up: both nodes are whole ones with a data folder, a socket and an encrypted link of their own,
//! and so is the relay, if its program is there.

mod relay;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use kith_node::account::{self, NewAccount};
use kith_node::api::{ContactStatus, EventStream, JourneyView, Session, Status};
use kith_node::keys::KeyKind;
use kith_node::protocol::{AccountId, EntryId};
use kith_node::{Builder, Folder, Node, ProductHost};
use tokio::time::Instant;

use crate::app::{App, random16};
use crate::failure::usage;
use crate::out::{Out, Style};
use crate::render;
use crate::text::{fit, wrap};
use crate::tick::tick;

/// Ceiling of any single step on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a step, for the eyes of a person at a terminal.
const PAUSE: Duration = Duration::from_millis(700);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) async fn perform(app: &App) -> anyhow::Result<()> {
    if app.out.json {
        return Err(usage("the demo is for people; leave --json out"));
    }
    let stage = Stage::new()?;
    let shown = tokio::select! {
        shown = Box::pin(show(&app.out, &stage)) => shown,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    stage.clear();
    shown
}

/// The folder both data folders are in; gone when the demo ends.
struct Stage(PathBuf);

impl Stage {
    fn new() -> anyhow::Result<Self> {
        let name = u128::from_le_bytes(random16()?);
        let path = std::env::temp_dir().join(format!("kith-demo-{name:032x}"));
        Folder::new(&path).create().with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self(path))
    }

    fn clear(self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("kith: {} is left behind ({error}); delete it", self.0.display());
        }
    }
}

/// One of the two.
struct Actor {
    name: &'static str,
    folder: Folder,
    account: AccountId,
    node: Option<Node>,
}

impl Actor {
    fn new(name: &'static str, stage: &Path) -> anyhow::Result<Self> {
        let folder = Folder::new(stage.join(name));
        let new = NewAccount { key: KeyKind::File, ..NewAccount::named(name) };
        let account = account::create(&ProductHost::current()?, &folder, new)?.account;
        Ok(Self { name, folder, account, node: None })
    }

    async fn come(&mut self) -> anyhow::Result<()> {
        let builder = Builder::new(self.folder.clone()).listen(["/ip4/127.0.0.1/tcp/0"]).mdns(false);
        self.node = Some(Box::pin(builder.start()).await?);
        Ok(())
    }

    async fn go(&mut self) {
        if let Some(node) = self.node.take() {
            node.shutdown().await;
        }
    }

    fn session(&self) -> anyhow::Result<Session> {
        let node = self.node.as_ref().with_context(|| format!("{} is not on-line", self.name))?;
        Ok(Session::Local(node.handle()))
    }
}

async fn show(out: &Out, stage: &Stage) -> anyhow::Result<()> {
    let mut ana = Actor::new("Ana", &stage.0)?;
    let mut ben = Actor::new("Ben", &stage.0)?;
    let relay = match relay::program() {
        Some(program) => Some(relay::Relay::start(&program, &stage.0.join("relay")).await?),
        None => None,
    };
    let address = relay.as_ref().map(|relay| relay.address.clone());
    let played = Box::pin(play(out, &mut ana, &mut ben, address)).await;
    // also after an error both stores are closed before their folder goes
    ana.go().await;
    ben.go().await;
    if let Some(relay) = relay {
        relay.stop().await;
    }
    played
}

async fn play(out: &Out, ana: &mut Actor, ben: &mut Actor, relay: Option<String>) -> anyhow::Result<()> {
    say(out, "Ana and Ben, each with a node of their own on this machine. There is no server.")?;
    ana.come().await?;
    ben.come().await?;

    title(out, "They meet")?;
    let invite = ana.session()?.invite(1, 60 * 60 * 1_000).await?;
    step(out, &format!("Ana makes a link for one person: {}", fit(&invite.uri, 40))).await?;
    let began = Instant::now();
    ben.session()?.accept(invite.uri).await?;
    meet(ana, ben).await?;
    meet(ben, ana).await?;
    step(out, &format!("Ben accepts it. {} later each has the other as a contact, on-line.", span(began)))
        .await?;

    title(out, "They chat")?;
    talk(out, ben, ana, "Hi Ana! Nobody in between?").await?;
    talk(out, ana, ben, "Nobody. Straight to your machine, encrypted end to end.").await?;

    title(out, "Ana goes away")?;
    ana.go().await;
    step(out, "Ana’s node is off. Ben writes all the same:").await?;
    let mut line = Line::begin(out, ben, ana, "See you at nine?")?;
    let sent = ben.session()?.send(ana.account, "See you at nine?".to_owned(), None, None).await?;
    line.status(sent.status)?;
    line.end()?;
    step(out, "It is on Ben’s disk, and nothing claims more than that. Now Ben’s node goes off, too, and comes back:")
        .await?;
    ben.go().await;
    ben.come().await?;
    let mut line = Line::begin(out, ben, ana, "See you at nine?")?;
    line.status(ben.session()?.message(sent.id).await?.status)?;
    line.end()?;

    title(out, "Ana comes back")?;
    let began = Instant::now();
    let mut events = ben.session()?.events(None).await?;
    ana.come().await?;
    let mut line = Line::begin(out, ben, ana, "See you at nine?")?;
    reach(ben, sent.id, Status::Delivered, &mut events).await?;
    line.status(Status::Delivered)?;
    line.remark(&format!("{} after Ana’s start", span(began)))?;
    read(out, ben, ana, sent.id, line).await?;
    talk(out, ana, ben, "At nine. I see you wrote while I was away 👋").await?;
    let sent = match relay {
        Some(relay) => Box::pin(by_relay(out, ana, ben, &relay)).await?,
        None => sent.id,
    };

    title(out, "Where was it all the time? `kith status` tells of every message:")?;
    journey(out, &ben.session()?.journey(sent).await?)?;
    say(out, "")?;
    say(
        out,
        "Your turn: `kith init --name YOU`, `kith run`, `kith invite`; a friend types `kith accept LINK`.",
    )
}

/// They are never on-line together, and a relay carries what one writes to the other.
async fn by_relay(out: &Out, ana: &mut Actor, ben: &mut Actor, relay: &str) -> anyhow::Result<EntryId> {
    title(out, "Never on-line together")?;
    for actor in [&*ana, &*ben] {
        keep_mailbox(actor, relay).await?;
    }
    // told of each other's relay once something written after it has arrived
    talk(out, ana, ben, "I have a relay now: it keeps sealed mail for me.").await?;
    talk(out, ben, ana, "So have I.").await?;
    ana.go().await;
    step(
        out,
        "Ana’s node is off. Ben writes; the relay signs that it keeps it, without knowing who wrote what:",
    )
    .await?;
    let mut events = ben.session()?.events(None).await?;
    let mut line = Line::begin(out, ben, ana, "Can you read this?")?;
    let sent = ben.session()?.send(ana.account, "Can you read this?".to_owned(), None, None).await?;
    line.status(sent.status)?;
    reach(ben, sent.id, Status::Sent, &mut events).await?;
    line.status(Status::Sent)?;
    line.end()?;
    ben.go().await;
    step(out, "Now Ben’s node is off, too. Ana’s comes back, and fetches it from the relay:").await?;
    ana.come().await?;
    arrive(ana, ben, sent.id).await?;
    ana.session()?.mark_read(ben.account, Some(sent.id)).await?;
    settle(ana).await?;
    step(out, "She reads it and goes off. When Ben’s node is back, his tick is right:").await?;
    ana.go().await;
    ben.come().await?;
    let mut events = ben.session()?.events(None).await?;
    let mut line = Line::begin(out, ben, ana, "Can you read this?")?;
    reach(ben, sent.id, Status::Read, &mut events).await?;
    line.status(Status::Read)?;
    line.end()?;
    Ok(sent.id)
}

/// Has a mailbox opened at the relay, and waits until it is.
async fn keep_mailbox(actor: &Actor, relay: &str) -> anyhow::Result<()> {
    let session = actor.session()?;
    session.add_relay(relay.to_owned(), None).await?;
    look(&format!("{} has a mailbox", actor.name), async || {
        Ok(session.relays().await?.iter().any(|relay| relay.named && relay.connected))
    })
    .await
}

/// Waits until a message is on somebody's disk.
async fn arrive(at: &Actor, from: &Actor, id: EntryId) -> anyhow::Result<()> {
    let session = at.session()?;
    look(&format!("{}’s message arrives", from.name), async || Ok(session.message(id).await.is_ok())).await
}

/// Waits until nothing of somebody is on the way any more.
async fn settle(actor: &Actor) -> anyhow::Result<()> {
    let session = actor.session()?;
    look(&format!("{}’s receipt is kept by the relay", actor.name), async || {
        Ok(session.status().await?.queued == 0)
    })
    .await
}

/// Waits for a condition.
async fn look(what: &str, holds: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let over = Instant::now() + PATIENCE;
    while !holds().await? {
        if Instant::now() >= over {
            bail!("not within {} s: {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until one of them is an accepted, connected contact of the other.
async fn meet(one: &Actor, other: &Actor) -> anyhow::Result<()> {
    let session = one.session()?;
    let over = Instant::now() + PATIENCE;
    loop {
        let contact = session.contact(other.account).await;
        if contact.is_ok_and(|contact| contact.state == ContactStatus::Accepted && contact.online) {
            return Ok(());
        }
        if Instant::now() >= over {
            bail!("{} and {} did not meet within {} s", one.name, other.name, PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One writes, the other reads.
async fn talk(out: &Out, from: &Actor, to: &Actor, text: &str) -> anyhow::Result<()> {
    let session = from.session()?;
    let mut events = session.events(None).await?;
    let mut line = Line::begin(out, from, to, text)?;
    let began = Instant::now();
    let sent = session.send(to.account, text.to_owned(), None, None).await?;
    line.status(sent.status)?;
    reach(from, sent.id, Status::Delivered, &mut events).await?;
    line.status(Status::Delivered)?;
    line.remark(&span(began))?;
    read(out, from, to, sent.id, line).await
}

/// The other displays it, and says so.
async fn read(out: &Out, from: &Actor, to: &Actor, id: EntryId, mut line: Line<'_>) -> anyhow::Result<()> {
    pause(out).await;
    let mut events = from.session()?.events(None).await?;
    to.session()?.mark_read(from.account, Some(id)).await?;
    reach(from, id, Status::Read, &mut events).await?;
    line.status(Status::Read)?;
    line.end()
}

/// Waits until a message of somebody is as far as wanted, and not merely said to be.
async fn reach(whose: &Actor, id: EntryId, wanted: Status, events: &mut EventStream) -> anyhow::Result<()> {
    let session = whose.session()?;
    let over = Instant::now() + PATIENCE;
    loop {
        let status = session.message(id).await?.status;
        if status.meets(wanted) {
            return Ok(());
        }
        match tokio::time::timeout_at(over, events.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => bail!("{}’s node has ended", whose.name),
            Err(_) => bail!("the message was still {status} after {} s", PATIENCE.as_secs()),
        }
    }
}

/// A message with the ticks it gets, one after the other.
struct Line<'a> {
    out: &'a Out,
}

impl<'a> Line<'a> {
    fn begin(out: &'a Out, from: &Actor, to: &Actor, text: &str) -> anyhow::Result<Self> {
        let names = format!("{} → {}", from.name, to.name);
        print(&format!("  {}  {text}", out.paint(Style::Name, &names)))?;
        Ok(Self { out })
    }

    fn status(&mut self, status: Status) -> anyhow::Result<()> {
        print(&format!("  {}", tick(self.out, status, kith_node::api::CustodyView::default())))
    }

    fn remark(&mut self, text: &str) -> anyhow::Result<()> {
        print(&self.out.paint(Style::Dim, &format!(" {text}")))
    }

    fn end(self) -> anyhow::Result<()> {
        print("\n")
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

fn say(out: &Out, text: &str) -> anyhow::Result<()> {
    for line in wrap(text, out.columns.min(100)) {
        out.line(line)?;
    }
    Ok(())
}

fn title(out: &Out, text: &str) -> anyhow::Result<()> {
    out.line(format!("\n{}", out.paint(Style::Bold, text)))
}

async fn step(out: &Out, text: &str) -> anyhow::Result<()> {
    for line in wrap(text, out.columns.min(100).saturating_sub(2)) {
        out.line(format!("  {line}"))?;
    }
    pause(out).await;
    Ok(())
}

async fn pause(out: &Out) {
    if out.terminal {
        tokio::time::sleep(PAUSE).await;
    }
}

fn span(began: Instant) -> String {
    let millis = began.elapsed().as_millis();
    if millis < 1_000 { format!("{millis} ms") } else { format!("{:.1} s", began.elapsed().as_secs_f64()) }
}

fn journey(out: &Out, journey: &JourneyView) -> anyhow::Result<()> {
    for line in render::journey(out, journey, true) {
        out.line(format!("  {line}"))?;
    }
    Ok(())
}
