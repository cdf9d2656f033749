//! `kith send WHO --lines -`: each line of standard input is one message.
//!
//! Lines are submitted in small batches, in order. Each has a client id, so a batch whose answer was lost with the
//! node is simply submitted again. What is on disk there is awaited, at most [`WINDOW`] lines at a time.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures::future::{BoxFuture, FutureExt, OptionFuture};
use kith_node::api::{Draft, Error, SentView, Session, Status};
use kith_node::protocol::{AccountId, ClientId, EntryId, limits};
use kith_node::rpc::Client;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::app::{App, Busy, random16};
use crate::attach::Access;
use crate::when::plural;

/// Lines submitted and not yet where they are wanted.
const WINDOW: usize = 256;
/// Most lines in one batch,
const BATCH: usize = 64;
/// and most bytes, so that a batch fits a request however it is escaped.
const BATCH_BYTES: usize = 32 * 1024;
/// Input read at a time.
const CHUNK: usize = 64 * 1024;
/// How long one look waits for lines to arrive.
const LOOK: Duration = Duration::from_secs(5);
/// Pause before another attempt to attach to a node that went away.
const AGAIN: Duration = Duration::from_millis(200);

type Submitted = BoxFuture<'static, Result<Vec<SentView>, Error>>;
type Looked = BoxFuture<'static, Result<Vec<Status>, Error>>;

pub(crate) async fn perform(
    app: &App,
    who: String,
    wanted: Status,
    timeout: Option<Duration>,
) -> anyhow::Result<()> {
    let access = app.change().await?;
    let to = match access.session.resolve(who).await {
        Ok(contact) => contact.account,
        Err(error) => {
            access.close().await;
            return Err(error.into());
        }
    };
    let over = timeout.map(|timeout| Instant::now() + timeout);
    let mut sender = Sender {
        to,
        wanted,
        splitter: Splitter::default(),
        ended: false,
        batch: Vec::new(),
        window: VecDeque::new(),
        sent: 0,
        delivered: 0,
        failed: 0,
    };
    let done = Box::pin(sender.run(app, access, over)).await;
    let (sent, delivered) = (sender.sent, sender.delivered);
    app.out.either(&serde_json::json!({ "sent": sent, "delivered": delivered }), || {
        format!("{}, {delivered} {}.", plural(sent, "line"), wanted.as_str())
    })?;
    done?;
    if let Some(fault) = &sender.splitter.fault {
        bail!(after_fault(fault, sender.splitter.bad_line(), sent, delivered, wanted));
    }
    if sender.failed > 0 {
        bail!("{} did not arrive; `kith history` shows which", plural(sender.failed, "line"));
    }
    Ok(())
}

/// What became of the lines before one that can be no message, and how to go on.
fn after_fault(fault: &str, line: u64, sent: u64, done: u64, wanted: Status) -> String {
    let before = match sent {
        0 => "nothing was sent".to_owned(),
        1 if done == 1 => format!("line 1 was sent and is {}", wanted.as_str()),
        1 => format!("line 1 was sent, and is not {} yet", wanted.as_str()),
        _ if done == sent => format!("lines 1 to {sent} were sent and are {}", wanted.as_str()),
        _ => format!("lines 1 to {sent} were sent, of which {done} are {}", wanted.as_str()),
    };
    format!(
        "{fault}; {before}. Nothing from line {line} on was sent: correct that line, then go on with \
         `tail -n +{line} FILE | kith send WHO --lines -`"
    )
}

struct Sender {
    to: AccountId,
    wanted: Status,
    splitter: Splitter,
    /// Nothing more is read.
    ended: bool,
    /// What is being submitted, or has to be submitted again.
    batch: Vec<Draft>,
    /// What is on disk there and not yet where it is wanted.
    window: VecDeque<EntryId>,
    sent: u64,
    delivered: u64,
    failed: u64,
}

impl Sender {
    async fn run(&mut self, app: &App, access: Access, over: Option<Instant>) -> anyhow::Result<()> {
        let busy = std::io::stderr().is_terminal().then(|| Busy::start(app, "Sending"));
        let own = access.is_own();
        let mut session = access.session.clone();
        let done = loop {
            match self.with_node(&session, over, busy.as_ref()).await {
                Ok(()) => break Ok(()),
                Err(error) if is_passing(&error) && !own => {}
                Err(error) => break Err(error),
            }
            if let Some(busy) = &busy {
                busy.say(format!(
                    "{}; waiting for the node: it went away, `kith run` starts it",
                    self.progress()
                ));
            }
            match reattach(app, over).await {
                Ok(client) => session = Session::Remote(client),
                Err(error) => break Err(error),
            }
        };
        if let Some(busy) = busy {
            busy.end();
        }
        access.close().await;
        done
    }

