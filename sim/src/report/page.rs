//! The page.

use std::fmt::Write as _;

use super::plot::{Plot, Scale, bytes, clock, millis, short};
use super::spacetime::diagram;
use crate::run::Run;

/// Messages whose diagram the page holds.
const DIAGRAMS: usize = 20;
/// Points of a plot; more are thinned out.
const POINTS: usize = 4_000;
/// Rows of the node table.
const ROWS: usize = 1_000;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// A report that opens from disk, without anything from the network.
pub(super) fn html(run: &Run) -> String {
    let summary = &run.summary;
    let title = escape(&format!("{} — seed {}", summary.scenario, summary.seed));
    let verdict = if run.is_good() { ("good", "everything holds") } else { ("bad", "failed") };
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style><body><header><h1>{}</h1><p class=verdict-{}>{}</p><p>{}</p></header><main>",
        escape(&summary.scenario),
        verdict.0,
        verdict.1,
        escape(&run.scenario.scenario.about)
    );
    section(&mut page, "Figures", &figures(run));
    if !run.broken.is_empty() {
        section(&mut page, "Broken promises", &format!("<pre>{}</pre>", escape(&run.complaint())));
    }
    if !summary.expectations.is_empty() {
        section(&mut page, "Expectations", &expectations(run));
    }
    section(&mut page, "How long messages took", &cdf(run));
    section(&mut page, "Latency over time", &latency(run));
    section(&mut page, "Messages and nodes over time", &timeline(run));
    section(&mut page, "Bytes by purpose", &purposes(run));
    if !run.stories.is_empty() {
        section(&mut page, "The way of one message", &stories(run));
    }
    section(&mut page, "Nodes", &nodes(run));
    let scenario = escape(&run.scenario.to_toml());
    section(
        &mut page,
        "Scenario",
        &format!("<details><summary>all parameters</summary><pre>{scenario}</pre></details>"),
    );
    let _ = write!(page, "</main><script>{SCRIPT}</script></body></html>");
    page
}

fn section(page: &mut String, title: &str, body: &str) {
    // writing to a string cannot fail
    let _ = write!(page, "<section><h2>{title}</h2>{body}</section>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn figures(run: &Run) -> String {
    let s = &run.summary;
    let percent = |share: f64| format!("{} %", short(share * 100.0));
    let tiles = [
        ("arrived", percent(s.delivery_ratio)),
        ("messages", s.messages.to_string()),
        ("latency p50", millis(s.delivery_latency_ms.p50)),
        ("latency p99", millis(s.delivery_latency_ms.p99)),
        ("copies too many", short(s.duplicates_per_delivery)),
        ("sent by a node", format!("{}/s", bytes(s.bytes_per_node_s.out))),
        ("nodes", s.nodes.to_string()),
        ("crashes", s.crashes.to_string()),
        ("in relays' custody", s.in_custody.to_string()),
        ("came from a relay", s.by_relay.to_string()),
        ("lookups that found", percent(s.lookup.success)),
        ("virtual time", millis(s.virtual_s * 1e3)),
        ("real time", millis(s.wall_s * 1e3)),
        ("memory", format!("{} MiB", short(s.peak_rss_mib))),
        ("checks", s.invariants_checked.to_string()),
        ("seed", s.seed.to_string()),
        ("trace", s.trace_hash.clone()),
    ];
    let tiles: String = tiles
        .iter()
        .map(|(name, value)| format!("<div class=tile><b>{}</b><span>{name}</span></div>", escape(value)))
        .collect();
    format!("<div class=tiles>{tiles}</div>")
}

fn expectations(run: &Run) -> String {
    let rows: String = run
        .summary
        .expectations
        .iter()
        .map(|e| {
            let op = serde_json::to_value(e.op).unwrap_or_default();
            let (class, word) = if e.ok { ("good", "holds") } else { ("bad", "missed") };
            format!(
                "<tr><td>{}<td>{} {}<td>{}<td class=verdict-{class}>{word}",
                escape(&e.metric),
                escape(op.as_str().unwrap_or_default()),
                e.value,
                e.got
            )
        })
        .collect();
    format!("<table><tr><th>figure<th>expected<th>was<th>{rows}</table>")
}

fn cdf(run: &Run) -> String {
    let all = &run.latencies;
    if all.is_empty() {
        return "<p>No message arrived.</p>".to_owned();
    }
    let mut plot =
        Plot::new(Scale::durations(all.iter().copied()), Scale::Linear(0.0, 1.0), millis, |share| {
            format!("{:.0} %", share * 100.0)
        });
    let every = all.len().div_ceil(POINTS).max(1);
    let points = all.iter().enumerate().filter(|(n, _)| n % every == 0 || n + 1 == all.len());
    plot.line("line a", points.map(|(n, ms)| (*ms, (n + 1) as f64 / all.len() as f64)));
    let p = run.summary.delivery_latency_ms;
    for (name, ms, share) in [("p50", p.p50, 0.5), ("p95", p.p95, 0.95)] {
        plot.dots("dot", std::iter::once((ms, share)));
        plot.word("mark", ms, share - 0.09, &format!("{name} {}", millis(ms)));
    }
    plot.finish("from written to shown", "share of messages that took at most so long")
}

/// Seconds at which the plots end.
fn end(run: &Run) -> f64 {
    run.summary.virtual_s.max(1.0)
}

fn faults(run: &Run, plot: &mut Plot) {
    for fault in &run.faults {
        let to = fault.to.map_or(fault.from as f64 / 1e9, |to| to as f64 / 1e9);
        plot.band(fault.from as f64 / 1e9, to, &escape(&fault.what));
    }
}

fn latency(run: &Run) -> String {
    if run.arrivals.is_empty() {
        return "<p>No message arrived.</p>".to_owned();
    }
    let y = Scale::durations(run.arrivals.iter().map(|(_, ms)| *ms));
    let mut plot = Plot::new(Scale::Time(end(run)), y, clock, millis);
    faults(run, &mut plot);
    let every = run.arrivals.len().div_ceil(POINTS).max(1);
    plot.dots("dot a", run.arrivals.iter().step_by(every).copied());
    let mut text = plot.finish("virtual time of arrival", "latency of each message over time");
    let mut seen: Vec<&str> = Vec::new();
    for fault in &run.faults {
        if !seen.contains(&fault.what.as_str()) && seen.len() < 12 {
            seen.push(&fault.what);
        }
    }
    if !seen.is_empty() {
        let list: Vec<String> = seen.iter().map(|what| escape(what)).collect();
        let more = run.faults.len().saturating_sub(seen.len());
        let _ = write!(text, "<p class=note>Shaded: {}", list.join("; "));
        if more > 0 {
            let _ = write!(text, "; and {more} more");
        }
        text.push_str(".</p>");
    }
    text
}

fn timeline(run: &Run) -> String {
    let samples = &run.timeline;
    let most =
        samples.iter().map(|sample| sample.accepted.max(sample.arrived)).max().unwrap_or(1).max(1) as f64;
    let whole = |number: f64| format!("{number:.0}");
    let x = || Scale::Time(end(run));
    let mut messages = Plot::new(x(), Scale::Linear(0.0, most * 1.05), clock, whole);
    faults(run, &mut messages);
    messages.line("line b", samples.iter().map(|sample| (sample.at, sample.accepted as f64)));
    messages.line("line a", samples.iter().map(|sample| (sample.at, sample.arrived as f64)));
    let most = samples.iter().map(|sample| sample.up).max().unwrap_or(1).max(1) as f64;
    let mut up = Plot::new(x(), Scale::Linear(0.0, most * 1.1), clock, whole);
    faults(run, &mut up);
    up.line("line a", samples.iter().map(|sample| (sample.at, sample.up as f64)));
    format!(
        "<p class=note><span class=\"key b\"></span> accepted <span class=\"key a\"></span> arrived</p>{}\
         <p class=note><span class=\"key a\"></span> nodes that run</p>{}",
        messages.finish("virtual time", "messages accepted and arrived"),
        up.finish("virtual time", "nodes that run")
    )
}

fn purposes(run: &Run) -> String {
    let all = &run.summary.bytes_by_purpose;
    let (sum, most) =
        (all.values().sum::<u64>().max(1) as f64, all.values().copied().max().unwrap_or(1).max(1) as f64);
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|(_, sent)| std::cmp::Reverse(**sent));
    let rows: String = sorted
        .into_iter()
        .map(|(purpose, sent)| {
            let sent = *sent as f64;
            format!(
                "<tr><td>{}<td class=number>{}<td class=number>{} %<td class=wide><div class=bar style=\"width:{:.1}%\"></div>",
                escape(purpose),
                bytes(sent),
                short(sent / sum * 100.0),
                sent / most * 100.0
            )
        })
        .collect();
    format!(
        "<table class=bars><tr><th>purpose<th class=number>sent<th class=number>share<th>{rows}</table>\
         <p class=note><i>transport</i> is handshakes, encryption, multiplexing and the headers of packets.</p>"
    )
}

