//! The status page: who runs this relay, what it allows, how it does. HTML and CSS, no scripts; everything that comes
//! from the operator is escaped.

use std::fmt::Write as _;

use qrcode::{Color, QrCode};

use super::sample::{Sample, Unwell};
use crate::config::{Mode, RelayConfig};

/// The page's style sheet.
pub const STYLE: &str = include_str!("page.css");

/// Addresses shown.
const ADDRESSES: usize = 8;

/// The page for a sample.
#[must_use]
pub fn page(sample: &Sample) -> String {
    let config = &sample.config;
    let title = title(config);
    let mut body = String::new();
    header(&mut body, &title);
    body.push_str("<main>");
    state(&mut body, sample);
    operator(&mut body, config);
    now(&mut body, sample);
    limits(&mut body, sample);
    address(&mut body, sample);
    body.push_str("</main>");
    let _ = write!(
        body,
        "<footer><p>kith-relay {} · counted since its start · nobody who uses it is named here</p></footer>",
        escape(&sample.status.version)
    );
    document(&title, &body)
}

/// The page for a relay that does not say how it does.
#[must_use]
pub fn unwell(config: &RelayConfig, error: &Unwell) -> String {
    let title = title(config);
    let mut body = String::new();
    header(&mut body, &title);
    body.push_str("<main>");
    banner(&mut body, "bad", "Not working", &format!("The relay does not answer: {error}."));
    operator(&mut body, config);
    body.push_str("</main>");
    document(&title, &body)
}

fn title(config: &RelayConfig) -> String {
    match config.operator.name.trim() {
        "" => "A Kith relay".into(),
        name => format!("Kith relay of {name}"),
    }
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">\
         <title>{}</title><link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/style.css\">\
         </head><body>{body}</body></html>\n",
        escape(title)
    )
}

fn header(body: &mut String, title: &str) {
    let _ = write!(
        body,
        "<header><h1>{}</h1><p class=\"soft\">A relay keeps sealed messages for people who are away, and hands them over \
         when they come back. It cannot read them, and does not know who sent them.</p></header>",
        escape(title)
    );
}

fn banner(body: &mut String, class: &str, what: &str, more: &str) {
    let (what, more) = (escape(what), escape(more));
    let _ = write!(
        body,
        "<div class=\"state {class}\" role=\"status\"><strong>{what}</strong><p>{more}</p></div>"
    );
}

fn state(body: &mut String, sample: &Sample) {
    let (class, what, more) = match (sample.status.load.as_str(), sample.status.mode.as_str()) {
        ("critical", _) => (
            "bad",
            "Takes no new messages",
            "It is overloaded or its disk is full. Messages that are here can be fetched; senders use other relays meanwhile.",
        ),
        ("heavy", _) => (
            "busy",
            "Very busy",
            "It takes short messages only, and no new mailboxes. Messages that are here can be fetched.",
        ),
        ("high", _) => ("busy", "Busy", "It takes messages, but no new mailboxes for now."),
        (_, "closed") => (
            "busy",
            "Closing down",
            "It takes nothing new. Messages that are here can be fetched; choose another relay for the future.",
        ),
        _ => ("normal", "Working normally", "It takes messages and hands them over."),
    };
    banner(body, class, what, more);
    if sample.status.clock_in_doubt {
        banner(
            body,
            "busy",
            "Its clock has jumped",
            "Nothing is removed for being too old until the operator confirms the time.",
        );
    }
}

fn operator(body: &mut String, config: &RelayConfig) {
    let operator = &config.operator;
    body.push_str("<section><h2>Who runs this</h2>");
    match operator.name.trim() {
        "" => body.push_str("<p class=\"soft\">The operator has not said.</p>"),
        name => {
            let _ = write!(body, "<p>{}</p>", escape(name));
        }
    }
    match operator.contact.trim() {
        "" => {}
        contact => {
            let _ = write!(body, "<p>Contact: {}</p>", link(contact));
        }
    }
    for paragraph in operator.about.split("\n\n").map(str::trim).filter(|text| !text.is_empty()) {
        let _ = write!(body, "<p>{}</p>", escape(paragraph));
    }
    body.push_str("</section>");
}

