//! The space-time diagram of one message: a line for each node, time downwards, an arrow for each frame.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::plot::millis;
use crate::judge::{Note, Step, Story};

const LEFT: f64 = 150.0;
/// Between two hosts' lines,
const COLUMN: f64 = 290.0;
/// and if there are more than two.
const NARROW: f64 = 210.0;
const TOP: f64 = 40.0;

/// The diagram of a message.
pub(super) fn diagram(story: &Story) -> String {
    let notes = story.notes();
    let relays: BTreeSet<u32> =
        notes.iter().filter(|note| is_about_relay(note.what)).filter_map(|note| note.peer).collect();
    let hosts: BTreeSet<u32> = notes.iter().map(|note| note.host).chain(relays.iter().copied()).collect();
    // the author first
    let mut columns: Vec<u32> = vec![story.author];
    columns.extend(hosts.into_iter().filter(|host| *host != story.author));
    let step = if columns.len() > 2 { NARROW } else { COLUMN };
    let x = |host: u32| {
        let column = columns.iter().position(|known| *known == host).unwrap_or_default();
        LEFT + column as f64 * step
    };
    let mut svg = String::new();
    let places = places(notes);
    let bottom = places.last().copied().unwrap_or(TOP) + 24.0;
    for host in &columns {
        let at = x(*host);
        let role = if *host == story.author { " (author)" } else { "" };
        let kind = if relays.contains(host) { "relay, node" } else { "node" };
        let _ = write!(
            svg,
            "<text class=head x={at:.0} y=20 text-anchor=middle>{kind} {host}{role}</text>\
             <line class=life x1={at:.0} x2={at:.0} y1=28 y2={bottom:.0} />"
        );
    }
    for arrow in by_relay(notes, &places) {
        let (from, to) = (x(arrow.from.0), x(arrow.to.0));
        let _ = write!(
            svg,
            "<line class=\"{}\" x1={from:.0} y1={:.0} x2={to:.0} y2={:.0} marker-end=\"url(#tip)\" />",
            arrow.class, arrow.from.1, arrow.to.1
        );
    }
    let mut before = None;
    for (note, y) in notes.iter().zip(&places) {
        if before != Some(note.at) {
            let since = millis(note.at.saturating_sub(story.written) as f64 / 1e6);
            let _ = write!(svg, "<text class=time x=100 y={:.0} text-anchor=end>+ {since}</text>", y + 4.0);
        }
        before = Some(note.at);
    }
    for (n, (note, y)) in notes.iter().zip(&places).enumerate() {
        let (at, word) = (x(note.host), word(note.what));
        let arrival = match note.what {
            Step::Sent => Some(Step::Arrived),
            Step::AckSent => Some(Step::Acked),
            _ => None,
        };
        if let (Some(arrival), Some(peer)) = (arrival, note.peer) {
            let later = notes.iter().zip(&places).skip(n + 1);
            // the first thing that is either its arrival or another attempt: then this one was lost
            let next = later.into_iter().find(|(other, _)| {
                let arrived = other.what == arrival && other.host == peer && other.peer == Some(note.host);
                let again = other.what == note.what && other.host == note.host && other.peer == note.peer;
                arrived || again
            });
            let there = next.filter(|(other, _)| other.what == arrival);
            let class = if arrival == Step::Acked { "ack" } else { "frame" };
            let to = x(peer);
            match there {
                Some((_, end)) => {
                    let _ = write!(
                        svg,
                        "<line class={class} x1={at:.0} y1={y:.0} x2={to:.0} y2={end:.0} marker-end=\"url(#tip)\" />"
                    );
                }
                None => {
                    let half = f64::midpoint(at, to);
                    let _ = write!(
                        svg,
                        "<line class=\"{class} lost\" x1={at:.0} y1={y:.0} x2={half:.0} y2={:.0} />\
                         <text class=lost x={half:.0} y={:.0}>✕</text>",
                        y + 10.0,
                        y + 14.0
                    );
                }
            }
        }
        let class = if matches!(note.what, Step::AuthorDown | Step::RecipientDown) { "down" } else { "dot" };
        let _ = write!(
            svg,
            "<circle class={class} cx={at:.0} cy={y:.0} r=4 />\
             <text x={:.0} y={:.0} class=step>{word}</text>",
            at + 9.0,
            y + 4.0
        );
    }
    let width = LEFT + columns.len().max(1) as f64 * step;
    format!(
        "<svg class=spacetime viewBox=\"0 0 {width:.0} {bottom:.0}\" style=\"max-width:{width:.0}px\" role=img \
         aria-label=\"space-time diagram of message {}\">{svg}</svg>",
        story.entry.short()
    )
}

