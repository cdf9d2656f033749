//! Messages and people as readable lines.

use std::collections::HashMap;

use kith_node::api::{
    ContactStatus, ContactView, Direction, JourneyView, Kind, MessageView, NodeView, Status, StepView,
};
use kith_node::protocol::EntryId;

use crate::out::{Out, Style};
use crate::text::{clean, clean_line, fit, pad, width, wrap};
use crate::tick::{meaning, tick};
use crate::when;

/// First digits of a message id that are shown.
const SHORT_ID: usize = 8;

/// A message's id as people type it.
pub(crate) fn short_id(id: EntryId) -> String {
    id.to_string().chars().take(SHORT_ID).collect()
}

/// Who wrote it, from the reader's side. Nobody else's name looks like the word for oneself.
pub(crate) fn author(message: &MessageView) -> String {
    match message.direction {
        Direction::Out => "you".to_owned(),
        Direction::In => {
            let name = clean_line(&message.author_name);
            if name.trim().to_lowercase() == "you" {
                return format!("{name} ({})", message.author.short());
            }
            name
        }
    }
}

/// What an edit or a deletion of one's own has come to, if that is less than the tick beside the message says.
fn change_lacks(message: &MessageView) -> Option<&'static str> {
    let change = message.change?;
    let there = Status::Delivered;
    if !message.status.meets(there) || change.status.meets(there) {
        return None;
    }
    Some(match (message.deleted, change.status.failed()) {
        (false, false) => "queued, they see the earlier text",
        (false, true) => "did not arrive, they see the earlier text",
        (true, false) => "queued, they still see it",
        (true, true) => "did not arrive, they still see it",
    })
}

/// What a message says, with what became of it.
pub(crate) fn body(message: &MessageView) -> String {
    let lacks = change_lacks(message).map(|lacks| format!("; {lacks}")).unwrap_or_default();
    if message.deleted {
        let whose = if message.recovered { ", says the other side" } else { "" };
        return format!("(deleted{whose}{lacks})");
    }
    if message.kind == Kind::Unknown {
        return "(made by a newer Kith; update to see it)".to_owned();
    }
    let mut text = clean(&message.text);
    let edited = format!("edited{lacks}");
    for (is, word) in [
        (message.edited, edited.as_str()),
        (message.late, "arrived late"),
        (message.recovered, "given back by the other side"),
    ] {
        if is {
            text.push_str(" (");
            text.push_str(word);
            text.push(')');
        }
    }
    text
}

/// Reactions in force, or nothing.
pub(crate) fn reactions(message: &MessageView) -> Option<String> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for reaction in &message.reactions {
        let emoji = clean_line(&reaction.emoji);
        match counts.iter_mut().find(|(known, _)| *known == emoji) {
            Some((_, count)) => *count += 1,
            None => counts.push((emoji, 1)),
        }
    }
    let shown: Vec<_> = counts
        .into_iter()
        .map(|(emoji, count)| if count > 1 { format!("{emoji} {count}") } else { emoji })
        .collect();
    (!shown.is_empty()).then(|| shown.join("  "))
}