fn now(body: &mut String, sample: &Sample) {
    let status = &sample.status;
    let mut figures = vec![
        ("Running for", duration(status.uptime_s)),
        ("Load", status.load.clone()),
        ("Connections", grouped(status.connections as u64)),
        ("Mailboxes", grouped(u64::try_from(status.mailboxes).unwrap_or_default())),
        ("Messages waiting", grouped(u64::try_from(status.envelopes).unwrap_or_default())),
        ("They take", bytes(u64::try_from(status.bytes).unwrap_or_default())),
    ];
    if let Some(free) = status.free_bytes {
        figures.push(("Disk free", bytes(free)));
    }
    list(body, "Now", &figures);
}

fn limits(body: &mut String, sample: &Sample) {
    let mailbox = &sample.config.mailbox;
    let mode = match (sample.status.mode.as_str(), sample.config.mode) {
        ("closed", _) | (_, Mode::Closed) => "nobody new",
        (_, Mode::Open) => "everybody",
        (_, Mode::Token) => "who has a token of the operator",
        (_, Mode::AllowList) => "devices the operator has listed",
    };
    let days = mailbox.days;
    let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    list(
        body,
        "Limits",
        &[
            ("Who may open a mailbox", mode.to_owned()),
            ("A mailbox holds", bytes(mailbox.bytes.0)),
            ("Messages in it", if mailbox.items == 0 { "any number".into() } else { grouped(mailbox.items) }),
            ("Largest message", bytes(mailbox.envelope.0)),
            ("Kept at most", days),
        ],
    );
}

fn list(body: &mut String, heading: &str, figures: &[(&str, String)]) {
    let _ = write!(body, "<section><h2>{heading}</h2><dl>");
    for (name, value) in figures {
        let _ = write!(body, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    body.push_str("</dl></section>");
}

fn address(body: &mut String, sample: &Sample) {
    let public: Vec<&String> = sample.status.addresses.iter().filter(|address| !is_near(address)).collect();
    let shown = if public.is_empty() { sample.status.addresses.iter().collect() } else { public };
    let which = if shown.len() == 1 { "this address" } else { "one of these addresses" };
    let _ = write!(body, "<section><h2>Use it</h2><p>Give {which} to Kith:</p>");
    for address in shown.iter().take(ADDRESSES) {
        let _ = write!(body, "<code>{}</code>", escape(address));
    }
    if let Some(first) = shown.first() {
        qr(body, first);
    }
    body.push_str("</section>");
}

/// Loopback and link-local addresses lead nobody here.
fn is_near(address: &str) -> bool {
    ["/ip4/127.", "/ip6/::1/", "/ip4/169.254.", "/ip6/fe80:"].iter().any(|near| address.starts_with(near))
}

/// A code for cameras, as a picture made of one path.
fn qr(body: &mut String, text: &str) {
    // too long for a code: the text stands above
    let Ok(code) = QrCode::new(text) else { return };
    let width = code.width();
    let side = width + 8;
    let mut path = String::new();
    for (n, _) in code.to_colors().iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
        let _ = write!(path, "M{} {}h1v1h-1z", n % width + 4, n / width + 4);
    }
    // black on white also in the dark: cameras need it
    let _ = write!(
        body,
        "<svg class=\"qr\" role=\"img\" aria-label=\"The first address as a code for cameras\" \
         viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\" xmlns=\"http://www.w3.org/2000/svg\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>"
    );
}

/// A contact as a link, if it is one that a click should follow.
fn link(contact: &str) -> String {
    let shown = escape(contact);
    let plain = !contact.chars().any(|c| c.is_whitespace() || c.is_control());
    if plain && (contact.starts_with("https://") || contact.starts_with("mailto:")) {
        return format!("<a rel=\"noreferrer\" href=\"{shown}\">{shown}</a>");
    }
    let address = |(user, host): (&str, &str)| {
        let fits = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_+".contains(c))
        };
        fits(user) && fits(host)
    };
    if plain && contact.split_once('@').is_some_and(address) {
        return format!("<a href=\"mailto:{shown}\">{shown}</a>");
    }
    shown
}

