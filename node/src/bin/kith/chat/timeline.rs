//! The messages on the screen, with their numbers, in their order.

use std::collections::{HashMap, HashSet};

use kith_node::api::{CustodyView, Direction, MessageView, Status, Timestamp};
use kith_node::protocol::EntryId;

use crate::out::{Out, Style};
use crate::render;
use crate::text::{clean_line, fit, wrap};
use crate::when;

/// Something on the screen.
#[derive(Debug)]
enum What {
    Message {
        number: i64,
        view: Box<MessageView>,
    },
    /// Said by this program.
    Notice(String),
    /// What follows was not read before.
    New,
}

#[derive(Debug)]
struct Item {
    what: What,
    /// Rows for so many columns.
    shown: Option<(usize, Vec<String>)>,
}

impl From<What> for Item {
    fn from(what: What) -> Self {
        Self { what, shown: None }
    }
}

/// A conversation as far as it is loaded.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    items: Vec<Item>,
    numbers: HashMap<EntryId, i64>,
    next: i64,
    first: i64,
}

impl Timeline {
    /// Begins with the newest page, oldest message first.
    pub(super) fn begin(page: Vec<MessageView>) -> Self {
        let mut timeline = Self { next: 1, first: 1, ..Self::default() };
        let mut marked = false;
        for view in page {
            let unread = view.direction == Direction::In && view.status == Status::Delivered;
            if unread && !marked {
                marked = true;
                timeline.items.push(What::New.into());
            }
            timeline.push(view);
        }
        timeline
    }