/// The lines of a message: a label (its number or id), time, author, text, tick.
pub(crate) fn message(out: &Out, label: &str, message: &MessageView, answered: Option<&str>) -> Vec<String> {
    let name = author(message);
    let style = if message.direction == Direction::Out { Style::Bold } else { Style::Name };
    let lead = if label.is_empty() { String::new() } else { format!("{label} ") };
    let time = when::clock(message.time);
    let head = format!(
        "{}{} {}: ",
        out.paint(Style::Dim, &lead),
        out.paint(Style::Dim, &time),
        out.paint(style, &name)
    );
    let indent = width(&lead) + width(&time) + 1;
    let first = indent + width(&name) + 2;
    let columns = out.columns.max(30);
    let mut lines = Vec::new();
    if let Some(answered) = answered {
        let quote = format!(
            "{}↪ {}",
            " ".repeat(indent),
            fit(&clean_line(answered), columns.saturating_sub(indent + 4))
        );
        lines.push(out.paint(Style::Dim, &quote));
    }
    let text = body(message);
    // the text goes on under itself if that leaves it room, else under the name
    let hang = if first * 3 <= columns { first } else { indent };
    let mut body_lines = wrap_hanging(&text, columns, first, hang);
    if message.direction == Direction::Out && !message.deleted {
        let mark = tick(out, message.status, message.custody);
        let plain = tick(&Out { colour: false, ..out.clone() }, message.status, message.custody);
        let used =
            body_lines.last().map_or(0, |line| width(line)) + if body_lines.len() > 1 { hang } else { first };
        if used + 2 + width(&plain) <= columns {
            if let Some(last) = body_lines.last_mut() {
                last.push_str("  ");
                last.push_str(&mark);
            }
        } else {
            body_lines.push(mark);
        }
    }
    let gone = message.deleted || message.kind == Kind::Unknown;
    for (number, line) in body_lines.into_iter().enumerate() {
        let line = if gone { out.paint(Style::Dim, &line) } else { line };
        lines.push(if number == 0 { format!("{head}{line}") } else { format!("{}{line}", " ".repeat(hang)) });
    }
    if let Some(reactions) = reactions(message) {
        lines.push(format!("{}{reactions}", " ".repeat(hang)));
    }
    lines
}

/// Wraps with room for a head on the first line.
fn wrap_hanging(text: &str, columns: usize, first: usize, hang: usize) -> Vec<String> {
    let room = columns.saturating_sub(first).max(10);
    let rest = columns.saturating_sub(hang).max(10);
    if room == rest {
        return wrap(text, room);
    }
    let mut lines = wrap(text, room);
    if lines.len() > 1 {
        // everything after the first line is wrapped anew, to its own width
        let head = lines.swap_remove(0);
        let tail = text.get(head.len()..).unwrap_or_default();
        let tail = tail.strip_prefix('\n').unwrap_or_else(|| tail.trim_start_matches(' '));
        lines = vec![head];
        lines.extend(wrap(tail, rest));
    }
    lines
}

/// Prints pages of messages with a line for each new day.
#[derive(Debug, Default)]
pub(crate) struct Page {
    last: Option<kith_node::api::Timestamp>,
    texts: HashMap<EntryId, String>,
}

impl Page {
    /// The lines for one more message.
    pub(crate) fn lines(&mut self, out: &Out, label: &str, view: &MessageView) -> Vec<String> {
        let mut lines = Vec::new();
        if self.last.is_none_or(|last| !when::same_day(last, view.time)) {
            lines.push(out.paint(Style::Dim, &format!("── {} ──", when::day(view.time))));
        }
        self.last = Some(view.time);
        let answered = view.reply_to.map(|id| match self.texts.get(&id) {
            Some(text) => text.clone(),
            None => "an earlier message".to_owned(),
        });
        lines.extend(message(out, label, view, answered.as_deref()));
        self.remember(view);
        lines
    }

    /// Keeps a message to be quoted by those that answer it.
    pub(crate) fn remember(&mut self, view: &MessageView) {
        self.texts.insert(view.id, format!("{}: {}", author(view), fit(&clean_line(&view.text), 60)));
    }
}

/// `on-line`, `last seen 3 hours ago`
pub(crate) fn presence(contact: &ContactView) -> String {
    match (contact.state, contact.online, contact.last_seen) {
        (ContactStatus::Waiting, ..) => "waiting for their node to answer".to_owned(),
        (ContactStatus::Refused, ..) => {
            let why = contact.refused.as_deref().unwrap_or("they gave no reason");
            format!("did not take your answer to their invite: {why}; ask for a new one")
        }
        (ContactStatus::Expired, ..) => {
            "the invite ended before it reached them; ask for a new one".to_owned()
        }
        (ContactStatus::Blocked, ..) => "blocked".to_owned(),
        (ContactStatus::Removed, ..) => "removed".to_owned(),
        (ContactStatus::Accepted, true, _) => "on-line".to_owned(),
        (ContactStatus::Accepted, false, Some(seen)) => format!("last seen {}", when::ago(seen)),
        (ContactStatus::Accepted, false, None) => "off-line".to_owned(),
    }
}

