//! `kith edit`, `delete`, `reply`, `react`: what can be done with a message.

use kith_node::api::{MessageView, SentView, Session};

use crate::app::App;
use crate::command::send::read_text;
use crate::render;

/// `kith edit MESSAGE TEXT`
#[derive(Debug, clap::Args)]
pub(crate) struct Edit {
    /// Its id, or at least eight of its first digits
    message: String,
    /// The new text; - reads it from standard input
    #[arg(value_name = "TEXT|-", allow_negative_numbers = true)]
    text: String,
}

/// `kith delete MESSAGE`
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Its id, or at least eight of its first digits
    message: String,
}

/// `kith reply MESSAGE TEXT`
#[derive(Debug, clap::Args)]
pub(crate) struct Reply {
    /// Its id, or at least eight of its first digits
    message: String,
    /// The answer; - reads it from standard input
    #[arg(value_name = "TEXT|-", allow_negative_numbers = true)]
    text: String,
}

/// `kith react MESSAGE [EMOJI]`
#[derive(Debug, clap::Args)]
pub(crate) struct React {
    /// Its id, or at least eight of its first digits
    message: String,
    /// The emoji; without it the reaction is taken back
    emoji: Option<String>,
}

pub(crate) async fn edit(app: &App, args: Edit) -> anyhow::Result<()> {
    let text = read_text(args.text)?;
    let access = app.change().await?;
    let done = async {
        let message = find(&access.session, &args.message).await?;
        anyhow::Ok(access.session.edit(message.id, text).await?)
    };
    let done = done.await;
    access.finish(app).await;
    tell(app, &done?, "Changed here; the other side follows as soon as it can be reached.")
}

pub(crate) async fn delete(app: &App, args: Delete) -> anyhow::Result<()> {
    let access = app.change().await?;
    let done = async {
        let message = find(&access.session, &args.message).await?;
        anyhow::Ok(access.session.delete(message.id).await?)
    };
    let done = done.await;
    access.finish(app).await;
    tell(app, &done?, "Deleted here; the other side is asked to delete it as soon as it can be reached.")
}

pub(crate) async fn reply(app: &App, args: Reply) -> anyhow::Result<()> {
    let text = read_text(args.text)?;
    let access = app.change().await?;
    let done = async {
        let message = find(&access.session, &args.message).await?;
        anyhow::Ok(access.session.send(message.with, text, Some(message.id), None).await?)
    };
    let done = done.await;
    access.finish(app).await;
    let done = done?;
    tell(app, &done, &format!("{} {}", render::short_id(done.id), done.status))
}

pub(crate) async fn react(app: &App, args: React) -> anyhow::Result<()> {
    let access = app.change().await?;
    let done = async {
        let message = find(&access.session, &args.message).await?;
        anyhow::Ok(access.session.react(message.id, args.emoji.unwrap_or_default()).await?)
    };
    let done = done.await;
    access.finish(app).await;
    tell(app, &done?, "Done.")
}

fn tell(app: &App, sent: &SentView, text: &str) -> anyhow::Result<()> {
    app.out.either(sent, || text.to_owned())
}

/// The message meant by an id or the first digits of one.
pub(crate) async fn find(session: &Session, text: &str) -> anyhow::Result<MessageView> {
    Ok(session.find_message(text.to_owned()).await?)
}