fn stories(run: &Run) -> String {
    let shown = run.stories.iter().take(DIAGRAMS);
    let options: String = shown
        .clone()
        .enumerate()
        .map(|(n, story)| {
            let took = story.shown.values().max().map_or_else(
                || "has not arrived".to_owned(),
                |at| format!("took {}", millis(at.saturating_sub(story.written) as f64 / 1e6)),
            );
            format!("<option value={n}>{} of node {}, {took}", story.entry.short(), story.author)
        })
        .collect();
    let diagrams: String = shown
        .enumerate()
        .map(|(n, story)| {
            let hidden = if n == 0 { "" } else { " hidden" };
            format!("<div class=diagram id=story-{n}{hidden}>{}</div>", diagram(story))
        })
        .collect();
    format!(
        "<p><label>Message <select id=choose>{options}</select></label></p>\
         <svg width=0 height=0 aria-hidden=true><defs><marker id=tip viewBox=\"0 0 8 8\" refX=7 refY=4 markerWidth=8 \
         markerHeight=8 orient=auto><path d=\"M0,0 L8,4 L0,8 z\" class=tip /></marker></defs></svg>{diagrams}\
         <p class=note>Those with the most to tell. Time goes down; long pauses are shortened.</p>"
    )
}

fn nodes(run: &Run) -> String {
    let rows: String = run
        .nodes
        .iter()
        .take(ROWS)
        .map(|n| {
            format!(
                "<tr><td class=number>{}<td>{}<td>{}<td class=number>{}<td class=number>{}<td class=number>{}\
                 <td class=number>{}<td class=number>{}<td class=number>{}<td class=number>{}",
                n.node,
                n.role,
                if n.up { "up" } else { "down" },
                n.boots,
                n.written,
                n.arrived,
                n.received,
                n.peers,
                bytes(n.bytes_in as f64),
                bytes(n.bytes_out as f64)
            )
        })
        .collect();
    let more = run.nodes.len().saturating_sub(ROWS);
    let more =
        if more > 0 { format!("<p class=note>and {more} more, in report.json</p>") } else { String::new() };
    format!(
        "<div class=scroll><table class=sortable><tr><th class=number>node<th>is<th>at the end<th class=number>boots\
         <th class=number>wrote<th class=number>arrived<th class=number>got<th class=number>peers<th class=number>in\
         <th class=number>out{rows}</table></div>{more}"
    )
}
