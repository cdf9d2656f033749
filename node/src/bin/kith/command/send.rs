//! `kith send`: one message, or each line of standard input.

use std::collections::VecDeque;
use std::io::{BufRead, Read};
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use kith_node::api::{SentView, Session, Status};
use kith_node::protocol::{AccountId, ClientId, EntryId, limits};
use kith_node::rpc::Client;

use crate::app::{App, random16};
use crate::failure::usage;
use crate::render;
use crate::when::parse_duration;

/// Messages written and not yet seen delivered, with `--lines`.
const OUTSTANDING: usize = 256;
/// Pause before another attempt to attach to a node that went away.
const AGAIN: Duration = Duration::from_millis(200);

/// `kith send WHO TEXT`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// To whom
    who: String,
    /// The text; - reads it from standard input
    #[arg(value_name = "TEXT|-", required_unless_present = "lines", conflicts_with = "lines")]
    pub(crate) text: Option<String>,
    /// Each line of standard input (-) is one message; waits until all are delivered
    #[arg(long, value_name = "-")]
    lines: Option<String>,
    /// Wait until the message is sent, delivered or read
    #[arg(long, value_enum)]
    wait: Option<Wait>,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
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
    match (args.lines, args.text) {
        (Some(from), _) if from == "-" => lines(app, args.who, args.wait.unwrap_or(Wait::Delivered)).await,
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
    let mut read = String::new();
    std::io::stdin().lock().take(limits::TEXT as u64 + 1).read_to_string(&mut read)?;
    if read.len() > limits::TEXT {
        bail!("the text is longer than {} bytes, which is what a message holds", limits::TEXT);
    }
    Ok(read.strip_suffix('\n').map(str::to_owned).unwrap_or(read))
}

async fn one(
    app: &App,
    who: String,
    text: String,
    wait: Option<Wait>,
    timeout: Duration,
) -> anyhow::Result<()> {
    let access = app.change().await?;
    let own = access.is_own();
    let done = async {
        let to = access.session.resolve(who).await?.account;
        let sent = access.session.send(to, text, None, None).await?;
        let wanted = wait.map(Wait::status).or(own.then_some(Status::Delivered));
        let Some(wanted) = wanted else { return anyhow::Ok((sent, true)) };
        let waited = access.session.wait(sent.id, wanted, timeout).await?;
        let sent = SentView { status: waited.status, ..sent };
        Ok((sent, waited.reached || wait.is_none()))
    };
    let done = done.await;
    access.close().await;
    let (sent, reached) = done?;
    app.out.either(&sent, || format!("{} {}", render::short_id(sent.id), sent.status))?;
    if !reached || (own && sent.status == Status::Queued) {
        let why = format!(
            "the message is {}; run `kith run` to deliver, `kith status {}` says where it is",
            sent.status,
            render::short_id(sent.id)
        );
        if reached {
            app.out.note(why);
        } else {
            bail!(why);
        }
    }
    Ok(())
}

/// One line that was read, until it is known to be where it was wanted.
struct Line {
    client: ClientId,
    text: String,
    entry: Option<EntryId>,
}

async fn lines(app: &App, who: String, wait: Wait) -> anyhow::Result<()> {
    let access = app.change().await?;
    let to = access.session.resolve(who).await?.account;
    let mut session = Some(access);
    let mut input = std::io::stdin().lock();
    let mut open: VecDeque<Line> = VecDeque::new();
    let (mut sent, mut reached, mut ended) = (0_u64, 0_u64, false);
    while !ended || !open.is_empty() {
        let Some(access) = &session else {
            // the node went away: stay, and go on with it when it is back
            session = attach(app).await?;
            continue;
        };
        let result = async {
            if !ended && open.len() < OUTSTANDING {
                match next_line(&mut input, sent + 1)? {
                    Some(text) => {
                        open.push_back(Line { client: ClientId(random16()?), text, entry: None });
                        sent += 1;
                    }
                    None => ended = true,
                }
            }
            submit(&access.session, to, &mut open).await?;
            let must_wait = ended || open.len() >= OUTSTANDING;
            while must_wait && let Some(line) = open.front() {
                let Some(entry) = line.entry else { break };
                let waited = access.session.wait(entry, wait.status(), Duration::from_secs(20)).await?;
                if !waited.reached {
                    if matches!(waited.status, Status::Expired | Status::Rejected) {
                        bail!("line {} is {}", reached + 1, waited.status);
                    }
                    break;
                }
                open.pop_front();
                reached += 1;
                if !ended {
                    break;
                }
            }
            Ok(())
        };
        match result.await {
            Ok(()) => {}
            Err(error) if is_passing(&error) => {
                for line in &mut open {
                    line.entry = None;
                }
                session = None;
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(access) = session {
        access.close().await;
    }
    let answer = serde_json::json!({ "sent": sent, "delivered": reached });
    app.out.either(&answer, || format!("{sent} messages sent, {reached} delivered."))
}

/// Submits what has no entry yet; a client id makes repeating harmless.
async fn submit(session: &Session, to: AccountId, open: &mut VecDeque<Line>) -> anyhow::Result<()> {
    for line in open.iter_mut().filter(|line| line.entry.is_none()) {
        let answer = session.send(to, line.text.clone(), None, Some(line.client)).await?;
        line.entry = Some(answer.id);
    }
    Ok(())
}

fn is_passing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<kith_node::api::Error>().is_some_and(kith_node::api::Error::is_passing)
}

async fn attach(app: &App) -> anyhow::Result<Option<crate::attach::Access>> {
    tokio::time::sleep(AGAIN).await;
    match Client::attach(&app.folder).await {
        Ok(Some(client)) => Ok(Some(crate::attach::Access::remote(client))),
        Ok(None) => Ok(None),
        Err(error) if error.is_passing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The next line without its end. A line too long for a message stops here, before it is sent.
fn next_line(input: &mut impl BufRead, number: u64) -> anyhow::Result<Option<String>> {
    let mut line = Vec::new();
    input.take(limits::TEXT as u64 + 2).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > limits::TEXT {
        bail!(
            "line {number} is longer than {} bytes, which is what a message holds; nothing of it was sent",
            limits::TEXT
        );
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| anyhow!("line {number} is not UTF-8; nothing of it was sent"))
}
