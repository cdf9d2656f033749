//! `kith history`, `read`, `search`: what was said.

use std::collections::HashSet;

use anyhow::Context;
use kith_node::api::{MessageView, Session};
use kith_node::protocol::{AccountId, EntryId};

use crate::app::App;
use crate::command::message::find;
use crate::out::Style;
use crate::text::{clean_line, fit};
use crate::{render, when};

/// Messages asked for at a time.
const PAGE: u32 = 1_000;
/// Answered messages looked up beyond the pages that are shown.
const QUOTED: usize = 200;

/// `kith history WHO`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// With whom
    who: String,
    /// How many messages, from the newest back
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Only messages before this one
    #[arg(long, value_name = "MESSAGE")]
    before: Option<String>,
}

/// `kith read WHO`
#[derive(Debug, clap::Args)]
pub(crate) struct Read {
    /// With whom
    who: String,
    /// Up to and including this message; without it, all
    #[arg(long, value_name = "MESSAGE")]
    up_to: Option<String>,
}

/// `kith search WORDS`
#[derive(Debug, clap::Args)]
pub(crate) struct Search {
    /// What to look for; all the words have to be in a message
    #[arg(required = true)]
    words: Vec<String>,
    /// Only in the conversation with this person
    #[arg(long, value_name = "WHO")]
    with: Option<String>,
    /// How many messages at most, newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    let access = app.read().await?;
    let pages = async {
        let contact = access.session.resolve(args.who).await?;
        let before = match &args.before {
            Some(text) => Some(find(&access.session, text).await?.id),
            None => None,
        };
        let pages = collect(&access.session, contact.account, args.limit, before).await?;
        let mut shown = render::Page::default();
        if !app.out.json {
            quote(&access.session, &pages, &mut shown).await;
        }
        anyhow::Ok((pages, shown))
    };
    let pages = pages.await;
    access.close().await;
    let (pages, mut shown) = pages?;
    // pages came newest first, messages of a page oldest first
    for message in pages.iter().rev().flatten() {
        if app.out.json {
            app.out.json(message)?;
        } else {
            let id = render::short_id(message.id);
            for line in shown.lines(&app.out, &id, message) {
                app.out.line(line)?;
            }
        }
    }
    if pages.iter().all(Vec::is_empty) {
        app.out.note("Nothing was said yet.");
    }
    Ok(())
}

/// Looks up what answers in these pages speak of, if it lies further back.
async fn quote(session: &Session, pages: &[Vec<MessageView>], shown: &mut render::Page) {
    let there: HashSet<EntryId> = pages.iter().flatten().map(|message| message.id).collect();
    let answered = pages.iter().flatten().filter_map(|message| message.reply_to);
    for id in answered.filter(|id| !there.contains(id)).take(QUOTED) {
        // one that never came is called an earlier message
        if let Ok(message) = session.message(id).await {
            shown.remember(&message);
        }
    }
}

async fn collect(
    session: &Session,
    with: AccountId,
    limit: u32,
    mut before: Option<EntryId>,
) -> anyhow::Result<Vec<Vec<MessageView>>> {
    let mut pages = Vec::new();
    let mut left = limit;
    while left > 0 {
        let size = left.min(PAGE);
        let page = session.history(with, size, before).await?;
        let count = u32::try_from(page.len()).context("a page is larger than asked for")?;
        before = page.first().map(|oldest| oldest.id);
        pages.push(page);
        if count < size {
            break;
        }
        left = left.saturating_sub(count);
    }
    Ok(pages)
}

pub(crate) async fn read(app: &App, args: Read) -> anyhow::Result<()> {
    let access = app.change().await?;
    let done = async {
        let contact = access.session.resolve(args.who).await?;
        let up_to = match &args.up_to {
            Some(text) => Some(find(&access.session, text).await?.id),
            None => None,
        };
        access.session.mark_read(contact.account, up_to).await?;
        anyhow::Ok(contact)
    };
    let done = done.await;
    access.finish(app).await;
    let contact = done?;
    let answer = serde_json::json!({ "account": contact.account.to_string(), "name": contact.name });
    app.out.either(&answer, || format!("Marked as read: {}", clean_line(&contact.name)))
}

pub(crate) async fn search(app: &App, args: Search) -> anyhow::Result<()> {
    let access = app.read().await?;
    let found = async {
        let with = match args.with {
            Some(who) => Some(access.session.resolve(who).await?.account),
            None => None,
        };
        let found = access.session.search(args.words.join(" "), with, args.limit).await?;
        anyhow::Ok((found, access.session.contacts().await?))
    };
    let found = found.await;
    access.close().await;
    let (found, contacts) = found?;
    for message in &found {
        app.out.either(message, || {
            let with = contacts.iter().find(|contact| contact.account == message.with);
            let with = with.map_or_else(|| message.with.short(), |contact| clean_line(&contact.name));
            let text = fit(&clean_line(&render::body(message)), app.out.columns.saturating_sub(40).max(30));
            format!(
                "{} {}  {}  {}: {text}",
                app.out.paint(Style::Dim, &render::short_id(message.id)),
                app.out.paint(Style::Dim, &when::date(message.time)),
                app.out.paint(Style::Name, &with),
                render::author(message),
            )
        })?;
    }
    if found.is_empty() {
        app.out.note("Nothing found.");
    }
    Ok(())
}
