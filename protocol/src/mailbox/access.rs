//! Links, what was opened on them, and who may open a mailbox.

use std::collections::HashMap;

use crate::engine::LinkId;
use crate::id::{DeviceId, MailboxId};

/// What lets somebody make a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Everybody may.
    Free,
    /// Whoever has a token with this key.
    Token([u8; 16]),
    /// A token is needed and none was brought.
    NoToken,
    /// Not this one.
    NotAllowed,
    /// Nobody now.
    Closed,
    /// Nobody under this load.
    Busy,
    /// There are as many mailboxes as there may be.
    Full,
}

/// A link and what may be done on it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: DeviceId,
    pub(super) nonce: [u8; 32],
    pub(super) opened: Vec<MailboxId>,
    /// Requests not answered, waits not counted.
    pub(super) open_requests: usize,
    /// May not make a mailbox now.
    pub(super) held_back: bool,
}

/// All links.
#[derive(Debug, Default)]
pub(super) struct Links {
    map: HashMap<LinkId, Link>,
}

impl Links {
    pub(super) fn insert(&mut self, link: LinkId, peer: DeviceId, nonce: [u8; 32]) {
        self.map.insert(link, Link { peer, nonce, opened: Vec::new(), open_requests: 0, held_back: false });
    }

    pub(super) fn remove(&mut self, link: LinkId) {
        self.map.remove(&link);
    }

    pub(super) fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.map.get_mut(&link)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The mailbox is gone: nobody has it open any more.
    pub(super) fn close_mailbox(&mut self, mailbox: MailboxId) {
        for link in self.map.values_mut() {
            link.opened.retain(|opened| *opened != mailbox);
        }
    }
}

impl Link {
    pub(super) fn has_opened(&self, mailbox: MailboxId) -> bool {
        self.opened.contains(&mailbox)
    }

    /// Remembers an opened mailbox; the one opened longest ago gives way.
    pub(super) fn open(&mut self, mailbox: MailboxId, max: usize) {
        if self.has_opened(mailbox) {
            return;
        }
        if self.opened.len() >= max.max(1) {
            self.opened.remove(0);
        }
        self.opened.push(mailbox);
    }
}
