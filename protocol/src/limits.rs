//! Every bound of the protocol in one place. Sizes are bytes, durations milliseconds unless the name says otherwise.

/// Longest text of one message (UTF-8 bytes).
pub const TEXT: usize = 16 * 1024;
/// Longest canonical encoding of one [entry](crate::entry): the text and its frame.
pub const ENTRY: usize = TEXT + 4 * 1024;
/// Longest display name (UTF-8 bytes).
pub const NAME: usize = 48;
/// Longest "about" line of a profile (UTF-8 bytes).
pub const ABOUT: usize = 256;
/// Longest emoji sequence of a reaction (UTF-8 bytes).
pub const REACTION: usize = 64;
/// Reactions kept per entry.
pub const REACTIONS_PER_ENTRY: usize = 64;
/// Longest sealed envelope; larger content is not a message.
pub const ENVELOPE: usize = 64 * 1024;
/// Longest frame on a held link.
pub const FRAME: usize = ENVELOPE + 1024;
/// Longest binary multiaddr.
pub const ADDRESS: usize = 128;
/// Addresses kept or published per device.
pub const ADDRESSES: usize = 8;
/// Addresses in an invite.
pub const INVITE_ADDRESSES: usize = 4;
/// Longest address in an invite.
pub const INVITE_ADDRESS: usize = 64;
/// Relays of an account or invite.
pub const RELAYS: usize = 3;
/// Members who can admit, in an invite with a group seat.
pub const INVITE_ADMITTERS: usize = 3;
/// Longest invite in binary form.
pub const INVITE: usize = 2048;
/// Devices of one account.
pub const DEVICES: usize = 8;
/// Longest encoded device certificate.
pub const CERTIFICATE: usize = 512;
/// Longest encoded device list.
pub const DEVICE_LIST: usize = 256 + DEVICES * CERTIFICATE;
/// Longest encoded prekey bundle (X-Wing key 1,216 B).
pub const BUNDLE: usize = 4096;
/// Longest directory record.
pub const DIRECTORY_RECORD: usize = 4096;
/// Parents named by one entry, and heads kept of one conversation.
pub const PARENTS: usize = 8;
/// Ranges beyond the gapless part in one frontier.
pub const RANGES: usize = 64;
/// Ranges beyond the gapless part noted of one stream.
pub const HOLES: usize = 256;
/// Frontiers in one frame.
pub const FRONTIERS: usize = 64;
/// Streams of one conversation; older ones than these are no more asked about.
pub const STREAMS: usize = 64;
/// Ids in one acknowledgement frame.
pub const ACKS: usize = 512;
/// Entries asked for in one repair or gap request.
pub const REQUESTED: usize = 64;
/// Old sessions kept for receiving, per device.
pub const SESSIONS: usize = 6;
/// Envelopes on the way to one device and not yet acknowledged.
pub const IN_FLIGHT: usize = 256;
/// Bytes on the way to one device and not yet acknowledged.
pub const IN_FLIGHT_BYTES: usize = 1024 * 1024;
/// Envelopes held at a hole, per device.
pub const HELD: usize = 512;
/// Bytes held at a hole, per device.
pub const HELD_BYTES: usize = 2 * 1024 * 1024;
/// How long a missing entry may be on its way before it is asked for.
pub const GAP_WAIT: u64 = 3_000;
/// How long an envelope waits at a hole before the receiver steps past it.
pub const HOLE_WAIT: u64 = 30_000;
/// A message that no device confirmed within this time expires.
pub const MESSAGE_TTL: u64 = 30 * DAY;
/// Ciphertext hashes are remembered this long.
pub const SEEN_TTL: u64 = 61 * DAY;
/// A prekey bundle is valid this long.
pub const BUNDLE_TTL: u64 = 14 * DAY;
/// A prekey bundle is renewed at this age.
pub const BUNDLE_RENEW: u64 = 7 * DAY;
/// A signed prekey's secret outlives its bundle by this.
pub const PREKEY_GRACE: u64 = 31 * DAY;
/// A session is replaced by a fresh post-quantum one at this age.
pub const SESSION_AGE: u64 = 7 * DAY;
/// A device list is valid this long.
pub const DEVICE_LIST_TTL: u64 = 90 * DAY;
/// Receipts of one device are joined for this long under load.
pub const RECEIPT_JOIN: u64 = 50;
/// So many of them may leave at once within that time before it counts as load.
pub const RECEIPTS_AT_ONCE: u32 = 32;
/// Least time between two repairs asked of, or served to, one device.
pub const REPAIR_INTERVAL: u64 = 60_000;
/// A live link over which nothing is confirmed for this long is sent everything open once more.
pub const STALL: u64 = 20_000;
/// Longest pause between two attempts to reach a device.
pub const BACKOFF_MAX: u64 = 10 * MINUTE;
/// First pause between two attempts to reach a device.
pub const BACKOFF_MIN: u64 = 1_000;
/// A wall clock that moved this much more or less than the monotonic one is not believed.
pub const CLOCK_JUMP: u64 = DAY;
/// Clocks further apart than this are not called equal.
pub const CLOCK_OFF: u64 = 2 * MINUTE;
/// Stored API events: at most this many,
pub const EVENTS: u64 = 100_000;
/// and at most this old.
pub const EVENTS_TTL: u64 = 30 * DAY;
/// What a restore of the store lost is told for this long, or until the person has taken note.
pub const RESTORATION_TTL: u64 = 30 * DAY;
/// Steps kept of one journey.
pub const STEPS: usize = 16;
/// Weekly directory keys given to a contact at a time.
pub const WEEK_KEYS: usize = 52;
/// Weekly directory keys are topped up below this.
pub const WEEK_KEYS_LOW: usize = 26;
/// Live invites of one account.
pub const INVITES: usize = 256;
/// Longest life of an invite.
pub const INVITE_TTL: u64 = 365 * DAY;
/// An acceptance that came in time is honoured this long after the invite's expiry.
pub const INVITE_GRACE: u64 = 30 * DAY;
/// Contacts of one account.
pub const CONTACTS: usize = 4096;
/// Unpersisted bytes above which the Engine takes no input.
pub const UNPERSISTED: usize = 4 * 1024 * 1024;
/// Rows above which a long step makes a batch of what it has written so far. A store takes some 30,000 at once.
pub const BATCH_ROWS: usize = 1000;
/// Journey-changing work done in one turn, in rows.
pub const ROWS_PER_TURN: usize = 256;
/// A directory record is published again at this age.
pub const DIRECTORY_REPUBLISH: u64 = 6 * HOUR;
/// A directory record is valid this long.
pub const DIRECTORY_TTL: u64 = 48 * HOUR;