/// One line for a contact.
pub(crate) fn contact(out: &Out, contact: &ContactView, columns: usize) -> String {
    let dot = match (contact.online, out.unicode()) {
        (true, true) => out.paint(Style::Good, "●"),
        (false, true) => out.paint(Style::Dim, "○"),
        (true, false) => "*".to_owned(),
        (false, false) => "-".to_owned(),
    };
    let name = clean_line(&contact.name);
    let mut line = format!(
        "{dot} {}  {}  {}",
        pad(&name, columns),
        out.paint(Style::Dim, &contact.account.short()),
        presence(contact)
    );
    if contact.verified {
        line.push_str(&out.paint(Style::Good, "  verified"));
    }
    if contact.own_name.is_some() && !contact.profile_name.is_empty() && contact.profile_name != contact.name
    {
        line.push_str(
            &out.paint(Style::Dim, &format!("  (calls themselves {})", clean_line(&contact.profile_name))),
        );
    }
    line
}

/// A step of a journey: its word, and what it means.
fn step(step: &StepView) -> String {
    let what = match step.what.as_str() {
        "queued" => "written to disk here, with a job to deliver it",
        "sealed" => "encrypted for this device",
        "sent-direct" => "sent straight to the device",
        "link-lost" => "the connection broke before the device confirmed it",
        "delivered" => "the device has it on its disk, and said so",
        "read" => "it was displayed there",
        "repair-asked" => "the device could not decrypt it and asked for it again",
        "resealed" => "encrypted again in a fresh session",
        "rejected" => "the device does not take it",
        "expired" => "nobody confirmed it in time",
        "custody" => "a relay signed that it keeps it",
        "relay-refused" => "a relay does not take it now; it is asked again",
        "relay-unreachable" => "a relay could not be reached; it is tried again",
        "collected" => "their device took it from a relay; its word is awaited",
        _ => "",
    };
    let detail = clean_line(&step.detail);
    let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
    format!("{} {what}{detail}", pad(&clean_line(&step.what), 17))
}

/// The story of a message, and what happens next.
pub(crate) fn journey(out: &Out, journey: &JourneyView, node_runs: bool) -> Vec<String> {
    let mut lines = vec![format!(
        "Message {} is {}: {}",
        short_id(journey.id),
        out.paint(Style::Bold, journey.status.as_str()),
        match (journey.direction, journey.status) {
            (Direction::In, _) => "it came to you".to_owned(),
            (Direction::Out, Status::Carried) => {
                let (have, of) = (journey.custody.have, journey.custody.of);
                format!(
                    "{have} of their {} {} it; two make it sent",
                    when::plural(u64::from(of), "relay"),
                    if have == 1 { "keeps" } else { "keep" }
                )
            }
            (Direction::Out, status) => meaning(status).to_owned(),
        }
    )];
    for device in &journey.devices {
        lines.push(format!(
            "  to {}, device {}: {}",
            clean_line(&device.name),
            device.device.short(),
            out.paint(Style::Bold, device.status.as_str())
        ));
        for view in &device.steps {
            lines.push(format!("    {}  {}", out.paint(Style::Dim, &when::precise(view.at)), step(view)));
        }
    }
    if journey.direction == Direction::Out {
        lines.push(format!("  next: {}", next(journey, node_runs)));
    }
    lines
}

/// It has left, and the connection has not broken since.
fn on_the_way(journey: &JourneyView) -> bool {
    journey.devices.iter().any(|device| device.steps.last().is_some_and(|step| step.what == "sent-direct"))
}

fn next(journey: &JourneyView, node_runs: bool) -> &'static str {
    match journey.status {
        Status::Queued | Status::Carried if !node_runs => {
            "nothing until you are on-line; run `kith run` to deliver"
        }
        Status::Queued if journey.devices.is_empty() => "it leaves as soon as they have answered your invite",
        Status::Queued if on_the_way(journey) => {
            "their device is to confirm it; if it does not, it is sent again"
        }
        Status::Queued => "it leaves as soon as their node can be reached; tried again and again for 30 days",
        Status::Carried => "more relays are asked, and their node is tried directly",
        Status::Sent => "their device fetches it from a relay",
        Status::Delivered => "nothing more to do; “read” follows if they tell when they read",
        Status::Read => "nothing more to do",
        Status::Expired => "it is not tried any more; send it again if it still matters",
        Status::Rejected => "it is not tried any more; you may have been removed there",
    }
}

