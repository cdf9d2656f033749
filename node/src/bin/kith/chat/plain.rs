//! The conversation one line after the other: for terminals that cannot move their cursor, and for pipes.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use kith_node::api::{Direction, Status};
use kith_node::protocol::EntryId;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::Instant;

use super::input::{Input, parse};
use super::talk::{News, Talk};
use crate::app::App;
use crate::out::Style;
use crate::text::{clean_line, fit};
use crate::tick::tick;

/// One's own message is spoken of when it has not been delivered for so long.
const QUIET: Duration = Duration::from_secs(1);
/// After the end of input: how long delivery is waited for.
const LAST: Duration = Duration::from_secs(5);

pub(super) async fn run(app: &App, talk: &mut Talk) -> anyhow::Result<()> {
    let out = &app.out;
    out.line(format!(
        "Chat with {} ({}). /help lists commands, /quit ends it.",
        talk.name(),
        talk.presence()
    ))?;
    for line in talk.timeline.tail(out, usize::MAX) {
        out.line(line)?;
    }
    talk.displayed();
    let mut plain = Plain {
        app,
        echoed: std::io::stdin().is_terminal(),
        quiet: HashMap::new(),
        presence: talk.presence(),
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut last = None;
    let mut quit = false;
    loop {
        let due = plain.quiet.values().min().copied();
        tokio::select! {
            line = lines.next_line(), if last.is_none() => match line? {
                None => last = Some(Instant::now() + LAST),
                Some(line) => match parse(&line) {
                    Input::Quit => {
                        // what was written before it is still on its way to the disk
                        quit = true;
                        last = Some(Instant::now() + LAST);
                    }
                    input => {
                        talk.typing(false);
                        talk.wish(input);
                    }
                },
            },
            news = talk.next() => {
                if let News::Over(why) = &news {
                    anyhow::bail!("{why}");
                }
                plain.tell(talk, news)?;
            }
            () = until(due) => plain.speak_of_late_ones(talk)?,
            () = until(last) => return Ok(()),
            signal = tokio::signal::ctrl_c() => return Ok(signal?),
        }
        let written = !talk.is_busy() || talk.is_cut_off();
        if last.is_some() && written && (quit || talk.timeline.waiting() == 0) {
            return Ok(());
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Plain<'a> {
    app: &'a App,
    /// The terminal shows what is typed.
    echoed: bool,
    /// One's own messages that were not spoken of yet, and when they will be.
    quiet: HashMap<EntryId, Instant>,
    presence: String,
}

impl Plain<'_> {
    fn tell(&mut self, talk: &mut Talk, news: News) -> anyhow::Result<()> {
        let out = &self.app.out;
        match news {
            News::Message(id) => {
                let own = talk.timeline.get(id).is_some_and(|view| view.direction == Direction::Out);
                if own && self.echoed {
                    self.quiet.insert(id, Instant::now() + QUIET);
                } else {
                    self.print(talk, id)?;
                    talk.displayed();
                }
            }
            News::Changed(id) => self.print(talk, id)?,
            News::Status(id, status) => {
                if status != Status::Queued {
                    self.quiet.remove(&id);
                    self.tick(talk, id)?;
                }
            }
            News::Peer => {
                let presence = talk.presence();
                if presence != self.presence {
                    let text = format!("  {} {presence}", talk.name());
                    // that somebody stopped typing is no news
                    if talk.is_typing() || !self.presence.starts_with("typing") {
                        out.line(out.paint(Style::Dim, &text))?;
                    }
                    self.presence = presence;
                }
            }
            News::Notice(text) => {
                for line in text.lines() {
                    out.line(out.paint(Style::Dim, &format!("  {line}")))?;
                }
            }
            News::Loaded(count) => {
                if count.is_some() {
                    for line in talk.timeline.tail(out, usize::MAX) {
                        out.line(line)?;
                    }
                }
                talk.displayed();
            }
            News::Over(_) => {}
        }
        Ok(())
    }

    fn print(&self, talk: &mut Talk, id: EntryId) -> anyhow::Result<()> {
        for line in talk.timeline.lines_for(&self.app.out, id) {
            self.app.out.line(line)?;
        }
        Ok(())
    }

    /// A line of its own for the tick of one's own message.
    fn tick(&self, talk: &Talk, id: EntryId) -> anyhow::Result<()> {
        let Some(view) = talk.timeline.get(id).filter(|view| view.direction == Direction::Out) else {
            return Ok(());
        };
        let number = talk.timeline.number_of(id).unwrap_or_default();
        let text = fit(&clean_line(&view.text), 40);
        let mark = tick(&self.app.out, view.status, view.custody);
        self.app.out.line(format!("{number:>3} {mark}  {}", self.app.out.paint(Style::Dim, &text)))
    }

    fn speak_of_late_ones(&mut self, talk: &Talk) -> anyhow::Result<()> {
        let now = Instant::now();
        let due: Vec<_> = self.quiet.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.quiet.remove(&id);
            self.tick(talk, id)?;
        }
        Ok(())
    }
}
