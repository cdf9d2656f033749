//! `kith run` and `kith stop`: being on-line.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ArgAction;
use kith_node::api::{ContactStatus, Direction, EventBodyView, EventView, Session, Status};
use kith_node::protocol::{AccountId, EntryId};
use kith_node::rpc::{self, Client};
use kith_node::{Node, RunChanges};
use tokio::time::Instant;

use crate::app::{App, Busy};
use crate::attach;
use crate::out::Style;
use crate::render;
use crate::text::{clean_line, fit};
use crate::when;

/// How long a node may take to write what it has and close its store.
const STOP: Duration = Duration::from_secs(30);

/// `kith run`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "All options are remembered for the next start; so are the ports chosen at the first one.\n\
    `none` takes a remembered list back: kith run --bootstrap none\n\n\
    Examples:\n  kith run\n  kith run --listen /ip4/0.0.0.0/tcp/4001 --external /ip4/203.0.113.5/tcp/4001\n  \
    kith run --bootstrap /ip4/203.0.113.5/tcp/4001/p2p/12D3Koo…"
)]
pub(crate) struct Args {
    /// Listen here, for example /ip4/0.0.0.0/tcp/4001; may be given several times
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    listen: Vec<String>,
    /// A node through which to find contacts whose address has changed; may be given several times
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    bootstrap: Vec<String>,
    /// A relay that keeps what is sent to you while you are off-line; may be given several times (see `kith relay`)
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    relay: Vec<String>,
    /// An address at which others reach this node, for example through a forwarded port; may be given several times
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    external: Vec<String>,
    /// Serve the directory to others although no public address is confirmed (--serve=false: no more)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    serve: Option<bool>,
    /// Do not look for contacts on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Look for contacts on the local network again
    #[arg(long, conflicts_with = "no_mdns")]
    mdns: bool,
    /// Where programs on this machine attach; a loopback address
    #[arg(long, value_name = "IP:PORT")]
    api: Option<SocketAddr>,
}

impl Args {
    fn changes(&self) -> RunChanges {
        RunChanges {
            listen: list(&self.listen),
            bootstrap: list(&self.bootstrap),
            external: list(&self.external),
            serve: self.serve,
            mdns: self.mdns.then_some(true).or(self.no_mdns.then_some(false)),
            api: self.api,
        }
    }
}

/// Nothing given changes nothing; `none` empties the list.
fn list(given: &[String]) -> Option<Vec<String>> {
    match given {
        [] => None,
        [none] if none == "none" => Some(Vec::new()),
        given => Some(given.to_vec()),
    }
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    app.need_account()?;
    if let Ok(Some(client)) = Client::attach(&app.folder).await {
        bail!(running(app, client.pid()));
    }
    let passphrase = app.passphrase_if_needed()?;
    let busy = Busy::start(app, "Opening your data");
    let started = app
        .take_folder(async || {
            let builder =
                app.builder_with(passphrase.clone()).changes(args.changes()).progress(busy.progress());
            Box::pin(builder.start()).await
        })
        .await;
    busy.end();
    let Some(node) = started? else {
        bail!("a node is running on {} already; `kith stop` ends it", app.folder.path().display());
    };
    let restored = node.handle().status().ok().and_then(|status| status.restored);
    match (restored, node.notice()) {
        // told at each start, until somebody takes note
        (Some(restored), _) => notice_line(app, "restored", &restored.text)?,
        (None, Some(notice)) => notice_line(app, "store", &notice)?,
        (None, None) => {}
    }
    let server = match rpc::serve(&node.handle(), &app.folder, node.options().api).await {
        Ok(server) => server,
        Err(error) => {
            node.shutdown().await;
            return Err(error.into());
        }
    };
    let done = match add_relays(&node, &args.relay).await {
        Ok(()) => Box::pin(serve(app, &node)).await,
        Err(error) => Err(error),
    };
    server.stop().await;
    node.shutdown().await;
    let asked = done?;
    if app.out.json {
        app.out.json(&serde_json::json!({ "event": "stopped" }))?;
    } else if app.out.terminal {
        app.out.line("Off-line.")?;
    }
    if !asked {
        bail!(
            "the node has ended by itself; what it logged above says why. `kith store check` looks at its data"
        );
    }
    Ok(())
}

/// Relays given on the command line are the account's from now on.
async fn add_relays(node: &Node, relays: &[String]) -> anyhow::Result<()> {
    for address in relays {
        node.handle().add_relay(address.clone(), None).await?;
    }
    Ok(())
}

fn running(app: &App, pid: u32) -> String {
    format!(
        "a node is running on {} already (process {pid}); `kith stop` ends it",
        app.folder.path().display()
    )
}

/// Tells what happens until somebody ends it. True if somebody did.
async fn serve(app: &App, node: &Node) -> anyhow::Result<bool> {
    let handle = node.handle();
    let session = Session::Local(handle.clone());
    let mut events = session.events(None).await?;
    let status = session.status().await?;
    if app.out.json {
        app.out.json(&serde_json::json!({ "event": "listening", "addresses": status.addresses }))?;
    } else {
        app.out.line(format!("{} is on-line.", app.out.paint(Style::Bold, &clean_line(&status.name))))?;
        for line in render::places(&status.addresses) {
            app.out.line(format!("  {line}"))?;
        }
        if app.out.terminal {
            app.out.note(
                "Ctrl-C ends it. In another terminal: kith invite, kith contacts, kith chat NAME, kith status",
            );
        }
    }
    let mut end = std::pin::pin!(end_signal());
    let mut teller = Teller { app, closed: false, states: HashMap::new() };
    loop {
        tokio::select! {
            biased;
            ended = &mut end => {
                ended?;
                return Ok(true);
            }
            () = handle.stopping() => return Ok(true),
            () = node.ended() => return Ok(false),
            event = events.next() => match event {
                Some(event) => teller.tell(&session, &event).await?,
                None => return Ok(false),
            },
        }
    }
}