/// Text as it may stand in HTML, also in an attribute. What reorders text around it is left out.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (1, hours, _) => format!("1 day {hours} h"),
        (days, hours, _) => format!("{days} days {hours} h"),
    }
}

/// Digits in threes, with thin blanks.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[allow(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
fn bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if value.fract() < 0.05 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::web::sample::full_sample;

    #[test]
    fn the_page_says_who_runs_it_what_is_allowed_and_how_it_does() {
        let mut sample = full_sample();
        let mut config = RelayConfig::default();
        config.operator.name = "Example Co-op".into();
        config.operator.contact = "ops@example.org".into();
        config.operator.about = "First.\n\nSecond.".into();
        sample.config = Arc::new(config);
        sample.status.load = "normal".into();
        let page = page(&sample);
        for text in [
            "Kith relay of Example Co-op",
            "<a href=\"mailto:ops@example.org\">",
            "<p>First.</p><p>Second.</p>",
            "Working normally",
            "1 day 2 h",
            "3\u{202f}456",
            "64 MiB",
            "30 days",
            "/ip4/203.0.113.7/tcp/4190/p2p/12D3KooW",
            "kith-relay 0.1.0",
            "<svg",
        ] {
            assert!(page.contains(text), "{text} is missing in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("style="));
    }

    #[test]
    fn each_load_and_a_drained_relay_are_told_in_words() {
        let mut sample = full_sample();
        for (load, mode, told) in [
            ("high", "open", "no new mailboxes"),
            ("heavy", "open", "short messages only"),
            ("critical", "closed", "Takes no new messages"),
            ("normal", "closed", "Closing down"),
        ] {
            (sample.status.load, sample.status.mode) = (load.into(), mode.into());
            assert!(page(&sample).contains(told), "{load} {mode}");
        }
        sample.status.clock_in_doubt = true;
        assert!(page(&sample).contains("clock has jumped"));
    }

    #[test]
    fn what_the_operator_writes_is_text_and_never_markup() {
        let evil = "\"><script>alert(1)</script>' onload=x <img src=x>\u{202e}";
        let mut sample = full_sample();
        let mut config = RelayConfig::default();
        config.operator.name = evil.into();
        config.operator.about = evil.into();
        config.operator.contact = format!("https://e.org/{evil}");
        sample.config = Arc::new(config);
        sample.status.addresses = vec![format!("/dns4/{evil}")];
        let page = page(&sample);
        for tag in ["<script", "<img", "onload=x <", "\u{202e}", "href=\"https://e.org"] {
            assert!(!page.contains(tag), "{tag}");
        }
    }

    #[test]
    fn only_harmless_contacts_become_links() {
        for contact in
            ["javascript:alert(1)", "http://e.org", "a b@c", "@you:matrix.org", "x\"y@z", "data:a@b"]
        {
            assert!(!link(contact).contains("href"), "{contact}");
        }
        assert_eq!(
            link("https://e.org/?a=1&b='2'"),
            "<a rel=\"noreferrer\" href=\"https://e.org/?a=1&amp;b=&#39;2&#39;\">https://e.org/?a=1&amp;b=&#39;2&#39;</a>"
        );
    }

    #[test]
    fn figures_are_written_for_people() {
        let written = [duration(59), duration(3_599), duration(86_399), duration(200_000)];
        assert_eq!(written, ["59 s", "59 min", "23 h 59 min", "2 days 7 h"]);
        let written = [bytes(0), bytes(1023), bytes(1536), bytes(64 << 20)];
        assert_eq!(written, ["0 B", "1023 B", "1.5 KiB", "64 MiB"]);
        assert_eq!(
            [grouped(7), grouped(1_000), grouped(1_234_567)],
            ["7", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
    }
}
