//! `kith invite`: links by which people become contacts.

use std::time::Duration;

use anyhow::Context;
use kith_node::api::{InviteListView, InviteStatus, InviteView, Reach};
use kith_node::protocol::InviteId;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::app::App;
use crate::out::{Out, Style};
use crate::text::{clean_line, width};
use crate::when::{self, parse_duration};

/// `kith invite`
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// How many people may use the link
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    uses: u32,
    /// When the link ends
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    expires: Duration,
    /// Show it as a QR code, too
    #[arg(long)]
    qr: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List your links
    List,
    /// Take a link back
    Revoke {
        /// Its id, as `kith invite list` shows it
        id: InviteId,
    },
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    match args.what {
        None => create(app, args.uses, args.expires, args.qr).await,
        Some(What::List) => list(app).await,
        Some(What::Revoke { id }) => {
            let access = app.change().await?;
            let done = access.session.revoke_invite(id).await;
            access.close().await;
            done?;
            let answer = serde_json::json!({ "id": id.to_string(), "state": "revoked" });
            app.out.either(&answer, || "Taken back. Nobody can use it any more.".to_owned())
        }
    }
}

async fn create(app: &App, uses: u32, expires: Duration, qr: bool) -> anyhow::Result<()> {
    let ttl = u64::try_from(expires.as_millis()).context("that is too far in the future")?;
    let access = app.change().await?;
    let done = async {
        let invite = access.session.invite(uses, ttl).await?;
        anyhow::Ok((invite, access.session.status().await?.reachability))
    };
    let done = done.await;
    let own = access.is_own();
    access.close().await;
    let (invite, reachability) = done?;
    if app.out.json {
        return app.out.json(&invite);
    }
    app.out.line(&invite.uri)?;
    if qr {
        show_qr(&app.out, &invite.uri)?;
    }
    for line in advice(&invite, &reachability, own) {
        app.out.note(line);
    }
    Ok(())
}

/// Who can use a link, and what has to be true for that.
fn advice(invite: &InviteView, reachability: &str, own: bool) -> Vec<String> {
    let people = match invite.uses {
        1 => "One person can use it".to_owned(),
        uses => format!("{uses} people can use it"),
    };
    let date = when::date(invite.expires);
    let mut lines = vec![match invite.reach {
        // relays take the answer wherever we are
        Reach::Internet if invite.relays > 0 || reachability == "public" => {
            format!("{people}, from anywhere, until {date}.")
        }
        Reach::Internet if reachability == "private" => format!(
            "{people}, in this network only (others tried your global address and could not reach it), until {date}."
        ),
        Reach::Internet => format!(
            "{people}, from wherever your global address is reached (nobody has confirmed yet that it is), until {date}."
        ),
        Reach::Network => {
            format!("{people}, in this network only (it holds no global address), until {date}.")
        }
        Reach::Machine => {
            format!("{people}, on this machine only (your node listens nowhere else), until {date}.")
        }
        Reach::Nowhere => format!(
            "{people} who shares a local network or a bootstrap node with you (it holds no address), until {date}."
        ),
    }];
    lines.push(match invite.relays {
        0 => format!("You must both be on-line once before {date}."),
        1 => "Your relay takes their answer while you are off-line.".to_owned(),
        count => format!("Your {count} relays take their answer while you are off-line."),
    });
    if own && invite.relays == 0 {
        lines.push("No node is running now: start `kith run`, so that they can reach you.".to_owned());
    }
    lines.push("They type: kith accept LINK".to_owned());
    lines
}

fn show_qr(out: &Out, uri: &str) -> anyhow::Result<()> {
    let code = QrCode::new(uri.as_bytes()).context("the link is too long for a QR code")?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let columns = picture.lines().next().map_or(0, width);
    if out.terminal && columns > out.columns {
        out.note(format!(
            "The terminal has {} columns, the QR code needs {columns}: make it wider.",
            out.columns
        ));
        return Ok(());
    }
    out.line(picture)
}

async fn list(app: &App) -> anyhow::Result<()> {
    let access = app.read().await?;
    let invites = access.session.invites().await;
    access.close().await;
    let invites = invites?;
    if invites.is_empty() && !app.out.json {
        app.out.note("No links yet; `kith invite` makes one.");
    }
    for invite in &invites {
        app.out.either(invite, || app.out.fold(&row(&app.out, invite), 4))?;
    }
    Ok(())
}

fn row(out: &Out, invite: &InviteListView) -> String {
    let state = match invite.state {
        InviteStatus::Live => out.paint(Style::Good, "can be used"),
        InviteStatus::Used => "used".to_owned(),
        InviteStatus::Expired => out.paint(Style::Dim, "ended"),
        InviteStatus::Revoked => out.paint(Style::Dim, "taken back"),
    };
    let mut line = format!(
        "{}  {state}, {} of {} left, made {}, until {}",
        invite.id,
        invite.uses,
        invite.uses_total,
        when::date(invite.created),
        when::date(invite.expires)
    );
    if !invite.used_by.is_empty() {
        let names: Vec<_> = invite.used_by.iter().map(|name| clean_line(name)).collect();
        line.push_str(&format!("; used by {}", names.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use kith_node::api::Timestamp;

    use super::*;

    fn invite(reach: Reach, uses: u32) -> InviteView {
        let uri = "KITH:AAAA".to_owned();
        InviteView {
            id: InviteId([1; 8]),
            uri,
            expires: Timestamp(1_800_000_000_000),
            uses,
            reach,
            relays: 0,
        }
    }

    #[test]
    fn an_invite_says_who_can_use_it_and_until_when() {
        let lines = advice(&invite(Reach::Network, 1), "unknown", false).join("\n");
        assert!(
            lines.contains("in this network only") && lines.contains("both be on-line once before"),
            "{lines}"
        );
        let global = |reachability| advice(&invite(Reach::Internet, 3), reachability, false).remove(0);
        assert!(global("public").starts_with("3 people can use it, from anywhere, "));
        assert!(global("unknown").contains("nobody has confirmed"));
        assert!(global("private").contains("in this network only"));
        assert!(
            advice(&invite(Reach::Internet, 1), "public", true).iter().any(|line| line.contains("kith run"))
        );
        let relayed = InviteView { relays: 2, ..invite(Reach::Internet, 1) };
        let lines = advice(&relayed, "unknown", false).join("\n");
        assert!(lines.contains("2 relays") && !lines.contains("both be on-line"), "{lines}");
    }
}