    /// Goes on until all is done, or the node is gone.
    async fn with_node(
        &mut self,
        session: &Session,
        over: Option<Instant>,
        busy: Option<&Busy>,
    ) -> anyhow::Result<()> {
        let mut input = tokio::io::stdin();
        let mut chunk = vec![0; CHUNK];
        let mut submit: OptionFuture<Submitted> = None.into();
        let mut look: OptionFuture<Looked> = None.into();
        let (mut submitting, mut looking) = (false, false);
        loop {
            if !submitting {
                self.fill_batch()?;
                if !self.batch.is_empty() {
                    let (session, to, batch) = (session.clone(), self.to, self.batch.clone());
                    submit = Some(async move { session.send_many(to, batch).await }.boxed()).into();
                    submitting = true;
                }
            }
            if !looking && !self.window.is_empty() {
                look = Some(self.look(session)).into();
                looking = true;
            }
            let submitted = self.ended && !submitting && self.splitter.ready.is_empty();
            // what went before a line that can be no message is waited for like all else
            if submitted && !looking {
                return Ok(());
            }
            let room = !self.ended && self.splitter.ready.len() < WINDOW;
            tokio::select! {
                Some(sent) = &mut submit, if submitting => {
                    submitting = false;
                    self.submitted(&sent?);
                }
                Some(statuses) = &mut look, if looking => {
                    looking = false;
                    self.looked(&statuses?);
                    if let Some(busy) = busy {
                        busy.say(self.progress());
                    }
                }
                read = input.read(&mut chunk), if room => match read? {
                    0 => {
                        self.splitter.end();
                        self.ended = true;
                    }
                    n => {
                        self.splitter.push(chunk.get(..n).unwrap_or_default());
                        self.ended |= self.splitter.fault.is_some();
                    }
                },
                () = until(over) => bail!(
                    "the time is over: {} of {} lines are {}; the rest is queued and goes on while a node runs",
                    self.delivered, self.sent, self.wanted.as_str()
                ),
            }
        }
    }

    /// Takes lines for the next batch if the last one is done and there is room.
    fn fill_batch(&mut self) -> anyhow::Result<()> {
        if !self.batch.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        while self.window.len() + self.batch.len() < WINDOW && self.batch.len() < BATCH {
            let Some(next) = self.splitter.ready.front() else { break };
            if !self.batch.is_empty() && bytes + next.len() > BATCH_BYTES {
                break;
            }
            bytes += next.len();
            let Some(text) = self.splitter.ready.pop_front() else { break };
            self.batch.push(Draft { text, client: Some(ClientId(random16()?)) });
        }
        Ok(())
    }

    /// Waits until some of the window has arrived, then looks at all of it.
    fn look(&self, session: &Session) -> Looked {
        let session = session.clone();
        let ids: Vec<_> = self.window.iter().copied().collect();
        let goal = ids.get(ids.len().min(BATCH).saturating_sub(1)).copied();
        let wanted = self.wanted;
        async move {
            if let Some(goal) = goal {
                session.wait(goal, wanted, LOOK).await?;
            }
            session.statuses(ids).await
        }
        .boxed()
    }

    fn submitted(&mut self, sent: &[SentView]) {
        self.sent += sent.len() as u64;
        self.window.extend(sent.iter().map(|sent| sent.id));
        self.batch.clear();
    }

    /// The window may have grown meanwhile; statuses are those of its first lines.
    fn looked(&mut self, statuses: &[Status]) {
        let mut open = VecDeque::with_capacity(self.window.len());
        for (number, id) in self.window.drain(..).enumerate() {
            match statuses.get(number) {
                Some(status) if status.meets(self.wanted) => self.delivered += 1,
                Some(status) if status.failed() => self.failed += 1,
                _ => open.push_back(id),
            }
        }
        self.window = open;
    }

    fn progress(&self) -> String {
        format!("{} sent, {} {}", self.sent, self.delivered, self.wanted.as_str())
    }
}

async fn until(over: Option<Instant>) {
    match over {
        Some(over) => tokio::time::sleep_until(over).await,
        None => std::future::pending().await,
    }
}

fn is_passing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(Error::is_passing)
}