/// Envelopes in one page of a mailbox's list, in one fetch and in one collection.
pub const RELAY_PAGE: usize = 512;
/// Rights put, and rights revoked, by one request to a relay.
pub const RELAY_RIGHTS: usize = 256;
/// Rights in force in one mailbox, whatever a relay allows.
pub const MAILBOX_RIGHTS: usize = 2 * CONTACTS;
/// One-time keys given to a relay by one request, and kept by it.
pub const ONE_TIME_KEYS: usize = 100;
/// One-time keys that one right may take within a day; then the last-resort key has to do.
pub const ONE_TIME_KEYS_PER_DAY: u32 = 8;
/// Longest token of a relay that opens mailboxes for those invited only.
pub const TOKEN: usize = 64;
/// Longest custody receipt.
pub const CUSTODY: usize = 256;
/// Requests a device may have open at a relay on one link.
pub const RELAY_REQUESTS: usize = 64;
/// Longest parked wait at a relay.
pub const RELAY_WAIT: u64 = 10 * MINUTE;
/// Longest time any relay keeps an envelope.
pub const RELAY_TTL: u64 = 60 * DAY;
/// A right that renews itself ends so long after the owner's last visit, and so does an empty mailbox.
pub const RIGHT_TTL: u64 = 180 * DAY;

/// Own relays of one device; the best [`RELAYS`] of them are named to contacts.
pub const OWN_RELAYS: usize = 2 * RELAYS;
/// Deposits on the way to one relay for one device.
pub const DEPOSITS: usize = 32;
/// Bytes of deposits on the way to one relay for one device.
pub const DEPOSIT_BYTES: usize = 512 * 1024;
/// Deposits on the way in all.
pub const DEPOSITS_ALL: usize = 256;
/// While a device is linked, its direct copy has this long before the relays get one too.
pub const DEPOSIT_GRACE: u64 = 1_000;
/// One-time keys at a relay are topped up below this.
pub const ONE_TIME_KEYS_LOW: u64 = 25;
/// The secret of a one-time key is kept this long: the bundle it was given out with, and a start with that, have ended.
pub const ONE_TIME_KEY_TTL: u64 = BUNDLE_RENEW + BUNDLE_TTL + PREKEY_GRACE + 8 * DAY;
/// Copies of one session kept at holes,
pub const SESSION_COPIES: usize = 8;
/// and how long.
pub const SESSION_COPY_TTL: u64 = 7 * DAY;
/// An envelope that came by a relay waits this long at a hole before relays are asked what else they have.
pub const HOLE_PROBE: u64 = 2_000;
/// A relay that answers nothing for so long is asked anew.
pub const RELAY_SILENCE: u64 = MINUTE;
/// A relay that was given up is still emptied for this long.
pub const RELAY_LEAVING: u64 = 7 * DAY;
/// A relay that was not connected for so long while this device was up counts as failed.
pub const RELAY_DOWN: u64 = HOUR;
/// A relay that broke its word counts as failed for so long.
pub const RELAY_BROKEN: u64 = 7 * DAY;
/// Envelopes that may lie under an invite's right at a time,
pub const INVITE_ITEMS: u64 = 256;
/// and their bytes.
pub const INVITE_BYTES: u64 = 1024 * 1024;

/// One second.
pub const SECOND: u64 = 1_000;
/// One minute.
pub const MINUTE: u64 = 60 * SECOND;
/// One hour.
pub const HOUR: u64 = 60 * MINUTE;
/// One day.
pub const DAY: u64 = 24 * HOUR;
/// One week.
pub const WEEK: u64 = 7 * DAY;