    /// Adds a message at the end; false if it is there already.
    pub(super) fn push(&mut self, view: MessageView) -> bool {
        if self.numbers.contains_key(&view.id) {
            self.update(view);
            return false;
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(view.id, number);
        self.items.push(What::Message { number, view: Box::new(view) }.into());
        true
    }

    /// Puts an older page before everything. Returns how many messages are new.
    pub(super) fn prepend(&mut self, page: Vec<MessageView>) -> usize {
        let fresh: Vec<_> = page.into_iter().filter(|view| !self.numbers.contains_key(&view.id)).collect();
        let count = fresh.len();
        self.first -= i64::try_from(count).unwrap_or(0);
        let mut items = Vec::with_capacity(count + self.items.len());
        for (number, view) in (self.first..).zip(fresh) {
            self.numbers.insert(view.id, number);
            items.push(What::Message { number, view: Box::new(view) }.into());
        }
        // the day of the message that was first may be no news any more
        for item in self.items.iter_mut().take(2) {
            item.shown = None;
        }
        items.append(&mut self.items);
        self.items = items;
        count
    }

    /// Takes a freshly read newest page: new messages get numbers, all get their place.
    pub(super) fn reload(&mut self, mut page: Vec<MessageView>) {
        let known = page.iter().position(|view| self.numbers.contains_key(&view.id)).unwrap_or(0);
        let older: Vec<_> = page.drain(..known).collect();
        let fresh: HashSet<_> = page.iter().map(|view| view.id).collect();
        let start = self
            .items
            .iter()
            .position(|item| matches!(&item.what, What::Message { view, .. } if fresh.contains(&view.id)))
            .unwrap_or(self.items.len());
        let tail = self.items.split_off(start);
        for view in page {
            if let Some(number) = self.numbers.get(&view.id).copied() {
                self.items.push(What::Message { number, view: Box::new(view) }.into());
            } else {
                self.push(view);
            }
        }
        // what this program said stays, at the end
        self.items.extend(tail.into_iter().filter(|item| matches!(item.what, What::Notice(_))));
        if !older.is_empty() {
            self.prepend(older);
        }
        // a message that was in the old tail and not in the page keeps no number
        let kept: HashSet<_> = self.messages().map(|view| view.id).collect();
        self.numbers.retain(|id, _| kept.contains(id));
    }

    pub(super) fn notice(&mut self, text: String) {
        self.items.push(What::Notice(text).into());
    }

    /// Takes the present form of a message; false if it is not on the screen.
    pub(super) fn update(&mut self, fresh: MessageView) -> bool {
        self.change(fresh.id, |view| *view = fresh)
    }

    pub(super) fn status(&mut self, id: EntryId, status: Status, custody: CustodyView) -> bool {
        self.change(id, |view| {
            view.status = status;
            view.custody = custody;
        })
    }

    fn change(&mut self, id: EntryId, act: impl FnOnce(&mut MessageView)) -> bool {
        // what changes is mostly near the end
        for item in self.items.iter_mut().rev() {
            if let What::Message { view, .. } = &mut item.what
                && view.id == id
            {
                act(view);
                item.shown = None;
                return true;
            }
        }
        false
    }

    pub(super) fn messages(&self) -> impl DoubleEndedIterator<Item = &MessageView> {
        self.items.iter().filter_map(|item| match &item.what {
            What::Message { view, .. } => Some(view.as_ref()),
            _ => None,
        })
    }

    pub(super) fn get(&self, id: EntryId) -> Option<&MessageView> {
        self.messages().rev().find(|view| view.id == id)
    }

    pub(super) fn number_of(&self, id: EntryId) -> Option<i64> {
        self.numbers.get(&id).copied()
    }

    /// The message of this number.
    pub(super) fn numbered(&self, number: i64) -> Option<&MessageView> {
        self.items.iter().find_map(|item| match &item.what {
            What::Message { number: found, view } if *found == number => Some(view.as_ref()),
            _ => None,
        })
    }

    /// One's own newest message that is not deleted.
    pub(super) fn last_own(&self) -> Option<&MessageView> {
        self.messages().rev().find(|view| view.direction == Direction::Out && !view.deleted)
    }

    pub(super) fn last_incoming(&self) -> Option<EntryId> {
        self.messages().rev().find(|view| view.direction == Direction::In).map(|view| view.id)
    }

    pub(super) fn oldest(&self) -> Option<EntryId> {
        self.messages().next().map(|view| view.id)
    }

    /// Messages of one's own that have not left.
    pub(super) fn waiting(&self) -> u64 {
        self.messages()
            .filter(|view| view.direction == Direction::Out && !view.deleted && view.status == Status::Queued)
            .count() as u64
    }

    /// The newest rows, so many at least if there are, oldest first.
    pub(super) fn tail(&mut self, out: &Out, rows: usize) -> Vec<String> {
        let mut parts = Vec::new();
        let mut count = 0;
        for at in (0..self.items.len()).rev() {
            if count >= rows {
                break;
            }
            let lines = self.rows_of(out, at);
            count += lines.len();
            parts.push(lines);
        }
        parts.into_iter().rev().flatten().collect()
    }

    /// The rows of one message, as they would be printed now.
    pub(super) fn lines_for(&mut self, out: &Out, id: EntryId) -> Vec<String> {
        let at = self
            .items
            .iter()
            .rposition(|item| matches!(&item.what, What::Message { view, .. } if view.id == id));
        at.map(|at| self.rows_of(out, at)).unwrap_or_default()
    }

    fn rows_of(&mut self, out: &Out, at: usize) -> Vec<String> {
        if let Some(Item { shown: Some((columns, rows)), .. }) = self.items.get(at)
            && *columns == out.columns
        {
            return rows.clone();
        }
        let rows = self.render(out, at);
        if let Some(item) = self.items.get_mut(at) {
            item.shown = Some((out.columns, rows.clone()));
        }
        rows
    }

    fn render(&self, out: &Out, at: usize) -> Vec<String> {
        match self.items.get(at).map(|item| &item.what) {
            None => Vec::new(),
            Some(What::New) => vec![out.paint(Style::Warn, "── new ──")],
            Some(What::Notice(text)) => wrap(text, out.columns.saturating_sub(2))
                .into_iter()
                .map(|line| out.paint(Style::Dim, &format!("  {line}")))
                .collect(),
            Some(What::Message { number, view }) => {
                let mut rows = Vec::new();
                if self.day_before(at).is_none_or(|before| !when::same_day(before, view.time)) {
                    rows.push(out.paint(Style::Dim, &format!("── {} ──", when::day(view.time))));
                }
                let answered = view.reply_to.map(|id| match self.get(id) {
                    Some(found) => {
                        format!("{}: {}", render::author(found), fit(&clean_line(&found.text), 60))
                    }
                    None => "an earlier message".to_owned(),
                });
                rows.extend(render::message(out, &format!("{number:>3}"), view, answered.as_deref()));
                rows
            }
        }
    }

    fn day_before(&self, at: usize) -> Option<Timestamp> {
        self.items.get(..at)?.iter().rev().find_map(|item| match &item.what {
            What::Message { view, .. } => Some(view.time),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::tests::sample;

    fn message(id: u8, direction: Direction, status: Status) -> MessageView {
        MessageView { id: EntryId([id; 32]), status, ..sample(direction, &format!("text {id}")) }
    }

    fn rows(timeline: &mut Timeline) -> Vec<String> {
        timeline.tail(&Out::plain(60), 100)
    }

    #[test]
    fn messages_keep_their_number_whatever_comes_before_or_after() {
        let page = vec![message(1, Direction::In, Status::Read), message(2, Direction::Out, Status::Queued)];
        let mut timeline = Timeline::begin(page);
        assert!(timeline.push(message(3, Direction::In, Status::Delivered)));
        assert!(!timeline.push(message(3, Direction::In, Status::Read)), "nothing is shown twice");
        let older = vec![message(8, Direction::In, Status::Read), message(9, Direction::In, Status::Read)];
        assert_eq!(timeline.prepend(older), 2);
        for (id, number) in [(8, -1), (9, 0), (1, 1), (2, 2), (3, 3)] {
            assert_eq!(timeline.number_of(EntryId([id; 32])), Some(number));
            assert_eq!(timeline.numbered(number).unwrap().id, EntryId([id; 32]));
        }
    }

    #[test]
    fn a_tick_changes_in_place() {
        let mut timeline = Timeline::begin(vec![message(2, Direction::Out, Status::Queued)]);
        assert!(rows(&mut timeline)[1].ends_with("text 2  … queued"));
        assert!(timeline.status(EntryId([2; 32]), Status::Delivered, CustodyView::default()));
        assert!(rows(&mut timeline)[1].ends_with("text 2  ✓✓"));
        assert!(!timeline.status(EntryId([7; 32]), Status::Read, CustodyView::default()));
    }

    #[test]
    fn what_was_not_read_before_is_marked_once() {
        let page = vec![
            message(1, Direction::In, Status::Read),
            message(2, Direction::In, Status::Delivered),
            message(3, Direction::In, Status::Delivered),
        ];
        let shown = rows(&mut Timeline::begin(page));
        assert_eq!(shown.iter().filter(|row| row.contains("new")).count(), 1);
        assert!(shown[2].contains("new"), "{shown:?}");
    }

    #[test]
    fn a_late_message_gets_its_place_when_the_page_is_read_again() {
        let (a, b, late) = (
            message(1, Direction::In, Status::Read),
            message(2, Direction::Out, Status::Read),
            message(3, Direction::In, Status::Delivered),
        );
        let mut timeline = Timeline::begin(vec![a.clone(), b.clone()]);
        timeline.notice("something".to_owned());
        timeline.reload(vec![a, late, b]);
        let order: Vec<_> = timeline.messages().map(|view| view.id.0[0]).collect();
        assert_eq!(order, [1, 3, 2]);
        assert_eq!(timeline.number_of(EntryId([2; 32])), Some(2));
        assert_eq!(timeline.number_of(EntryId([3; 32])), Some(3));
        assert!(rows(&mut timeline).last().unwrap().contains("something"));
    }

    #[test]
    fn reading_more_than_before_numbers_the_older_ones_downwards() {
        let page: Vec<_> = (0..4).map(|id| message(id, Direction::In, Status::Read)).collect();
        let mut timeline = Timeline::begin(page[2..].to_vec());
        timeline.reload(page);
        let numbers: Vec<_> = (0..4).map(|id| timeline.number_of(EntryId([id; 32])).unwrap()).collect();
        assert_eq!(numbers, [-1, 0, 1, 2]);
    }

    #[test]
    fn only_as_many_rows_are_made_as_are_needed() {
        let page = (0..200).map(|id| message(id, Direction::In, Status::Read)).collect();
        let mut timeline = Timeline::begin(page);
        let shown = timeline.tail(&Out::plain(60), 10);
        assert_eq!(shown.len(), 10);
        assert!(shown[9].contains("text 199"));
    }
}
