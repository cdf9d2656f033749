//! `kith relay`: where contacts leave what they send while you are off-line.

use anyhow::bail;
use kith_node::api::{RelayStatus, RelayView, Session};

use crate::app::App;
use crate::failure::usage;
use crate::out::{Out, Style};
use crate::when;

/// `kith relay`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List your relays, and how well they keep their word
    List,
    /// Keep a mailbox at a relay and tell your contacts of it
    Add {
        /// Its address, as its operator gives it: /ip4/…/tcp/…/p2p/12D3Koo…
        address: String,
        /// The operator's token, if the relay asks for one
        #[arg(long)]
        token: Option<String>,
    },
    /// Give a relay up; it is still emptied for a week
    Remove {
        /// Its address, peer id, key, or the first 8 digits of the key
        relay: String,
    },
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    match args.what {
        None | Some(What::List) => list(app).await,
        Some(What::Add { address, token }) => {
            let access = app.change().await?;
            let added = access.session.add_relay(address, token).await;
            let own = access.is_own();
            access.close().await;
            let added = added?;
            app.out.either(&added, || {
                let next = if own {
                    "`kith run` opens a mailbox there"
                } else {
                    "`kith relay list` shows how it does"
                };
                format!("Relay {} is yours now. {next}.", added.relay.short())
            })
        }
        Some(What::Remove { relay }) => remove(app, &relay).await,
    }
}

async fn list(app: &App) -> anyhow::Result<()> {
    let access = app.read().await?;
    let relays = access.session.relays().await;
    access.close().await;
    let relays = relays?;
    if relays.is_empty() && !app.out.json {
        app.out.note(NONE);
    }
    for relay in &relays {
        app.out.either(relay, || {
            let folded = lines(&app.out, relay).into_iter().map(|line| app.out.fold(&line, 4));
            folded.collect::<Vec<_>>().join("\n")
        })?;
    }
    Ok(())
}

/// What cannot be promised without a relay.
pub(crate) const NONE: &str = "No relay yet: what is sent to you waits on the sender's device until you are both \
                               on-line. `kith relay add ADDRESS` changes that; two or three are best.";

/// A relay in two lines.
pub(crate) fn lines(out: &Out, relay: &RelayView) -> Vec<String> {
    let state = match (relay.state, relay.connected) {
        (RelayStatus::Open, true) => out.paint(Style::Good, "connected"),
        (RelayStatus::Open, false) => out.paint(Style::Warn, "not connected now"),
        (RelayStatus::New, _) => "not reached yet".to_owned(),
        (RelayStatus::Refused, _) => {
            let reason = relay.reason.as_deref().unwrap_or("it does not open a mailbox for you");
            out.paint(Style::Warn, reason)
        }
        (RelayStatus::Leaving, _) => out.paint(Style::Dim, "given up; still emptied for a while"),
    };
    let mut first = format!("{}  {state}", relay.relay.short());
    if relay.state == RelayStatus::Open && !relay.named {
        first.push_str("; kept in reserve");
    }
    let mut facts = Vec::new();
    if let Some(uptime) = relay.uptime_permille {
        let (whole, tenth) = (uptime / 10, uptime % 10);
        // not to be read as if it were up now
        facts.push(match relay.connected {
            true => format!("up {whole}.{tenth} % of the time"),
            false => format!("was up {whole}.{tenth} % of the time"),
        });
    }
    if relay.latency_ms > 0 {
        facts.push(format!("signs in {} ms", relay.latency_ms));
    }
    if relay.kept + relay.broken > 0 {
        let kept =
            format!("kept {} of {} test envelopes", relay.kept, relay.kept.saturating_add(relay.broken));
        facts.push(if relay.broken > 0 { out.paint(Style::Warn, &kept) } else { kept });
    }
    if facts.is_empty() && relay.state == RelayStatus::Open {
        facts.push("not measured yet: test envelopes go there about once an hour".to_owned());
    }
    if relay.items > 0 {
        let envelopes = when::plural(relay.items, "envelope");
        facts.push(match relay.connected {
            true => format!("holds {envelopes} for you"),
            false => format!("held {envelopes} for you when it was last asked"),
        });
    }
    let mut lines = vec![first, out.paint(Style::Dim, &format!("  {}", relay.address))];
    if !facts.is_empty() {
        lines.push(format!("  {}", facts.join(", ")));
    }
    lines
}

async fn remove(app: &App, wanted: &str) -> anyhow::Result<()> {
    let access = app.change().await?;
    let done = async {
        let relay = find(&access.session, wanted).await?;
        access.session.remove_relay(relay.relay).await?;
        anyhow::Ok(relay)
    };
    let done = done.await;
    access.close().await;
    let relay = done?;
    let answer = serde_json::json!({ "relay": relay.relay.to_string(), "state": "removed" });
    app.out.either(&answer, || {
        format!(
            "Relay {} is given up; contacts are told, and it is still emptied for a week.",
            relay.relay.short()
        )
    })
}

async fn find(session: &Session, wanted: &str) -> anyhow::Result<RelayView> {
    let wanted = wanted.trim();
    let relays = session.relays().await?;
    let fits = |relay: &&RelayView| {
        relay.address == wanted
            || relay.address.ends_with(&format!("/p2p/{wanted}"))
            || relay.address.starts_with(&format!("{wanted}/p2p/"))
            || (wanted.len() >= 8 && relay.relay.to_string().starts_with(&wanted.to_ascii_lowercase()))
    };
    let mut found: Vec<RelayView> = relays.iter().filter(fits).cloned().collect();
    match (found.pop(), found.is_empty()) {
        (Some(relay), true) => Ok(relay),
        (Some(_), false) => Err(usage(format!("several relays fit {wanted:?}; give more of the key"))),
        (None, _) => bail!("no relay of yours is called {wanted:?}; `kith relay list` shows them"),
    }
}

#[cfg(test)]
mod tests {
    use kith_node::api::Timestamp;
    use kith_node::protocol::DeviceId;

    use super::*;

    #[test]
    fn a_relay_that_is_not_connected_is_not_shown_as_if_it_were_up() {
        let mut relay = RelayView {
            relay: DeviceId([1; 32]),
            address: "/ip4/192.0.2.7/tcp/4001".to_owned(),
            state: RelayStatus::Open,
            reason: None,
            named: true,
            connected: false,
            items: 1,
            bytes: 512,
            quota_items: 1_000,
            quota_bytes: 1_000_000,
            uptime_permille: Some(966),
            latency_ms: 0,
            kept: 0,
            broken: 0,
            added: Timestamp(0),
        };
        let shown = lines(&Out::plain(100), &relay).join("\n");
        assert!(shown.contains("not connected now") && shown.contains("was up 96.6 %"), "{shown}");
        assert!(shown.contains("held 1 envelope for you when it was last asked"), "{shown}");
        relay.connected = true;
        let shown = lines(&Out::plain(100), &relay).join("\n");
        assert!(shown.contains(", holds 1 envelope for you") && !shown.contains("was up"), "{shown}");
    }
}
