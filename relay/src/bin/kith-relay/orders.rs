//! Commands that talk to the running relay.

use anyhow::bail;
use kith_relay::admin::{Ask, Client};
use kith_relay::folder::Folder;
use serde_json::Value;

use crate::cli::{Command, MailboxCommand, TokenCommand};
use crate::out::Out;

const DAY: u64 = 86_400;

pub(crate) async fn perform(folder: &Folder, out: &Out, command: Command) -> anyhow::Result<()> {
    if !folder.is_made() {
        folder.read_key()?;
    }
    let ask = match command {
        // these are performed elsewhere
        Command::Init(_) | Command::Run(_) | Command::Check(_) | Command::Backup(_) | Command::Restore(_) => {
            return Ok(());
        }
        Command::Status => Ask::Status,
        Command::Mailbox(MailboxCommand::List { after, limit }) => Ask::MailboxList { after, max: limit },
        Command::Mailbox(MailboxCommand::Inspect { id }) => Ask::MailboxInspect { mailbox: id },
        Command::Mailbox(MailboxCommand::Evict { id }) => Ask::MailboxEvict { mailbox: id },
        Command::Mailbox(MailboxCommand::Block { id, off }) => {
            Ask::MailboxBlock { mailbox: id, blocked: !off }
        }
        Command::Token(TokenCommand::Create { uses, days, label }) => {
            Ask::TokenCreate { label, uses, lifetime: days.map(|days| days.saturating_mul(DAY)) }
        }
        Command::Token(TokenCommand::List) => Ask::TokenList,
        Command::Token(TokenCommand::Revoke { id }) => Ask::TokenRevoke { id },
        Command::Drain { off } => Ask::Drain { off },
        Command::ConfirmClock => Ask::ConfirmClock,
        Command::Reload => Ask::Reload,
        Command::Audit => Ask::Audit,
        Command::Stop => Ask::Stop,
    };
    let client = Client::new(folder)?;
    let answer = client.order(ask.clone()).await?;
    if out.json {
        match &answer {
            Value::Array(items) => items.iter().try_for_each(|item| out.json(item))?,
            other => out.json(other)?,
        }
    } else {
        for line in people(&ask, &answer) {
            out.line(&line)?;
        }
    }
    let faults = answer.get("faults").and_then(Value::as_array).map_or(0, Vec::len);
    if faults > 0 {
        bail!("{faults} things do not fit");
    }
    Ok(())
}

/// An answer as lines.
fn people(ask: &Ask, answer: &Value) -> Vec<String> {
    match (ask, answer) {
        (Ask::MailboxList { .. } | Ask::TokenList, Value::Array(items)) if items.is_empty() => {
            vec!["There is none.".into()]
        }
        (Ask::MailboxList { .. }, Value::Array(items)) => items.iter().map(mailbox).collect(),
        (Ask::TokenList, Value::Array(items)) => items.iter().map(token).collect(),
        (Ask::TokenCreate { .. }, _) => vec![
            format!("{}", text(answer, "token")),
            format!(
                "It opens {} mailboxes and is shown only now; its id is {}.",
                text(answer, "uses"),
                text(answer, "id")
            ),
        ],
        (Ask::MailboxEvict { mailbox }, _) => vec![format!("Mailbox {mailbox} is being removed.")],
        (Ask::Drain { off: false }, _) => vec![format!(
            "The relay takes nothing new. {} envelopes wait in {} mailboxes.",
            text(answer, "envelopes"),
            text(answer, "mailboxes")
        )],
        (Ask::Drain { off: true }, _) => vec!["The relay goes by its configured mode again.".into()],
        (Ask::Reload, answer) if answer.get("restart").is_some() => {
            let waiting = answer.get("restart").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let names: Vec<String> = waiting.iter().map(plain).collect();
            vec![format!("Done, except for what is in force only after a restart: {}.", names.join(", "))]
        }
        (_, Value::Object(fields)) if fields.is_empty() => vec!["Done.".into()],
        (_, Value::Object(fields)) => {
            let width = fields.keys().map(String::len).max().unwrap_or_default();
            fields.iter().flat_map(|(name, value)| field(name, value, width)).collect()
        }
        (_, other) => vec![other.to_string()],
    }
}

fn field(name: &str, value: &Value, width: usize) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(|item| format!("{name:width$}  {}", plain(item))).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| value.as_u64() != Some(0))
            .flat_map(|(inner, value)| field(&format!("{name}.{inner}"), value, width))
            .collect(),
        other => vec![format!("{name:width$}  {}", plain(other))],
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(answer: &Value, field: &str) -> String {
    answer.get(field).map(plain).unwrap_or_default()
}

fn mailbox(item: &Value) -> String {
    let mark = if item.get("blocked") == Some(&Value::Bool(true)) { "  blocked" } else { "" };
    format!(
        "{}  {:>7} envelopes  {:>12} bytes{mark}",
        text(item, "mailbox"),
        text(item, "envelopes"),
        text(item, "bytes")
    )
}

fn token(item: &Value) -> String {
    let mark = if item.get("revoked") == Some(&Value::Bool(true)) { "  revoked" } else { "" };
    format!(
        "{}  {:>6} left  {:>6} used  {}{mark}",
        text(item, "id"),
        text(item, "uses_left"),
        text(item, "used"),
        text(item, "label")
    )
}
