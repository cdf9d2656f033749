//! `kith run` and `kith stop`: being on-line.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::bail;
use clap::ArgAction;
use kith_node::RunChanges;
use kith_node::api::{Direction, EventBodyView, EventView, Session};
use kith_node::rpc::{self, Client};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::render;
use crate::text::clean_line;

/// `kith run`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen here, for example /ip4/0.0.0.0/tcp/4001; may be given several times, and is remembered
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    listen: Vec<String>,
    /// A node to find others through, with its /p2p/… part; remembered
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    bootstrap: Vec<String>,
    /// An address others reach this node at; remembered
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    external: Vec<String>,
    /// Serve the directory to others although no public address is confirmed
    #[arg(long)]
    serve: bool,
    /// Do not look for contacts on the local network
    #[arg(long)]
    no_mdns: bool,
    /// Where programs on this machine attach (loopback only)
    #[arg(long, value_name = "ADDR")]
    api: Option<SocketAddr>,
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    app.need_account()?;
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let changes = RunChanges {
        listen: some(args.listen),
        bootstrap: some(args.bootstrap),
        external: some(args.external),
        serve: args.serve.then_some(true),
        mdns: args.no_mdns.then_some(false),
        api: args.api,
    };
    let node = app.builder()?.changes(changes).start().await?;
    if let Some(notice) = node.notice() {
        app.out.note(notice);
    }
    let session = Session::Local(node.handle());
    let server = rpc::serve(&node.handle(), &app.folder, node.options().api).await?;
    let status = session.status().await?;
    let ready = serde_json::json!({ "event": "listening", "addresses": status.addresses });
    app.out.either(&ready, || format!("On-line. Listening at:\n  {}", status.addresses.join("\n  ")))?;
    let mut events = session.events(None).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
            () = node.ended() => break,
            event = events.next() => match event {
                Some(event) => tell(app, &event)?,
                None => break,
            },
        }
    }
    server.stop().await;
    node.shutdown().await;
    Ok(())
}

/// One readable line for what a person at the terminal wants to know.
fn tell(app: &App, event: &EventView) -> anyhow::Result<()> {
    if app.out.json {
        return app.out.json(event);
    }
    let line = match &event.body {
        EventBodyView::Message { message } if message.direction == Direction::In => {
            format!("{}: {}", render::author(message), clean_line(&render::body(message)))
        }
        EventBodyView::Contact { contact } => format!("{}: {}", clean_line(&contact.name), contact.state),
        EventBodyView::Notice { text, .. } => text.clone(),
        _ => return Ok(()),
    };
    app.out.line(line)
}

pub(crate) async fn stop(app: &App) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let Some(client) = Client::attach(&app.folder).await? else {
        bail!("no node runs on {}", app.folder.path().display());
    };
    let session = Session::Remote(client);
    session.stop().await?;
    if let Session::Remote(client) = &session
        && tokio::time::timeout(PATIENCE, client.disconnected()).await.is_err()
    {
        bail!("the node was asked to stop and is still there; look at its output");
    }
    app.out.either(&serde_json::json!({ "stopped": true }), || "Stopped.".to_owned())
}
