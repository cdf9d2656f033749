//! What rows weigh, for the bounds of what is held in memory and handed to the disk at once.

use super::{Change, JobBody, Key, Proof, Row};

/// What a row takes beside what varies in it.
const FIXED: usize = 512;
/// The same for something small in a list.
const ITEM: usize = 128;

impl Row {
    /// About how many bytes this row takes in memory. Every part whose length a peer decides is counted.
    #[must_use]
    pub fn weight(&self) -> usize {
        FIXED.saturating_add(match self {
            Self::Entry(entry) => {
                let reactions: usize = entry.reactions.iter().map(|one| ITEM + one.emoji.len()).sum();
                entry.bytes.len() + entry.text.len() + reactions
            }
            Self::Job(job) => {
                let body = match &job.body {
                    JobBody::Payload(bytes) => bytes.len(),
                    JobBody::Entry(_) | JobBody::Resend(_) | JobBody::Accept | JobBody::Receipt => 0,
                };
                body + job.sealed.as_ref().map_or(0, |sealed| sealed.bytes.len())
            }
            Self::Session(session) => {
                session.state.len() + session.start.as_ref().map_or(0, bytes::Bytes::len)
            }
            Self::SessionCopy(copy) => copy.state.len() + copy.missing.len() * 16,
            Self::ReceivedFrontier(frontier) => frontier.receipt.len() + frontier.beyond.len() * 16,
            Self::Stream(stream) => stream.beyond.len() * 16,
            Self::Carriage(carriage) => {
                carriage.custodians.iter().map(|custodian| ITEM + custodian.receipt.len()).sum()
            }
            Self::Delivery(delivery) => {
                let proof = match &delivery.proof {
                    Some(Proof::Refusal(bytes)) => bytes.len(),
                    Some(Proof::Frontier(_) | Proof::Ttl(_) | Proof::Custody) | None => 0,
                };
                proof + delivery.steps.iter().map(|step| ITEM + step.detail.len()).sum::<usize>()
            }
            Self::Contact(contact) => {
                let pending = contact.pending.as_ref().map_or(0, |pending| pending.invite.len());
                let own_name = contact.own_name.as_ref().map_or(0, String::len);
                contact.name.len() + contact.about.len() + own_name + pending + contact.devices.len() * 32
            }
            Self::PeerDeviceList(list) => list.list.len(),
            Self::Peer(peer) => {
                let addresses: usize = peer.addresses.iter().map(|one| ITEM + one.as_bytes().len()).sum();
                let relays: usize = peer.relays.iter().map(|one| ITEM + one.address.as_bytes().len()).sum();
                addresses + relays + peer.week_keys.len() * 32
            }
            Self::Invite(invite) => invite.used_by.len() * 32,
            Self::Prekey(prekey) => prekey.bundle.len(),
            Self::Conversation(conversation) => {
                conversation.streams.len() * 16 + conversation.heads.len() * 40
            }
            Self::Own(own) => {
                own.certificate.len() + own.device_list.len() + own.name.len() + own.about.len()
            }
            Self::Relay(relay) => {
                let receipt = relay.canary.as_ref().and_then(|canary| canary.receipt.as_ref());
                relay.address.as_bytes().len() + relay.token.len() + receipt.map_or(0, bytes::Bytes::len)
            }
            Self::Restoration(row) => {
                let ranges: usize = row.lost.iter().map(|lost| ITEM + lost.ranges.len() * 16).sum();
                row.reason.len() + row.set_aside.len() + ranges
            }
            Self::Event(_)
            | Self::Settings(_)
            | Self::Clock(_)
            | Self::Counters(_)
            | Self::Telling(_)
            | Self::Owner(_)
            | Self::Replay(_)
            | Self::Seen(_)
            | Self::StreamEntry(_)
            | Self::Annotation(_)
            | Self::ClientEntry(_)
            | Self::Outbox(_)
            | Self::Grant(_)
            | Self::OneTimeKey(_) => 0,
        })
    }
}

impl Change {
    /// About how many bytes this change takes in memory, see [`Row::weight`].
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Put(row) => row.weight(),
            Self::Delete(_) => size_of::<Key>(),
        }
    }
}