/// Where a node listens, a line for each place: `192.0.2.7  tcp 4001, ws 4002, quic 4003`. Scripts and bootstrap lists
/// use the addresses as they are; nobody wants to read fifteen of them.
pub(crate) fn places(addresses: &[String]) -> Vec<String> {
    let mut places: Vec<(String, Vec<String>)> = Vec::new();
    for address in addresses {
        let (place, way) = place(address);
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, ways)) => ways.push(way),
            None => places.push((place, vec![way])),
        }
    }
    let columns = places.iter().map(|(place, _)| width(place)).max().unwrap_or(0);
    places.into_iter().map(|(place, ways)| format!("{}  {}", pad(&place, columns), ways.join(", "))).collect()
}

/// `/ip4/192.0.2.7/tcp/4001/p2p/…` as place and way.
fn place(address: &str) -> (String, String) {
    let bare = address.split("/p2p/").next().unwrap_or_default();
    let parts: Vec<&str> = bare.split('/').skip(1).collect();
    let way = match parts.get(2..).unwrap_or_default() {
        ["tcp", port] => format!("tcp {port}"),
        ["tcp", port, "ws"] => format!("ws {port}"),
        ["udp", port, "quic-v1"] => format!("quic {port}"),
        _ => return (clean_line(bare), String::new()),
    };
    (clean_line(parts.get(1).copied().unwrap_or_default()), way)
}

