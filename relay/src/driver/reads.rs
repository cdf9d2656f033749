//! Lists, waits and fetches.

use kith_protocol::crypto::envelope::envelope_id;
use kith_protocol::mailbox::{KnownRow, Mailbox, ReadJob, ReadKind, Row, RowKey};
use kith_protocol::wire::relay::Stored;
use kith_protocol::{EnvelopeId, MailboxId};
use kith_store::mailbox::{Found, MailboxStoreError, Read};
use tracing::error;

use super::Driver;

/// Waits looked at in a second, where other relays may have stored something.
const LOOKED_AT: usize = 1_024;

impl Driver {
    /// Answers what changes nothing; one read for all lists and for what is known of all that is fetched, a second one
    /// for the envelopes.
    pub(super) async fn serve_reads(&mut self, jobs: Vec<ReadJob>) {
        if jobs.is_empty() {
            return;
        }
        let mut reads = Vec::new();
        for job in &jobs {
            match &job.kind {
                ReadKind::List { after, max, .. } => {
                    let max = usize::try_from(*max).unwrap_or(usize::MAX).saturating_add(1);
                    reads.push(Read::List { mailbox: job.mailbox, after: *after, max });
                }
                ReadKind::Get(envelopes) => {
                    reads.extend(envelopes.iter().map(|id| Read::Row(RowKey::Known(job.mailbox, *id))));
                }
            }
        }
        let mut found = match self.store.read(reads).await {
            Ok(found) => found.into_iter(),
            Err(error) => return self.fail_reads(&jobs, &error),
        };
        for job in jobs {
            match &job.kind {
                ReadKind::List { .. } => {
                    let listed = match found.next() {
                        Some(Found::List(listed)) => listed,
                        _ => Vec::new(),
                    };
                    let now = self.now();
                    let (reply, gave_way) = self.mailbox.finish_list(&job, listed, now);
                    if let Some(reply) = reply {
                        self.reply(job.link, reply);
                    }
                    if let Some((link, reply)) = gave_way {
                        self.reply(link, reply);
                    }
                }
                ReadKind::Get(envelopes) => {
                    let known: Vec<(EnvelopeId, Option<Found>)> =
                        envelopes.iter().map(|id| (*id, found.next())).collect();
                    if let Err(error) = self.get(&job, known).await {
                        self.fail_reads(&[job], &error);
                    }
                }
            }
        }
    }

    async fn get(
        &mut self,
        job: &ReadJob,
        known: Vec<(EnvelopeId, Option<Found>)>,
    ) -> Result<(), MailboxStoreError> {
        let (mut ids, mut reads, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for (id, found) in known {
            match found {
                Some(Found::Row(Some(Row::Known(KnownRow::Stored { cursor, size, .. })))) => {
                    if bytes >= Mailbox::get_bytes() {
                        continue;
                    }
                    bytes += usize::try_from(size).unwrap_or(usize::MAX);
                    ids.push(id);
                    reads.push(Read::Row(RowKey::Envelope(job.mailbox, cursor)));
                }
                _ => missing.push(id),
            }
        }
        let mut stored = Vec::with_capacity(ids.len());
        for (id, found) in ids.into_iter().zip(self.store.read(reads).await?) {
            match found {
                Found::Row(Some(Row::Envelope(row))) if envelope_id(&row.body) == id => {
                    stored.push(Stored { id, right: row.right, envelope: row.body });
                }
                _ => {
                    error!("an envelope is damaged and cannot be handed out");
                    self.counters.add(|c| &c.damaged_rows, 1);
                    missing.push(id);
                }
            }
        }
        for reply in self.mailbox.finish_get(job, stored, missing) {
            self.reply(job.link, reply);
        }
        Ok(())
    }

    fn fail_reads(&mut self, jobs: &[ReadJob], error: &MailboxStoreError) {
        self.store_failure(error);
        for job in jobs {
            let reply = self.mailbox.fail(job.link, job.request);
            self.reply(job.link, reply);
        }
    }

    /// Another relay may have stored something where an owner waits at this one, and may have ended before it told.
    pub(super) async fn look_for_arrivals(&mut self) {
        if self.unseen.is_empty() {
            self.unseen = self.mailbox.waits().mailboxes().collect();
        }
        let rest = self.unseen.len().saturating_sub(LOOKED_AT);
        let mailboxes = self.unseen.split_off(rest);
        self.look_at(mailboxes).await;
    }

    /// Answers those who wait at these mailboxes, if there is something for them.
    pub(super) async fn look_at(&mut self, mailboxes: impl IntoIterator<Item = MailboxId>) {
        let mut woken = Vec::new();
        for mailbox in mailboxes {
            for wait in self.mailbox.waits().arrived(mailbox) {
                woken.extend(self.mailbox.resume(&wait));
            }
        }
        self.serve_reads(woken).await;
    }
}
