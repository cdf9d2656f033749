//! What others wrote, made safe for a terminal; widths, wrapping and cutting by what people see as characters.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Whether a character turns the direction of what follows it.
pub(crate) const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Keeps line ends; a terminal must not be steered by what somebody else wrote.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            // marks that turn the direction of what follows could make a line say something else
            c if turns_direction(c) => {}
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// One line: for names, addresses and previews.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).replace('\n', " ")
}

/// Columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Cuts a text to so many columns, with `…` if something is missing.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        used += width(grapheme);
        if used >= columns {
            break;
        }
        out.push_str(grapheme);
    }
    out.push('…');
    out
}

/// Fills a text up to so many columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Breaks a text into lines of at most so many columns, at spaces where there are some.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_inclusive(' ') {
            let bare = width(word.trim_end_matches(' '));
            if used > 0 && used + bare > columns {
                lines.push(std::mem::take(&mut line).trim_end_matches(' ').to_owned());
                used = 0;
            }
            if bare <= columns {
                line.push_str(word);
                used += width(word);
                continue;
            }
            for grapheme in word.graphemes(true) {
                let wide = width(grapheme);
                if used + wide > columns {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push_str(grapheme);
                used += wide;
            }
        }
        lines.push(line.trim_end_matches(' ').to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_direction_marks_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\u{7}\u{9b}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(clean("\u{202e}gpj.exe"), "gpj.exe");
        assert_eq!(clean("two\r\nlines\rx"), "two\nlines\u{fffd}x");
        assert_eq!(clean_line("two\nlines"), "two lines");
    }

    #[test]
    fn wide_characters_count_twice_and_are_never_cut_in_the_middle() {
        assert_eq!(width("日本"), 4);
        assert_eq!(wrap("日本語です", 5), ["日本", "語で", "す"]);
        assert_eq!(fit("日本語です", 5), "日本…");
        assert_eq!(fit("short", 5), "short");
        assert_eq!(pad("日", 4), "日  ");
    }

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("the quick brown fox", 10), ["the quick", "brown fox"]);
        assert_eq!(wrap("https://example.org/path", 10), ["https://ex", "ample.org/", "path"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("a\n\nb", 10), ["a", "", "b"]);
        assert!(wrap("a bb ccc dddd eeeee ffffff", 6).iter().all(|line| width(line) <= 6));
    }

    #[test]
    fn a_family_of_joined_emoji_is_one_character() {
        let family = "👨‍👩‍👧";
        assert_eq!(wrap(&family.repeat(3), 2), [family, family, family]);
    }
}
