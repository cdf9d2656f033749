//! How the status of a message looks.

use kith_node::api::{CustodyView, Status};

use crate::out::{Out, Style};

/// The mark beside one's own message. It says no more than is proven.
pub(crate) fn tick(out: &Out, status: Status, custody: CustodyView) -> String {
    let (mark, style) = match status {
        Status::Queued => ("… queued".to_owned(), Style::Dim),
        Status::Carried => (format!("↑ {}/{}", custody.have, custody.of), Style::Dim),
        Status::Sent => ("✓ sent".to_owned(), Style::Dim),
        Status::Delivered => ("✓✓".to_owned(), Style::Plain),
        Status::Read => ("✓✓ read".to_owned(), Style::Good),
        Status::Expired => ("✗ expired".to_owned(), Style::Bad),
        Status::Rejected => ("✗ rejected".to_owned(), Style::Bad),
    };
    if out.unicode() { out.paint(style, &mark) } else { out.paint(style, &format!("[{status}]")) }
}

/// What a status means, in words.
pub(crate) const fn meaning(status: Status) -> &'static str {
    match status {
        Status::Queued => "on this disk, not yet confirmed by theirs",
        Status::Carried => "with fewer relays than needed to call it sent",
        Status::Sent => "kept by relays until it is fetched",
        Status::Delivered => "on their disk",
        Status::Read => "seen by them",
        Status::Expired => "not confirmed within 30 days; it is no longer tried",
        Status::Rejected => "they do not take it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: Status) -> String {
        tick(&Out::plain(80), status, CustodyView { have: 1, of: 2 })
    }

    #[test]
    fn each_status_has_a_mark_of_its_own() {
        assert_eq!(shown(Status::Queued), "… queued");
        assert_eq!(shown(Status::Carried), "↑ 1/2");
        assert_eq!(shown(Status::Sent), "✓ sent");
        assert_eq!(shown(Status::Delivered), "✓✓");
        assert_eq!(shown(Status::Read), "✓✓ read");
        assert_eq!(shown(Status::Expired), "✗ expired");
        assert_eq!(shown(Status::Rejected), "✗ rejected");
    }

    #[test]
    fn without_unicode_the_word_stands_for_the_mark() {
        let out = Out { unicode: false, ..Out::plain(80) };
        assert_eq!(tick(&out, Status::Delivered, CustodyView::default()), "[delivered]");
    }

    #[test]
    fn only_what_arrived_has_two_ticks() {
        for status in [Status::Queued, Status::Carried, Status::Sent, Status::Expired, Status::Rejected] {
            assert!(!shown(status).contains("✓✓"), "{status}");
        }
    }
}
