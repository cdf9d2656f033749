//! Standard output: one JSON object a line for programs, readable lines for people.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::terminal;
use crate::text::{turns_direction, width};

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    Warn,
    Name,
}

/// Where output goes and what it can show.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    /// Programs read it: JSON only.
    pub(crate) json: bool,
    /// Standard output is a terminal.
    pub(crate) terminal: bool,
    /// Colours are welcome.
    pub(crate) colour: bool,
    /// More than ASCII can be shown.
    pub(crate) unicode: bool,
    /// Columns to fill.
    pub(crate) columns: usize,
}

impl Out {
    /// Looks at the surroundings.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json,
            terminal,
            colour: terminal && !json && !no_colour && !terminal::is_dumb(),
            unicode: terminal::speaks_unicode(),
            columns: if terminal { terminal::size().0 } else { 100 },
        }
    }

    /// No terminal, no colours.
    #[cfg(test)]
    pub(crate) fn plain(columns: usize) -> Self {
        Self { json: false, terminal: false, colour: false, unicode: true, columns }
    }

    pub(crate) const fn unicode(&self) -> bool {
        self.unicode
    }

    /// One line on standard output.
    pub(crate) fn line(&self, text: impl Display) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }

    /// A line for people, broken at spaces where a terminal is narrower; what goes on is set in by `hang` columns.
    pub(crate) fn fold(&self, line: &str, hang: usize) -> String {
        if self.terminal { folded(line, self.columns, hang) } else { line.to_owned() }
    }

    /// One JSON object on a line of its own.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        self.line(inert(&serde_json::to_string(value)?))
    }

    /// The JSON object for programs, or the line for people.
    pub(crate) fn either<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if self.json { self.json(value) } else { self.line(text()) }
    }

    /// A remark for people, on standard error so that it is never mistaken for a result.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.json {
            let text = text.to_string();
            let text = text.split('\n').map(|line| self.fold(line, 2)).collect::<Vec<_>>().join("\n");
            let text = if self.colour { self.paint(Style::Dim, &text) } else { text };
            eprintln!("{text}");
        }
    }

    /// Text in a style, if colours are welcome.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Name => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Breaks a line at spaces. Words that are wider than all there is stay whole: they may be there to be copied.
fn folded(line: &str, columns: usize, hang: usize) -> String {
    let hang = hang.min(columns / 3);
    let mut text = String::with_capacity(line.len() + 16);
    let mut used = 0;
    for word in line.split_inclusive(' ') {
        let bare = visible(word.trim_end_matches(' '));
        if used > hang && bare > 0 && used + bare > columns {
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
            text.push_str(&" ".repeat(hang));
            used = hang;
        }
        text.push_str(word);
        used += bare + word.len() - word.trim_end_matches(' ').len();
    }
    text
}

/// Columns of a text that may hold colours.
fn visible(text: &str) -> usize {
    let mut columns = width(text);
    for code in text.split('\u{1b}').skip(1) {
        let code = code.split_inclusive('m').next().unwrap_or_default();
        // the escape itself counts as one column where it counts at all
        columns = columns.saturating_sub(width(code) + width("\u{1b}"));
    }
    columns
}

/// JSON that a terminal shows as it is: controls that JSON allows in a text, and marks that turn the writing direction,
/// become escapes. Outside of texts there are none.
fn inert(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || turns_direction(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{folded, inert, turns_direction, visible};

    #[test]
    fn a_line_is_broken_at_spaces_and_set_in_and_colours_take_no_room() {
        assert_eq!(folded("ok      store   sound and well", 20, 8), "ok      store\n      sound and well");
        assert_eq!(folded("short", 40, 8), "short");
        let long = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWQw7vDCvSJDb6sTEk22mQA8T2dK9XAGJFYCbGvrAJgXo8";
        assert_eq!(folded(&format!("  {long}"), 40, 4), format!("  {long}"), "to be copied");
        assert_eq!(visible("\u{1b}[33mlook\u{1b}[0m here"), 9);
        let painted = "\u{1b}[32mcan be used\u{1b}[0m, 1 of 1 left, made today";
        assert_eq!(folded(painted, 29, 2), "\u{1b}[32mcan be used\u{1b}[0m, 1 of 1 left,\n  made today");
        assert!(folded(&"word ".repeat(30), 40, 6).lines().all(|line| visible(line) <= 40));
    }

    #[test]
    fn json_on_a_terminal_moves_nothing_and_reads_the_same() {
        let text = "a\u{7f}b\u{9b}2Jc\u{202e}d\u{2066}e\u{1b}[2J\u{200f}é😀";
        let shown = inert(&serde_json::to_string(text).unwrap());
        assert!(shown.chars().all(|c| !c.is_control() && !turns_direction(c)), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
