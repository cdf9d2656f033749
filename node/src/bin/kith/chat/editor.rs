//! The line being written: edited by what people see as characters, wrapped, with the lines written before.

use unicode_segmentation::UnicodeSegmentation;

use kith_node::protocol::limits;

use crate::text::width;

/// Lines remembered.
const HISTORY: usize = 100;

/// A text with a cursor.
#[derive(Debug, Default)]
pub(super) struct Editor {
    text: String,
    /// Byte position, always between two characters.
    cursor: usize,
    history: Vec<String>,
    /// Where in the history one is looking; its length: at what is being written.
    looking: usize,
    draft: String,
}

/// The text as rows of a screen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) rows: Vec<String>,
    /// Row and column of the cursor.
    pub(super) cursor: (usize, usize),
}

impl Editor {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Puts text in at the cursor; false if it does not fit into a message.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let text: String = text
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .replace('\t', "    ")
            .chars()
            .filter(|c| *c == '\n' || !c.is_control())
            .collect();
        if self.text.len() + text.len() > limits::TEXT {
            return false;
        }
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
        true
    }

    fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    fn previous(&self) -> usize {
        self.cursor - self.before().graphemes(true).next_back().map_or(0, str::len)
    }

    fn next(&self) -> usize {
        self.cursor + self.after().graphemes(true).next().map_or(0, str::len)
    }

    fn word_start(&self) -> usize {
        let before = self.before();
        before.trim_end().rfind(char::is_whitespace).map_or(0, |at| {
            at + before.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
        })
    }

    fn word_end(&self) -> usize {
        let after = self.after();
        let skipped = after.len() - after.trim_start().len();
        let end = after.trim_start().find(char::is_whitespace).unwrap_or(after.trim_start().len());
        self.cursor + skipped + end
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        self.cursor = from;
    }

    pub(super) fn backspace(&mut self) {
        self.cut(self.previous(), self.cursor);
    }

    pub(super) fn delete(&mut self) {
        self.cut(self.cursor, self.next());
    }

    pub(super) fn delete_word(&mut self) {
        self.cut(self.word_start(), self.cursor);
    }

    pub(super) fn delete_to_start(&mut self) {
        self.cut(0, self.cursor);
    }

    pub(super) fn delete_to_end(&mut self) {
        self.cut(self.cursor, self.text.len());
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.previous();
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.next();
    }

    pub(super) fn word_left(&mut self) {
        self.cursor = self.word_start();
    }

    pub(super) fn word_right(&mut self) {
        self.cursor = self.word_end();
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub(super) fn clear(&mut self) {
        self.cut(0, self.text.len());
        self.looking = self.history.len();
    }

    /// Takes the text and remembers it.
    pub(super) fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.cursor = 0;
        if !text.trim().is_empty() && self.history.last() != Some(&text) {
            self.history.push(text.clone());
            if self.history.len() > HISTORY {
                self.history.remove(0);
            }
        }
        self.looking = self.history.len();
        text
    }

    /// The line written before the one that is shown.
    pub(super) fn older(&mut self) {
        if self.looking == self.history.len() {
            self.draft.clone_from(&self.text);
        }
        if let Some(looking) = self.looking.checked_sub(1) {
            self.show(looking);
        }
    }

    /// The line written after the one that is shown, at last the one being written.
    pub(super) fn newer(&mut self) {
        if self.looking < self.history.len() {
            self.show(self.looking + 1);
        }
    }

    fn show(&mut self, looking: usize) {
        self.looking = looking;
        self.text = self.history.get(looking).unwrap_or(&self.draft).clone();
        self.cursor = self.text.len();
    }

    /// The text in rows of so many columns.
    pub(super) fn layout(&self, columns: usize) -> Layout {
        let columns = columns.max(2);
        let mut rows = vec![String::new()];
        let (mut used, mut at, mut cursor) = (0, 0, (0, 0));
        for grapheme in self.text.graphemes(true) {
            if at == self.cursor {
                cursor = (rows.len() - 1, used);
            }
            at += grapheme.len();
            if grapheme == "\n" {
                rows.push(String::new());
                used = 0;
                continue;
            }
            let wide = width(grapheme);
            if used + wide > columns {
                rows.push(String::new());
                used = 0;
                if at - grapheme.len() == self.cursor {
                    cursor = (rows.len() - 1, 0);
                }
            }
            used += wide;
            if let Some(row) = rows.last_mut() {
                row.push_str(grapheme);
            }
        }
        if at == self.cursor {
            if used >= columns {
                rows.push(String::new());
                used = 0;
            }
            cursor = (rows.len() - 1, used);
        }
        Layout { rows, cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        assert!(editor.insert(text));
        editor
    }

    #[test]
    fn a_character_is_what_people_see_as_one() {
        let mut editor = typed("a👨‍👩‍👧e\u{301}");
        editor.backspace();
        assert_eq!(editor.text(), "a👨‍👩‍👧");
        editor.left();
        editor.insert("b");
        assert_eq!(editor.text(), "ab👨‍👩‍👧");
        editor.delete();
        assert_eq!(editor.text(), "ab");
        editor.home();
        editor.backspace();
        editor.left();
        assert_eq!(editor.text(), "ab");
    }

    #[test]
    fn words_are_deleted_and_passed_as_a_whole() {
        let mut editor = typed("one two  three");
        editor.delete_word();
        assert_eq!(editor.text(), "one two  ");
        editor.delete_word();
        assert_eq!(editor.text(), "one ");
        editor.home();
        editor.word_right();
        editor.insert("!");
        assert_eq!(editor.text(), "one! ");
        editor.delete_to_start();
        assert_eq!(editor.text(), " ");
    }

    #[test]
    fn wide_characters_wrap_before_the_edge_and_the_cursor_follows() {
        let editor = typed("日本語");
        assert_eq!(
            editor.layout(5),
            Layout { rows: vec!["日本".to_owned(), "語".to_owned()], cursor: (1, 2) }
        );
        assert_eq!(typed("abcd").layout(4).cursor, (1, 0));
        assert_eq!(
            typed("ab\ncd").layout(10),
            Layout { rows: vec!["ab".to_owned(), "cd".to_owned()], cursor: (1, 2) }
        );
        let mut editor = typed("abcdef");
        editor.home();
        assert_eq!(editor.layout(3).cursor, (0, 0));
        for _ in 0..3 {
            editor.right();
        }
        assert_eq!(editor.layout(3).cursor, (1, 0));
    }

    #[test]
    fn earlier_lines_come_back_and_so_does_what_was_being_written() {
        let mut editor = typed("first");
        assert_eq!(editor.take(), "first");
        editor.insert("second");
        editor.take();
        editor.insert("dra");
        editor.older();
        editor.older();
        editor.older();
        assert_eq!(editor.text(), "first");
        editor.newer();
        editor.newer();
        editor.newer();
        assert_eq!(editor.text(), "dra");
    }

    #[test]
    fn control_characters_stay_out_and_a_text_is_never_too_long() {
        assert_eq!(typed("a\u{1b}[31mb\r\nc\td").text(), "a[31mb\nc    d");
        let mut editor = typed(&"x".repeat(limits::TEXT));
        assert!(!editor.insert("y"));
        assert_eq!(editor.text().len(), limits::TEXT);
    }
}