/// How the node stands, in a few lines.
pub(crate) fn node(out: &Out, node: &NodeView) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", out.paint(Style::Bold, &clean_line(&node.name)), node.account)];
    if !node.running {
        lines.push(out.paint(Style::Warn, "off-line: no node is running; start one with `kith run`"));
    } else {
        let reach = match node.reachability.as_str() {
            "public" => "others can reach you from anywhere",
            "private" => "others cannot reach you from outside; you can reach them",
            _ => "not known yet whether others can reach you from outside",
        };
        lines.push(format!(
            "on-line; {} on-line, {} connected; {reach}",
            when::plural(node.contacts_online as u64, "contact"),
            when::plural(node.peers as u64, "other node"),
        ));
    }
    if let Some(restored) = &node.restored {
        lines.push(out.paint(Style::Warn, &clean_line(&restored.text)));
    }
    if node.queued > 0 {
        let deliveries = if node.queued == 1 { "delivery" } else { "deliveries" };
        lines.push(format!("{} {deliveries} not yet confirmed (messages, edits and the like)", node.queued));
    }
    if !node.addresses.is_empty() {
        lines.push("addresses:".to_owned());
        lines.extend(node.addresses.iter().map(|address| format!("  {address}")));
    }
    if node.relays.is_empty() {
        lines.push(crate::command::relay::NONE.to_owned());
    } else {
        lines.push("relays:".to_owned());
        let relays = node.relays.iter().flat_map(|relay| crate::command::relay::lines(out, relay));
        lines.extend(relays.map(|line| format!("  {line}")));
    }
    lines.push(out.paint(Style::Dim, &format!("peer id {}", node.peer_id)));
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use kith_node::api::{ChangeView, CustodyView, Timestamp};
    use kith_node::protocol::{AccountId, ConversationId};

    use super::*;

    /// A message for tests.
    pub(crate) fn sample(direction: Direction, text: &str) -> MessageView {
        MessageView {
            id: EntryId([0xab; 32]),
            conversation: ConversationId([1; 32]),
            with: AccountId([2; 32]),
            author: AccountId([2; 32]),
            author_name: "Ana".to_owned(),
            direction,
            kind: Kind::Text,
            text: text.to_owned(),
            time: Timestamp(1_700_000_000_000),
            stored: Timestamp(1_700_000_000_000),
            status: Status::Delivered,
            custody: CustodyView::default(),
            late: false,
            recovered: false,
            reply_to: None,
            edited: false,
            deleted: false,
            change: None,
            reactions: Vec::new(),
        }
    }

    fn changed(deleted: bool, status: Status, change: Status) -> String {
        let view = MessageView {
            status,
            deleted,
            edited: !deleted,
            change: Some(ChangeView { id: EntryId([9; 32]), status: change }),
            ..sample(Direction::Out, "new text")
        };
        message(&Out::plain(120), "", &view, None).join("\n")
    }

    #[test]
    fn a_tick_beside_an_edited_text_does_not_vouch_for_the_edit() {
        let shown = changed(false, Status::Read, Status::Queued);
        assert!(shown.ends_with("new text (edited; queued, they see the earlier text)  ✓✓ read"), "{shown}");
        assert!(changed(false, Status::Read, Status::Expired).contains("did not arrive"));
        for there in [Status::Delivered, Status::Read] {
            assert!(changed(false, Status::Read, there).ends_with("new text (edited)  ✓✓ read"));
        }
        // neither of them left: the tick says it for both
        assert!(changed(false, Status::Queued, Status::Queued).ends_with("new text (edited)  … queued"));
    }

    #[test]
    fn a_deletion_that_did_not_arrive_yet_says_so() {
        assert!(
            changed(true, Status::Read, Status::Queued).ends_with("(deleted; queued, they still see it)")
        );
        assert!(changed(true, Status::Read, Status::Delivered).ends_with("you: (deleted)"));
        assert!(changed(true, Status::Queued, Status::Queued).ends_with("you: (deleted)"));
    }

    #[test]
    fn places_are_a_line_each() {
        let addresses: Vec<String> = [
            "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWQw7vDCvSJDb6sTEk22mQA8T2dK9XAGJFYCbGvrAJgXo8",
            "/ip4/192.0.2.7/tcp/4002/ws",
            "/ip4/192.0.2.7/udp/4003/quic-v1",
            "/ip6/fd00::2/tcp/4001",
            "/dns4/chat.example.org/tcp/443/wss/p2p/12D3KooWQw7vDCvSJDb6sTEk22mQA8T2dK9XAGJFYCbGvrAJgXo8",
        ]
        .map(str::to_owned)
        .to_vec();
        let lines = places(&addresses);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("192.0.2.7 ") && lines[0].ends_with("  tcp 4001, ws 4002, quic 4003"));
        assert!(lines[1].starts_with("fd00::2 ") && lines[1].ends_with("  tcp 4001"));
        assert!(lines[2].starts_with("/dns4/chat.example.org/tcp/443/wss"));
    }

    #[test]
    fn nobody_can_call_themselves_you() {
        for name in ["you", "You", " YOU "] {
            let view = MessageView { author_name: name.to_owned(), ..sample(Direction::In, "hi") };
            assert!(author(&view).contains("(02020202)"), "{}", author(&view));
        }
        assert_eq!(author(&sample(Direction::In, "hi")), "Ana");
    }

    #[test]
    fn a_message_is_one_line_with_time_author_and_text() {
        let lines = message(&Out::plain(80), "abababab", &sample(Direction::In, "hello"), None);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("abababab ") && lines[0].ends_with(" Ana: hello"), "{lines:?}");
    }

    #[test]
    fn ones_own_message_ends_with_its_tick() {
        let lines = message(&Out::plain(80), "", &sample(Direction::Out, "hello"), None);
        assert!(lines[0].ends_with("you: hello  ✓✓"), "{lines:?}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_whatever_is_written() {
        let long = "word ".repeat(40) + &"日本語".repeat(40) + &"x".repeat(200);
        for columns in [40, 60, 100] {
            for direction in [Direction::In, Direction::Out] {
                for text in [long.as_str(), "a\nb\n\nc", &"y".repeat(columns - 13)] {
                    let lines = message(&Out::plain(columns), "12", &sample(direction, text), Some(&long));
                    for line in lines {
                        assert!(width(&line) <= columns, "{columns}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_of_a_long_text_is_lost_when_it_is_wrapped() {
        let text = (0..200).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        let lines = wrap_hanging(&text, 40, 20, 6);
        assert_eq!(
            lines.join(" ").split_whitespace().collect::<Vec<_>>(),
            text.split(' ').collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_deleted_message_shows_neither_text_nor_tick() {
        let view = MessageView { deleted: true, ..sample(Direction::Out, "") };
        assert!(message(&Out::plain(80), "", &view, None)[0].ends_with("you: (deleted)"));
    }
}
