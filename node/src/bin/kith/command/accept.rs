//! `kith accept`: use somebody's invite.

use std::io::Read;
use std::time::Duration;

use anyhow::bail;
use kith_node::api::{ContactStatus, ContactView, EventBodyView, EventStream, Session, Timestamp};
use kith_node::protocol::invite::Invite;
use tokio::time::Instant;

use crate::app::App;
use crate::failure::usage;
use crate::text::clean_line;
use crate::when::{self, parse_duration};

/// Longest input that can hold an invite with some white space around it.
const INPUT: u64 = 64 * 1024;
/// How often the contact is looked at even if no event tells of it.
const LOOK: Duration = Duration::from_millis(500);

/// `kith accept URI`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The link, which begins with KITH: — or - to read it from standard input
    #[arg(value_name = "URI|-")]
    uri: String,
    /// How long to wait for the other side's answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    let uri = if args.uri == "-" { read_input()? } else { args.uri };
    let access = app.change().await?;
    let session = &access.session;
    // what the relays say may come before the answer to the command
    let mut events = session.events(None).await?;
    let mut contact = session.accept(uri.trim().to_owned()).await?;
    if contact.state == ContactStatus::Waiting {
        app.out.note(format!("Asking {}’s node …", clean_line(&contact.name)));
        contact = wait(app, session, &mut events, contact, args.timeout).await?;
    }
    let own = access.is_own();
    access.close().await;
    report(app, &contact, own, Invite::parse(uri.trim()).ok().as_ref())
}

/// What may be the matter when an invite has ended for them, and by the clock here has not.
fn clocks(invite: Option<&Invite>) -> String {
    let now = when::now();
    match invite.map(|invite| Timestamp(invite.expires.0)) {
        Some(expires) if expires.0 > now.0 => format!(
            " (by the clock of this machine, which says {}, it can be used until {}: one of the two clocks may be wrong)",
            when::date(now),
            when::date(expires)
        ),
        _ => String::new(),
    }
}

fn report(app: &App, contact: &ContactView, own: bool, invite: Option<&Invite>) -> anyhow::Result<()> {
    let relays = invite.map_or(0, |invite| invite.relays.len());
    let name = clean_line(&contact.name);
    app.out.either(contact, || match contact.state {
        ContactStatus::Accepted => {
            let next = if own { "`kith run` to be on-line, then `kith chat" } else { "`kith chat" };
            format!("{name} is your contact now. Next: {next} {}`", quoted(&name))
        }
        ContactStatus::Waiting if relays > 0 => {
            format!(
                "Waiting for {name}: their relays keep your answer until they are on-line. You can write to them already."
            )
        }
        ContactStatus::Waiting => {
            format!("Waiting for {name}: you must both be on-line once. It goes on by itself while your node runs.")
        }
        other => format!("{name}: {other}"),
    })?;
    match contact.state {
        ContactStatus::Refused => {
            let why = contact.refused.as_deref().unwrap_or("they gave no reason");
            let clocks = if why.contains("expired") { clocks(invite) } else { String::new() };
            bail!("{name} did not let you in: {why}{clocks}; ask for a new invite")
        }
        ContactStatus::Expired => bail!("the invite of {name} has ended; ask for a new one"),
        ContactStatus::Waiting if own => {
            eprintln!("kith: run `kith run` to deliver your answer to {name}");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn quoted(name: &str) -> String {
    if name.contains(' ') { format!("\"{name}\"") } else { name.to_owned() }
}

/// Waits until the other side has answered, or the time is over; either is no failure.
async fn wait(
    app: &App,
    session: &Session,
    events: &mut EventStream,
    mut contact: ContactView,
    timeout: Duration,
) -> anyhow::Result<ContactView> {
    let over = Instant::now() + timeout;
    loop {
        contact = session.contact(contact.account).await?;
        if contact.state != ContactStatus::Waiting || Instant::now() >= over {
            break;
        }
        let look = over.min(Instant::now() + LOOK);
        loop {
            match tokio::time::timeout_at(look, events.next()).await {
                Ok(Some(event)) => match event.body {
                    EventBodyView::Contact { contact: told } if told.account == contact.account => break,
                    // their relays may know already that the invite is good no more
                    EventBodyView::Notice { code, text, account, .. }
                        if code == "invite-refused" && account == Some(contact.account) =>
                    {
                        app.out.note(clean_line(&text));
                    }
                    _ => {}
                },
                Ok(None) => return Ok(contact),
                Err(_) => break,
            }
        }
    }
    if contact.state == ContactStatus::Accepted && !contact.online {
        // the link that brought the answer is there, its event a moment behind
        let soon = over.min(Instant::now() + LOOK);
        while !contact.online && Instant::now() < soon {
            tokio::time::sleep(Duration::from_millis(10)).await;
            contact = session.contact(contact.account).await?;
        }
    }
    Ok(contact)
}

fn read_input() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(INPUT).read_to_end(&mut bytes)?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(usage("what is on standard input is no text; a link begins with KITH:"));
    };
    if text.trim().is_empty() {
        return Err(usage("there was no link on standard input"));
    }
    Ok(text)
}
