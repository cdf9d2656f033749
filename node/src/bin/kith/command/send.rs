//! `kith send`: one message, or each line of standard input.

use std::io::Read;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use kith_node::api::{CustodyView, SentView, Status};
use kith_node::protocol::limits;

use crate::app::App;
use crate::command::lines;
use crate::failure::usage;
use crate::render;
use crate::tick::tick;
use crate::when::parse_duration;

/// How long to wait for what was asked for.
const WAIT: Duration = Duration::from_secs(30);
/// How long a node started for one message tries to deliver it.
const TRY: Duration = Duration::from_secs(10);

/// `kith send WHO TEXT`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --wait the message is on disk and queued when this ends; the running node delivers it.\n\
    Examples:\n  kith send Ben \"on my way\"\n  kith send Ben \"are you there?\" --wait read --timeout 5m\n  \
    uptime | kith send Ben -\n  kith send Ben --lines - < poem.txt"
)]
pub(crate) struct Args {
    /// To whom
    who: String,
    /// The text; - reads it from standard input
    #[arg(
        value_name = "TEXT|-",
        allow_negative_numbers = true,
        required_unless_present = "lines",
        conflicts_with = "lines"
    )]
    pub(crate) text: Option<String>,
    /// Each line of standard input (-) is one message, empty ones too; waits until all are delivered
    #[arg(long, value_name = "-")]
    lines: Option<String>,
    /// Wait until the message is sent, delivered or read
    #[arg(long, value_enum)]
    wait: Option<Wait>,
    /// How long to wait [default: 30s; with --lines as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// In custody of relays, or further
    Sent,
    /// On their disk, or further
    Delivered,
    /// Seen by them
    Read,
}

impl Wait {
    const fn status(self) -> Status {
        match self {
            Self::Sent => Status::Sent,
            Self::Delivered => Status::Delivered,
            Self::Read => Status::Read,
        }
    }
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    match (args.lines.as_deref(), args.text) {
        (Some("-"), _) => {
            let wanted = args.wait.unwrap_or(Wait::Delivered).status();
            Box::pin(lines::perform(app, args.who, wanted, args.timeout)).await
        }
        (Some(_), _) => Err(usage("--lines reads standard input: write `--lines -`")),
        (None, Some(text)) => one(app, args.who, read_text(text)?, args.wait, args.timeout).await,
        (None, None) => Err(usage("what shall be sent? give a TEXT, or - to read it")),
    }
}

/// The text given, or all of standard input for `-`.
pub(crate) fn read_text(text: String) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text);
    }
    // a line end after the text is the terminal's, not the writer's
    let cap = limits::TEXT as u64 + 3;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(cap).read_to_end(&mut bytes)?;
    let Ok(mut read) = String::from_utf8(bytes) else {
        bail!(
            "standard input is not text in UTF-8, or is longer than the {} bytes a message holds",
            limits::TEXT
        );
    };
    if read.ends_with('\n') {
        read.pop();
        if read.ends_with('\r') {
            read.pop();
        }
    }
    if read.len() > limits::TEXT {
        bail!("the text is longer than {} bytes, which is what a message holds", limits::TEXT);
    }
    Ok(read)
}

async fn one(
    app: &App,
    who: String,
    text: String,
    wait: Option<Wait>,
    timeout: Option<Duration>,
) -> anyhow::Result<()> {
    if text.len() > limits::TEXT {
        bail!("the text has {} bytes; a message holds at most {}", text.len(), limits::TEXT);
    }
    let access = app.change().await?;
    let own = access.is_own();
    let done = async {
        let contact = access.session.resolve(who).await?;
        let sent = access.session.send(contact.account, text, None, None).await?;
        let (wanted, limit) = match wait {
            Some(wait) => (wait.status(), timeout.unwrap_or(WAIT)),
            // nobody else would deliver it
            None if own => (Status::Delivered, timeout.unwrap_or(TRY)),
            None => return anyhow::Ok((contact, sent, CustodyView::default(), true)),
        };
        let waited = access.session.wait(sent.id, wanted, limit).await?;
        let custody = match waited.status {
            Status::Carried => access.session.journey(sent.id).await?.custody,
            _ => CustodyView::default(),
        };
        Ok((contact, SentView { status: waited.status, ..sent }, custody, waited.reached))
    };
    let done = done.await;
    access.close().await;
    let (contact, sent, custody, reached) = done?;
    let mark = tick(&app.out, sent.status, custody);
    app.out.either(&sent, || format!("{} {mark}", render::short_id(sent.id)))?;
    if reached {
        return Ok(());
    }
    let id = render::short_id(sent.id);
    let name = crate::text::clean_line(&contact.name);
    let next = match (sent.status.failed(), own) {
        (true, _) => format!("`kith status {id}` says why"),
        (false, true) => "run `kith run` to deliver".to_owned(),
        (false, false) => format!("it goes on by itself; `kith status {id}` says where it is"),
    };
    let what = format!(
        "the message to {name} is {} and not {}{}",
        sent.status,
        if sent.status.failed() { "" } else { "yet " },
        wait.map_or("delivered", |wait| wait.status().as_str())
    );
    if wait.is_some() || sent.status.failed() {
        bail!("{what}; {next}");
    }
    eprintln!("kith: {what}; {next}");
    Ok(())
}