/// Ctrl-C, or whatever asks a service to end.
#[cfg(unix)]
async fn end_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be heard")?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended.context("signals cannot be heard"),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn end_signal() -> anyhow::Result<()> {
    tokio::signal::ctrl_c().await.context("signals cannot be heard")
}

/// One readable line for each message, contact and problem.
struct Teller<'a> {
    app: &'a App,
    closed: bool,
    /// What contacts are, as far as it was told.
    states: HashMap<AccountId, ContactStatus>,
}

impl Teller<'_> {
    async fn tell(&mut self, session: &Session, event: &EventView) -> anyhow::Result<()> {
        let app = self.app;
        if let EventBodyView::Notice { code, text, .. } = &event.body {
            return self.forgive(notice_line(app, code, text));
        }
        // what people write belongs on a screen, not into a service's log
        if app.out.json || !app.out.terminal {
            return Ok(());
        }
        let Some(line) = self.line(session, event).await else { return Ok(()) };
        let time = app.out.paint(Style::Dim, &when::clock(event.time));
        self.forgive(app.out.line(format!("{time} {line}")))
    }

    /// A terminal that is gone is no reason to be off-line.
    fn forgive(&mut self, printed: anyhow::Result<()>) -> anyhow::Result<()> {
        match printed {
            Err(error)
                if self.closed
                    || error.downcast_ref::<std::io::Error>().is_some_and(|error| {
                        matches!(error.kind(), ErrorKind::BrokenPipe) || error.raw_os_error() == Some(5)
                    }) =>
            {
                self.closed = true;
                Ok(())
            }
            printed => printed,
        }
    }

    async fn line(&mut self, session: &Session, event: &EventView) -> Option<String> {
        let out = &self.app.out;
        Some(match &event.body {
            EventBodyView::Message { message } => {
                let text = fit(&clean_line(&render::body(message)), out.columns.saturating_sub(24).max(20));
                match message.direction {
                    Direction::In => format!("{}: {text}", out.paint(Style::Name, &render::author(message))),
                    Direction::Out => {
                        let to = name(session, message.with).await;
                        format!("{} to {to}: {text}", out.paint(Style::Bold, "you"))
                    }
                }
            }
            EventBodyView::Status { id, status, .. } => self.status(session, *id, *status).await?,
            EventBodyView::Online { account, online, .. } => {
                // somebody who is just becoming a contact is told of as such
                let name = clean_line(&session.contact(*account).await.ok()?.name);
                match online {
                    true => format!("{name} is {}", out.paint(Style::Good, "on-line")),
                    false => format!("{name} is off-line"),
                }
            }
            EventBodyView::Contact { contact } => {
                // a new name or a change of settings is no news here
                if self.states.insert(contact.account, contact.state) == Some(contact.state) {
                    return None;
                }
                let name = clean_line(&contact.name);
                match contact.state {
                    ContactStatus::Accepted => format!("{name} is your contact"),
                    _ => format!("{name}: {}", render::presence(contact)),
                }
            }
            _ => return None,
        })
    }

    async fn status(&self, session: &Session, id: EntryId, status: Status) -> Option<String> {
        if status == Status::Queued {
            return None;
        }
        let message = session.message(id).await.ok()?;
        let to = name(session, message.with).await;
        let mark = crate::tick::tick(&self.app.out, status, message.custody);
        Some(format!(
            "{mark} to {to}: {}",
            self.app.out.paint(Style::Dim, &fit(&clean_line(&message.text), 40))
        ))
    }
}

async fn name(session: &Session, account: AccountId) -> String {
    session.contact(account).await.map_or_else(|_| account.short(), |contact| clean_line(&contact.name))
}

fn notice_line(app: &App, code: &str, text: &str) -> anyhow::Result<()> {
    let answer = serde_json::json!({ "event": "notice", "code": code, "text": text });
    app.out.either(&answer, || app.out.paint(Style::Warn, &clean_line(text)))
}

pub(crate) async fn stop(app: &App) -> anyhow::Result<()> {
    app.need_account()?;
    let Some(client) = Client::attach(&app.folder).await? else {
        let folder = app.folder.path().display();
        if app.folder.api().exists() {
            bail!(
                "no node runs on {folder}: the last one was killed. What it had stored is safe; `kith run` starts it again"
            );
        }
        bail!("no node runs on {folder}, so there is nothing to stop");
    };
    let pid = client.pid();
    Session::Remote(client.clone()).stop().await?;
    let over = Instant::now() + STOP;
    // its store is closed once the folder is free, a little after the connection is
    let stopped = tokio::time::timeout_at(over, client.disconnected()).await.is_ok();
    if !stopped || !attach::is_free(&app.folder, over).await {
        bail!(
            "process {pid} was asked to stop and has not ended within {} s; look at what it printed",
            STOP.as_secs()
        );
    }
    app.out.either(&serde_json::json!({ "event": "stopped", "pid": pid }), || "Stopped.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_takes_a_remembered_list_back() {
        assert_eq!(list(&[]), None);
        assert_eq!(list(&["none".to_owned()]), Some(Vec::new()));
        assert_eq!(list(&["/ip4/127.0.0.1/tcp/1".to_owned()]), Some(vec!["/ip4/127.0.0.1/tcp/1".to_owned()]));
    }
}
