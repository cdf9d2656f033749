//! `kith chat`: a conversation in this terminal.

mod editor;
mod input;
mod plain;
mod screen;
mod talk;
mod timeline;

use std::io::IsTerminal;

use anyhow::bail;
use kith_node::rpc;

use crate::app::App;
use crate::attach::Access;
use crate::failure::usage;
use crate::terminal;
use crate::text::{clean_line, fit};
use crate::when::plural;
use talk::Talk;

/// `kith chat WHO`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What you write is sent with Enter (Alt-Enter begins a new line). Lines that begin with / are commands:\n\n  \
    /info [N]        where a message is; N is the number before it, without it your last one\n  \
    /reply N TEXT    answer it\n  \
    /edit [N] TEXT   change a message of yours\n  \
    /delete [N]      take a message of yours back\n  \
    /react N EMOJI   react to it; without an emoji take that back\n  \
    /more            what was said before\n  \
    /quit            or Ctrl-D\n\n\
What is on the screen counts as read. `kith settings receipts off` keeps that to yourself."
)]
pub(crate) struct Args {
    /// With whom
    who: String,
    /// How many earlier messages to begin with
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    limit: u32,
    /// One line after the other, without moving the cursor
    #[arg(long)]
    plain: bool,
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    if app.out.json {
        return Err(usage("chat is for people; programs use `kith send`, `kith history` and `kith events`"));
    }
    let access = app.change().await?;
    let done = Box::pin(converse(app, &access, &args)).await;
    access.close().await;
    let (name, queued) = done?;
    if queued > 0 {
        app.out.note(format!(
            "{} to {name} still queued; `kith run` delivers what waits.",
            plural(queued, "message")
        ));
    }
    Ok(())
}

async fn converse(app: &App, access: &Access, args: &Args) -> anyhow::Result<(String, u64)> {
    let contact = access.session.resolve(args.who.clone()).await?;
    // while it is open, this chat is the node for every other command, too
    let server = match access.node() {
        Some(node) => Some(rpc::serve(&node.handle(), &app.folder, node.options().api).await?),
        None => None,
    };
    let name = clean_line(&contact.name);
    let mut talk = Box::pin(Talk::open(app, access, contact, args.limit)).await?;
    if access.is_own() {
        talk.say("No node was running, so this chat is your node: you are on-line while it is open.");
    }
    let whole = !args.plain && app.out.terminal && std::io::stdin().is_terminal() && !terminal::is_dumb();
    let done = if whole {
        Box::pin(screen::run(app, &mut talk)).await
    } else {
        Box::pin(plain::run(app, &mut talk)).await
    };
    if let Some(server) = server {
        server.stop().await;
    }
    let unsent: Vec<String> = talk.unsent().map(clean_line).collect();
    for text in &unsent {
        eprintln!("not sent: {text}");
    }
    done?;
    if let Some(last) = unsent.last() {
        let lines = plural(unsent.len() as u64, "line");
        bail!(
            "{lines} never reached your node, the last one “{}”; send it again once `kith run` is back",
            fit(last, 40)
        );
    }
    Ok((name, talk.timeline.waiting()))
}
