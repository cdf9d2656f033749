//! The conversation on the whole terminal: messages whose ticks change in place, and a line to write on.

use std::io::{Write, stdout};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{
    DisableBracketedPaste, EnableBracketedPaste, Event, EventStream, KeyCode, KeyEvent, KeyEventKind,
    KeyModifiers,
};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, SetTitle, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use futures::StreamExt;

use super::editor::Editor;
use super::input::{Input, hints, parse};
use super::talk::{News, Talk};
use crate::app::App;
use crate::out::{Out, Style};
use crate::terminal;
use crate::text::{fit, width};

/// Most rows the line being written takes.
const WRITING: usize = 6;

/// Gives the terminal back as it was, also after a panic.
struct Terminal;

impl Terminal {
    fn take(title: &str) -> std::io::Result<Self> {
        enable_raw_mode()?;
        let terminal = Self;
        execute!(stdout(), EnterAlternateScreen, DisableLineWrap, EnableBracketedPaste, SetTitle(title))?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // nobody is left to tell
        let _ = execute!(stdout(), DisableBracketedPaste, EnableLineWrap, LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// What a key came to.
enum After {
    Go,
    Quit,
}

pub(super) async fn run(app: &App, talk: &mut Talk) -> anyhow::Result<()> {
    let terminal = Terminal::take(&format!("kith: {}", talk.name()))?;
    let mut screen = Screen::new(&app.out);
    let mut keys = EventStream::new();
    let mut ended = std::pin::pin!(terminated());
    let over = loop {
        screen.draw(talk)?;
        tokio::select! {
            key = keys.next() => match key {
                None => break None,
                Some(event) => match screen.event(talk, event?) {
                    After::Go => {}
                    After::Quit => break None,
                },
            },
            news = talk.next() => if let Some(why) = screen.news(talk, news) {
                break Some(why);
            },
            () = &mut ended => break None,
        }
    };
    // what was written last is on its way to the disk
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
    while over.is_none() && talk.is_busy() && !talk.is_cut_off() {
        match tokio::time::timeout_at(patience, talk.next()).await {
            Ok(News::Over(_)) | Err(_) => break,
            Ok(_) => {}
        }
    }
    drop(terminal);
    match over {
        Some(why) => anyhow::bail!("{why}"),
        None => Ok(()),
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

struct Screen {
    out: Out,
    rows: usize,
    editor: Editor,
    /// Rows scrolled up from the newest one.
    scroll: usize,
    /// What stands on the terminal, row by row.
    standing: Vec<String>,
    /// Said in the bar until the next key.
    hint: Option<String>,
}

impl Screen {
    fn new(out: &Out) -> Self {
        let (columns, rows) = terminal::size();
        Self {
            out: Out { columns, ..out.clone() },
            rows,
            editor: Editor::default(),
            scroll: 0,
            standing: Vec::new(),
            hint: None,
        }
    }

    fn event(&mut self, talk: &mut Talk, event: Event) -> After {
        match event {
            Event::Resize(..) => {
                let (columns, rows) = terminal::size();
                self.out.columns = columns;
                self.rows = rows;
                self.standing.clear();
            }
            Event::Paste(text) => self.write(talk, &text),
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                self.hint = None;
                return self.key(talk, key);
            }
            _ => {}
        }
        After::Go
    }

    fn write(&mut self, talk: &mut Talk, text: &str) {
        if !self.editor.insert(text) {
            self.hint = Some("a message holds at most 16 KiB".to_owned());
        }
        talk.typing(!self.editor.is_empty() && !self.editor.text().starts_with('/'));
    }

    fn key(&mut self, talk: &mut Talk, key: KeyEvent) -> After {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        let page = self.rows.saturating_sub(4).max(1);
        match key.code {
            KeyCode::Enter if alt || shift => self.write(talk, "\n"),
            KeyCode::Char('j') if control => self.write(talk, "\n"),
            KeyCode::Enter => return self.submit(talk),
            KeyCode::Char('c') if control && !self.editor.is_empty() => {
                self.editor.clear();
                talk.typing(false);
            }
            KeyCode::Char('c') if control => return After::Quit,
            KeyCode::Char('d') if control && self.editor.is_empty() => return After::Quit,
            KeyCode::Char('d') if control => self.editor.delete(),
            KeyCode::Char('a') if control => self.editor.home(),
            KeyCode::Char('e') if control => self.editor.end(),
            KeyCode::Char('b') if control => self.editor.left(),
            KeyCode::Char('f') if control => self.editor.right(),
            KeyCode::Char('u') if control => self.editor.delete_to_start(),
            KeyCode::Char('k') if control => self.editor.delete_to_end(),
            KeyCode::Char('w') if control => self.editor.delete_word(),
            KeyCode::Char('p') if control => self.editor.older(),
            KeyCode::Char('n') if control => self.editor.newer(),
            KeyCode::Char('l') if control => self.standing.clear(),
            KeyCode::Char('b') if alt => self.editor.word_left(),
            KeyCode::Char('f') if alt => self.editor.word_right(),
            KeyCode::Backspace if alt || control => self.editor.delete_word(),
            KeyCode::Backspace => self.editor.backspace(),
            KeyCode::Delete => self.editor.delete(),
            KeyCode::Left if control || alt => self.editor.word_left(),
            KeyCode::Right if control || alt => self.editor.word_right(),
            KeyCode::Left => self.editor.left(),
            KeyCode::Right => self.editor.right(),
            KeyCode::Home => self.editor.home(),
            KeyCode::End => self.editor.end(),
            KeyCode::Up => self.editor.older(),
            KeyCode::Down => self.editor.newer(),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_add(page),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::Esc => self.scroll = 0,
            KeyCode::Char(c) if !control && !alt => self.write(talk, c.encode_utf8(&mut [0; 4])),
            _ => {}
        }
        if self.editor.is_empty() {
            talk.typing(false);
        }
        After::Go
    }

    fn submit(&mut self, talk: &mut Talk) -> After {
        let line = self.editor.take();
        talk.typing(false);
        self.scroll = 0;
        match parse(&line) {
            Input::Quit => return After::Quit,
            Input::Wrong(why) => {
                // it stays, to be put right
                self.editor.insert(&line);
                self.hint = Some(why);
            }
            input => talk.wish(input),
        }
        After::Go
    }

    /// Takes news in; says why if the chat is over.
    fn news(&mut self, talk: &mut Talk, news: News) -> Option<String> {
        match news {
            News::Notice(text) => {
                let before = self.scroll;
                for line in text.lines() {
                    talk.timeline.notice(line.to_owned());
                }
                if before > 0 {
                    self.scroll += text.lines().count();
                }
            }
            News::Message(id) if self.scroll > 0 => {
                // what is being read stays where it is
                self.scroll += talk.timeline.lines_for(&self.out, id).len();
            }
            News::Over(why) => return Some(why),
            _ => {}
        }
        None
    }

    fn draw(&mut self, talk: &mut Talk) -> anyhow::Result<()> {
        let prompt = if self.out.unicode() { "› " } else { "> " };
        let layout = self.editor.layout(self.out.columns.saturating_sub(width(prompt) + 1));
        let (row, column) = layout.cursor;
        let shown = layout.rows.len().min(WRITING.min(self.rows.saturating_sub(2)).max(1));
        let skip = (row + 1).saturating_sub(shown);
        let hints = hints(self.editor.text());
        let hint_rows = hints.len().min(self.rows.saturating_sub(shown + 4));
        let room = self.rows.saturating_sub(shown + 1 + hint_rows).max(1);

        let mut wanted = self.window(talk, room);
        let at_end = self.scroll == 0;
        wanted.push(self.bar(talk));
        for hint in hints.iter().take(hint_rows) {
            wanted.push(self.out.paint(Style::Dim, &fit(&format!("  {hint}"), self.out.columns)));
        }
        let first = wanted.len();
        for (number, text) in layout.rows.iter().enumerate().skip(skip).take(shown) {
            let lead =
                if number == 0 { self.out.paint(Style::Bold, prompt) } else { " ".repeat(width(prompt)) };
            wanted.push(format!("{lead}{text}"));
        }
        self.put(&wanted, (width(prompt) + column, first + row - skip.min(row)))?;
        if at_end {
            talk.displayed();
        }
        Ok(())
    }

    /// The rows of the conversation that fit, and the page before them if one is near the beginning.
    fn window(&mut self, talk: &mut Talk, room: usize) -> Vec<String> {
        let mut rows = talk.timeline.tail(&self.out, room + self.scroll + 1);
        if rows.len() <= room + self.scroll {
            if self.scroll > 0 {
                talk.load_older_quietly();
            }
            self.scroll = rows.len().saturating_sub(room);
        }
        rows.truncate(rows.len().saturating_sub(self.scroll));
        let mut window = rows.split_off(rows.len().saturating_sub(room));
        // a short conversation stands at the bottom, where the eyes are
        let missing = room.saturating_sub(window.len());
        window.splice(0..0, std::iter::repeat_n(String::new(), missing));
        window
    }

    fn bar(&self, talk: &Talk) -> String {
        let line = if self.out.unicode() { "─" } else { "-" };
        let who = format!("{line}{line} {} · {} ", talk.name(), talk.presence());
        let right = match (&self.hint, self.scroll, talk.waiting()) {
            (Some(hint), ..) => format!(" {hint} "),
            (None, 1.., _) => " scrolled up, Esc goes back down ".to_owned(),
            (None, 0, Some(waiting)) => format!(" {waiting} "),
            (None, 0, None) if self.editor.is_empty() => " /help ".to_owned(),
            _ => String::new(),
        };
        let columns = self.out.columns;
        let right = fit(&right, columns.saturating_sub(8));
        let left = fit(&who, columns.saturating_sub(width(&right)));
        let fill = line.repeat(columns.saturating_sub(width(&left) + width(&right)));
        let style = if self.hint.is_some() || talk.is_cut_off() { Style::Warn } else { Style::Dim };
        self.out.paint(style, &format!("{left}{fill}{right}"))
    }

    /// Writes the rows that differ from what stands there.
    fn put(&mut self, wanted: &[String], cursor: (usize, usize)) -> std::io::Result<()> {
        let mut to = stdout().lock();
        let small = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        queue!(to, BeginSynchronizedUpdate, Hide)?;
        if self.standing.is_empty() {
            queue!(to, Clear(ClearType::All))?;
        }
        for (row, text) in wanted.iter().enumerate() {
            if self.standing.get(row) != Some(text) {
                // cleared first: at the last column the cursor stays on what was printed there
                queue!(to, MoveTo(0, small(row)), Clear(ClearType::UntilNewLine), Print(text))?;
            }
        }
        if self.standing.len() > wanted.len() {
            queue!(to, MoveTo(0, small(wanted.len())), Clear(ClearType::FromCursorDown))?;
        }
        queue!(to, MoveTo(small(cursor.0), small(cursor.1)), Show, EndSynchronizedUpdate)?;
        to.flush()?;
        self.standing = wanted.to_vec();
        Ok(())
    }
}
