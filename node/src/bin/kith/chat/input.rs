//! What a typed line means.

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Text(String),
    Reply {
        number: i64,
        text: String,
    },
    Edit {
        number: Option<i64>,
        text: String,
    },
    Delete {
        number: Option<i64>,
    },
    React {
        number: i64,
        emoji: String,
    },
    Info {
        number: Option<i64>,
    },
    More,
    Help,
    Quit,
    /// It cannot be meant; why.
    Wrong(String),
}

/// One line for each command.
pub(super) const HELP: [&str; 9] = [
    "/info [N]        where message N is and what happens next, without N your last one",
    "/reply N TEXT    answer message N",
    "/edit [N] TEXT   change a message of yours, without N your last one",
    "/delete [N]      take a message of yours back, for both of you",
    "/react N EMOJI   react to message N; without an emoji take that back",
    "/more            what was said before (PgUp does the same)",
    "//TEXT           a text that begins with /",
    "/help            this",
    "/quit            end the chat (or Ctrl-D)",
];

/// Commands that begin with what was typed, for a hint.
pub(super) fn hints(typed: &str) -> Vec<&'static str> {
    let word = typed.split_whitespace().next().unwrap_or_default();
    if !typed.starts_with('/') || typed.starts_with("//") {
        return Vec::new();
    }
    let complete = typed.contains(' ');
    HELP.iter()
        .copied()
        .filter(|line| {
            let name = line.split_whitespace().next().unwrap_or_default();
            if complete { name == word } else { name.starts_with(word) }
        })
        .collect()
}

pub(super) fn parse(line: &str) -> Input {
    if line.trim().is_empty() {
        return Input::Nothing;
    }
    let Some(command) = line.strip_prefix('/') else { return Input::Text(line.to_owned()) };
    if command.starts_with('/') {
        return Input::Text(command.to_owned());
    }
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let rest = rest.trim();
    let (number, after) = leading_number(rest);
    let wrong = |text: &str| Input::Wrong(text.to_owned());
    match name {
        "reply" | "r" => match number {
            Some(number) if !after.is_empty() => Input::Reply { number, text: after.to_owned() },
            _ => wrong("write /reply N TEXT; N is the number before the message"),
        },
        "edit" | "e" => match (number, after) {
            (_, "") => wrong("write /edit TEXT, or /edit N TEXT"),
            (number, text) => Input::Edit { number, text: text.to_owned() },
        },
        "delete" | "del" if after.is_empty() => Input::Delete { number },
        "delete" | "del" => wrong("write /delete N; N is the number before the message"),
        "react" => match number {
            Some(number) => Input::React { number, emoji: after.to_owned() },
            None => wrong("write /react N EMOJI; N is the number before the message"),
        },
        "info" | "i" if after.is_empty() => Input::Info { number },
        "info" | "i" => wrong("write /info N; N is the number before the message"),
        "more" => Input::More,
        "help" | "h" | "?" => Input::Help,
        "quit" | "q" | "exit" => Input::Quit,
        other => {
            let shown: String = other.chars().take(20).collect();
            Input::Wrong(format!(
                "there is no command /{shown}; /help lists them, //TEXT sends a text with /"
            ))
        }
    }
}

/// `12 rest`, `#12 rest`
fn leading_number(text: &str) -> (Option<i64>, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match word.trim_start_matches('#').parse() {
        Ok(number) => (Some(number), rest.trim()),
        Err(_) => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_are_texts_and_two_slashes_begin_a_text_with_one() {
        assert_eq!(parse("hello /there"), Input::Text("hello /there".to_owned()));
        assert_eq!(parse("//etc/hosts"), Input::Text("/etc/hosts".to_owned()));
        assert_eq!(parse("  "), Input::Nothing);
        assert_eq!(parse("  indented"), Input::Text("  indented".to_owned()));
    }

    #[test]
    fn commands_take_the_number_of_a_message() {
        assert_eq!(
            parse("/reply 12 yes, at nine"),
            Input::Reply { number: 12, text: "yes, at nine".to_owned() }
        );
        assert_eq!(parse("/reply -3 old"), Input::Reply { number: -3, text: "old".to_owned() });
        assert_eq!(parse("/edit new text"), Input::Edit { number: None, text: "new text".to_owned() });
        assert_eq!(parse("/edit 4 new"), Input::Edit { number: Some(4), text: "new".to_owned() });
        assert_eq!(parse("/delete"), Input::Delete { number: None });
        assert_eq!(parse("/react #4 👍"), Input::React { number: 4, emoji: "👍".to_owned() });
        assert_eq!(parse("/react 4"), Input::React { number: 4, emoji: String::new() });
        assert_eq!(parse("/info"), Input::Info { number: None });
        assert_eq!(parse("/q"), Input::Quit);
    }

    #[test]
    fn a_mistyped_command_is_never_sent_as_a_text() {
        for line in
            ["/quitt", "/reply yes", "/reply 3", "/edit", "/delete all", "/react", "/info x", "/ hello"]
        {
            assert!(matches!(parse(line), Input::Wrong(_)), "{line}");
        }
    }

    #[test]
    fn hints_follow_what_is_typed() {
        assert_eq!(hints("/re").len(), 2);
        assert_eq!(hints("/reply 3 x").len(), 1);
        assert!(hints("hello").is_empty() && hints("//x").is_empty());
    }
}
