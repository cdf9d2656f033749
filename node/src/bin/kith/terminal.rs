//! The terminal: what it can do, and questions to the person at it.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, bail};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use zeroize::Zeroizing;

/// Longest passphrase that is read.
const PASSPHRASE: usize = 1024;

/// Columns and rows; a usual size if the terminal does not tell.
pub(crate) fn size() -> (usize, usize) {
    match crossterm::terminal::size() {
        Ok((columns, rows)) if columns >= 20 && rows >= 3 => (columns.into(), rows.into()),
        _ => (80, 24),
    }
}

/// The terminal cannot move its cursor.
pub(crate) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") && cfg!(unix)
}

/// The surroundings speak UTF-8, or do not say.
pub(crate) fn speaks_unicode() -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .map(|value| value.to_string_lossy().to_ascii_lowercase());
    // nothing said (a container, a service) is no word against it; "C" and "POSIX" at a terminal are
    match said {
        None => true,
        Some(said) => said.contains("utf") || !io::stdout().is_terminal(),
    }
}

/// Somebody can answer questions.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question that is answered with yes or no; no is the answer to everything else.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a passphrase, which is not shown.
pub(crate) fn ask_passphrase(question: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}: ")?;
    stderr.flush()?;
    enable_raw_mode().context("the terminal does not hide what is typed; use --passphrase-file")?;
    let typed = read_hidden();
    // the terminal is of more use whole than this error
    let _ = disable_raw_mode();
    writeln!(stderr)?;
    typed
}

fn read_hidden() -> anyhow::Result<Zeroizing<String>> {
    // never grown, so that no copy is left behind
    let mut typed = Zeroizing::new(String::with_capacity(PASSPHRASE + 4));
    loop {
        let Event::Key(key) = read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Ok(typed),
            KeyCode::Char('c' | 'd') if control => bail!("no passphrase was given"),
            KeyCode::Char('u') if control => typed.clear(),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(c) if !control && typed.len() < PASSPHRASE => typed.push(c),
            _ => {}
        }
    }
}