const fn is_about_relay(step: Step) -> bool {
    matches!(step, Step::Deposited | Step::InCustody | Step::Fetched)
}

/// An arrow from a place on one host's line to a place on another's.
struct Arrow {
    class: &'static str,
    from: (u32, f64),
    to: (u32, f64),
}

/// Ways to and from relays. What a relay does itself is not among the notes: it is drawn between the times at which
/// others heard of it.
fn by_relay(notes: &[Note], places: &[f64]) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for (n, (note, y)) in notes.iter().zip(places).enumerate() {
        let Some(relay) = note.peer.filter(|_| is_about_relay(note.what)) else { continue };
        match note.what {
            Step::Deposited => {
                let mut later = notes.iter().zip(places).skip(n + 1);
                let answer = later.find(|(other, _)| {
                    other.host == note.host
                        && other.peer == Some(relay)
                        && matches!(other.what, Step::Deposited | Step::InCustody)
                });
                match answer {
                    Some((other, end)) if other.what == Step::InCustody => {
                        let middle = f64::midpoint(*y, *end);
                        arrows.push(Arrow { class: "frame", from: (note.host, *y), to: (relay, middle) });
                        arrows.push(Arrow { class: "ack", from: (relay, middle), to: (note.host, *end) });
                    }
                    // no word came back, or it was given once more
                    _ => arrows.push(Arrow {
                        class: "frame lost",
                        from: (note.host, *y),
                        to: (relay, *y + 10.0),
                    }),
                }
            }
            Step::Fetched => {
                arrows.push(Arrow { class: "frame", from: (relay, *y - 10.0), to: (note.host, *y) });
            }
            _ => {}
        }
    }
    arrows
}

/// Where each note stands: long pauses take little more room than short ones.
fn places(notes: &[Note]) -> Vec<f64> {
    let mut y = TOP;
    let mut before: Option<&Note> = None;
    notes
        .iter()
        .map(|note| {
            if let Some(before) = before {
                let ms = note.at.saturating_sub(before.at) as f64 / 1e6;
                y += if before.host == note.host || ms > 0.0 { 17.0 } else { 4.0 };
                y += (6.0 * (1.0 + ms / 10.0).log2()).min(70.0);
            }
            before = Some(note);
            y
        })
        .collect()
}

const fn word(step: Step) -> &'static str {
    match step {
        Step::Written => "written",
        Step::Queued => "shown: queued",
        Step::Sent => "envelope sent",
        Step::Arrived => "envelope arrived",
        Step::Deposited => "given to a relay",
        Step::InCustody => "relay's receipt stored",
        Step::Fetched => "came from a relay",
        Step::Carried => "shown: carried",
        Step::Secured => "shown: sent",
        Step::Stored => "stored",
        Step::Shown => "shown",
        Step::AckSent => "acknowledged",
        Step::Acked => "acknowledgement heard",
        Step::Delivered => "shown: delivered",
        Step::Read => "shown: read",
        Step::Expired => "shown: expired",
        Step::Rejected => "shown: rejected",
        Step::AuthorDown | Step::RecipientDown => "went down",
    }
}