/// Waits for the next `kith run` on the folder; it has a new address and token.
async fn reattach(app: &App, over: Option<Instant>) -> anyhow::Result<Client> {
    loop {
        tokio::time::sleep(AGAIN).await;
        match Client::attach(&app.folder).await {
            Ok(Some(client)) => return Ok(client),
            Ok(None) => {}
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error.into()),
        }
        if over.is_some_and(|over| Instant::now() >= over) {
            return Err(anyhow!(
                "the node went away and did not come back in time; run `kith run` to deliver what is queued"
            ));
        }
    }
}

/// Cuts input into lines. A line that can be no message ends it.
#[derive(Debug, Default)]
struct Splitter {
    part: Vec<u8>,
    number: u64,
    ready: VecDeque<String>,
    fault: Option<String>,
}

impl Splitter {
    /// The number of the line that can be no message, once there is one.
    const fn bad_line(&self) -> u64 {
        self.number
    }

    fn push(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.fault.is_some() {
                return;
            }
            self.part.extend_from_slice(piece);
            // its end may be two bytes, of which one is still to be taken off
            let carriage_return = usize::from(self.part.last() == Some(&b'\r'));
            if self.part.len() - carriage_return > limits::TEXT {
                self.number += 1;
                self.fault = Some(format!(
                    "line {} is longer than {} bytes, which is what a message holds",
                    self.number,
                    limits::TEXT
                ));
            } else if pieces.peek().is_some() {
                self.finish();
            }
        }
    }

    /// The end of input also ends a last line that has no end of its own.
    fn end(&mut self) {
        if self.fault.is_none() && !self.part.is_empty() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.number += 1;
        // as texts from other systems end their lines
        if self.part.last() == Some(&b'\r') {
            self.part.pop();
        }
        match String::from_utf8(std::mem::take(&mut self.part)) {
            Ok(line) => self.ready.push_back(line),
            Err(_) => self.fault = Some(format!("line {} is not UTF-8", self.number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter.push(chunk);
        }
        splitter.end();
        (splitter.ready.into(), splitter.fault)
    }

    #[test]
    fn each_line_is_a_message_empty_ones_too() {
        assert_eq!(
            split(&[b"one\n\ntwo\n"]),
            (vec!["one".to_owned(), String::new(), "two".to_owned()], None)
        );
        assert_eq!(split(&[b"one\n", b"la", b"st"]).0, ["one", "last"]);
        assert_eq!(split(&[b"\n\n"]).0, ["", ""]);
        assert_eq!(split(&[b"one\r", b"\n\r\ntwo"]).0, ["one", "", "two"]);
        assert_eq!(split(&[b""]).0, Vec::<String>::new());
    }

    #[test]
    fn a_character_cut_by_a_chunk_is_whole_in_its_line() {
        let bytes = "日本\n".as_bytes();
        assert_eq!(split(&[&bytes[..2], &bytes[2..]]).0, ["日本"]);
    }

    #[test]
    fn the_longest_text_passes_and_one_byte_more_stops_with_its_number() {
        let longest = "x".repeat(limits::TEXT);
        assert_eq!(split(&[longest.as_bytes(), b"\n"]), (vec![longest.clone()], None));
        let (lines, fault) = split(&[b"a\nb\n", longest.as_bytes(), b"x\nnever\n"]);
        assert_eq!(lines, ["a", "b"]);
        assert!(fault.unwrap().starts_with("line 3 is longer than 16384 bytes"));
        // as other systems end their lines
        assert_eq!(split(&[longest.as_bytes(), b"\r", b"\n"]), (vec![longest.clone()], None));
        assert!(split(&[longest.as_bytes(), b"\r", b"\r\n"]).1.is_some());
    }

    #[test]
    fn after_a_bad_line_people_are_told_what_was_sent_and_how_to_go_on() {
        let told = after_fault("line 3 is not UTF-8", 3, 2, 2, Status::Delivered);
        assert!(told.contains("lines 1 to 2 were sent and are delivered"), "{told}");
        assert!(told.contains("tail -n +3 FILE"), "{told}");
        assert!(after_fault("x", 1, 0, 0, Status::Read).contains("nothing was sent"));
        assert!(after_fault("x", 4, 3, 1, Status::Delivered).contains("of which 1 are delivered"));
    }

    #[test]
    fn what_is_no_text_stops_with_its_number() {
        let (lines, fault) = split(&[b"good\n\xff\xfe\nafter\n"]);
        assert_eq!(lines, ["good"]);
        assert_eq!(fault.unwrap(), "line 2 is not UTF-8");
    }
}
