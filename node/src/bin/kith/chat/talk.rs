//! A conversation while it is open: what happens in it, and what the person does. It knows nothing of how it is shown.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kith_node::Folder;
use kith_node::api::{
    ContactView, Direction, Error, EventBodyView, EventStream, EventView, MessageView, Session, Status,
};
use kith_node::protocol::{ClientId, EntryId};
use kith_node::rpc::Client;
use tokio::time::Instant;

use super::input::{HELP, Input};
use super::timeline::Timeline;
use crate::app::{App, random16};
use crate::attach::Access;
use crate::out::Out;
use crate::text::{clean, clean_line};
use crate::{render, when};

/// Messages of an older page.
const PAGE: u32 = 100;
/// Most messages read again when the order has changed.
const RELOAD: usize = 1_000;
/// How long somebody counts as typing after they were last said to.
const TYPING: Duration = Duration::from_secs(8);
/// How often the other side is told that we are still typing.
const TYPING_AGAIN: Duration = Duration::from_secs(4);
/// Pause before another attempt to attach to a node that went away.
const AGAIN: Duration = Duration::from_millis(500);

/// Something to show.
#[derive(Debug)]
pub(super) enum News {
    /// A new message at the end.
    Message(EntryId),
    /// A message looks different.
    Changed(EntryId),
    /// A message's status rose.
    Status(EntryId, Status),
    /// The other one came, went, types, or stopped.
    Peer,
    /// Said by this program.
    Notice(String),
    /// Pages were loaded; so many messages of an older one, if that was it.
    Loaded(Option<usize>),
    /// The chat is over, and why.
    Over(String),
}

/// How a task ended.
enum Done {
    Acted { written: Option<Box<MessageView>>, lines: Vec<String>, failure: Option<(Error, Input, ClientId)> },
    Older(Result<Vec<MessageView>, Error>),
    Reloaded(Result<Vec<MessageView>, Error>),
    Marked(Option<EntryId>),
    Attached(Option<(Session, EventStream)>),
    Contact(Option<Box<ContactView>>),
    Nothing,
}

/// An open conversation.
pub(super) struct Talk {
    session: Session,
    /// None while the node is away.
    events: Option<EventStream>,
    folder: Folder,
    out: Out,
    /// The node lives in this process.
    own: bool,
    pub(super) contact: ContactView,
    pub(super) timeline: Timeline,
    typing_until: Option<Instant>,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    /// What the person wants done, in order, one at a time.
    wishes: VecDeque<(Input, ClientId)>,
    acting: bool,
    /// What was displayed last, what was marked, and whether that is under way.
    seen: Option<EntryId>,
    marked: Option<EntryId>,
    marking: bool,
    loading: bool,
    /// There is nothing older.
    complete: bool,
    told_typing: Option<Instant>,
    news: VecDeque<News>,
}

impl Talk {
    pub(super) async fn open(
        app: &App,
        access: &Access,
        contact: ContactView,
        limit: u32,
    ) -> Result<Self, Error> {
        let session = access.session.clone();
        // listen first, read then: what happens between is heard
        let events = session.events(None).await?;
        let page = match limit {
            0 => Vec::new(),
            limit => session.history(contact.account, limit, None).await?,
        };
        let complete = limit > 0 && page.len() < limit as usize;
        Ok(Self {
            events: Some(events),
            folder: app.folder.clone(),
            out: app.out.clone(),
            own: access.is_own(),
            contact,
            timeline: Timeline::begin(page),
            session,
            typing_until: None,
            tasks: FuturesUnordered::new(),
            wishes: VecDeque::new(),
            acting: false,
            seen: None,
            marked: None,
            marking: false,
            loading: false,
            complete,
            told_typing: None,
            news: VecDeque::new(),
        })
    }

    /// The other one's name.
    pub(super) fn name(&self) -> String {
        clean_line(&self.contact.name)
    }

    /// The node is away; what is written waits for it here.
    pub(super) const fn is_cut_off(&self) -> bool {
        self.events.is_none()
    }

    pub(super) fn is_typing(&self) -> bool {
        self.typing_until.is_some()
    }

    /// Something the person wanted is not done yet.
    pub(super) fn is_busy(&self) -> bool {
        self.acting || !self.wishes.is_empty()
    }

    /// The next thing to show.
    pub(super) async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            self.start_tasks();
            let typing_ends = self.typing_until;
            tokio::select! {
                event = next_event(&mut self.events) => match event {
                    Some(event) => self.hear(event),
                    None => self.cut_off(),
                },
                Some(done) = self.tasks.next() => self.done(done),
                () = until(typing_ends) => {
                    self.typing_until = None;
                    return News::Peer;
                }
            }
        }
    }

    /// Something this program has to say.
    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.news.push_back(News::Notice(text.into()));
    }

    /// Everything up to here is on the person's screen.
    pub(super) fn displayed(&mut self) {
        if let Some(last) = self.timeline.last_incoming() {
            self.seen = Some(last);
        }
    }

    /// What the person typed.
    pub(super) fn wish(&mut self, input: Input) {
        match input {
            Input::Nothing | Input::Quit => {}
            Input::Wrong(text) => self.news.push_back(News::Notice(text)),
            Input::Help => self.news.extend(HELP.iter().map(|line| News::Notice((*line).to_owned()))),
            Input::More => self.load_older(),
            input => match random16() {
                Ok(id) => self.wishes.push_back((input, ClientId(id))),
                Err(error) => self.news.push_back(News::Notice(error.to_string())),
            },
        }
    }

    /// The person is typing, or stopped.
    pub(super) fn typing(&mut self, active: bool) {
        let now = Instant::now();
        let due = match (self.told_typing, active) {
            (None, false) => false,
            (None, true) | (Some(_), false) => true,
            (Some(told), true) => now >= told + TYPING_AGAIN,
        };
        if !due || self.is_cut_off() {
            return;
        }
        self.told_typing = active.then_some(now);
        let (session, account) = (self.session.clone(), self.contact.account);
        self.tasks.push(Box::pin(async move {
            // it is a courtesy: nothing depends on it
            let _ = session.typing(account, active).await;
            Done::Nothing
        }));
    }

    /// Loads what was said before.
    pub(super) fn load_older(&mut self) {
        if self.loading || self.is_cut_off() {
            return;
        }
        if self.complete {
            self.news.push_back(News::Notice("That is the beginning.".to_owned()));
            return;
        }
        self.loading = true;
        let (session, account, before) = (self.session.clone(), self.contact.account, self.timeline.oldest());
        self.tasks.push(Box::pin(async move { Done::Older(session.history(account, PAGE, before).await) }));
    }

    /// The same, while scrolling: the beginning speaks for itself.
    pub(super) fn load_older_quietly(&mut self) {
        if !self.complete {
            self.load_older();
        }
    }

    fn reload(&mut self) {
        let loaded = self.timeline.messages().count().saturating_add(50).min(RELOAD);
        let limit = u32::try_from(loaded).unwrap_or(PAGE);
        let (session, account) = (self.session.clone(), self.contact.account);
        self.tasks.push(Box::pin(async move { Done::Reloaded(session.history(account, limit, None).await) }));
    }

    fn start_tasks(&mut self) {
        if self.is_cut_off() {
            return;
        }
        if !self.acting
            && let Some((input, client)) = self.wishes.pop_front()
        {
            self.acting = true;
            let act = self.act(input, client);
            self.tasks.push(act);
        }
        if !self.marking && self.seen.is_some() && self.seen != self.marked {
            self.marking = true;
            let (session, account, seen) = (self.session.clone(), self.contact.account, self.seen);
            self.tasks.push(Box::pin(async move {
                // a node that went away is told again when it is back
                let marked = session.mark_read(account, seen).await;
                Done::Marked(marked.ok().and(seen))
            }));
        }
    }

    /// What a wish comes to, as a task.
    fn act(&self, input: Input, client: ClientId) -> BoxFuture<'static, Done> {
        let session = self.session.clone();
        let account = self.contact.account;
        let numbered = |number: i64| self.timeline.numbered(number).map(|view| view.id);
        let own = |number: Option<i64>| match number {
            Some(number) => numbered(number),
            None => self.timeline.last_own().map(|view| view.id),
        };
        let target = match &input {
            Input::Reply { number, .. } | Input::React { number, .. } => numbered(*number),
            Input::Edit { number, .. } | Input::Delete { number } | Input::Info { number } => own(*number),
            _ => None,
        };
        let out = self.out.clone();
        Box::pin(async move {
            let done = perform(&session, account, &input, target, client, &out).await;
            match done {
                Ok((written, lines)) => Done::Acted { written, lines, failure: None },
                Err(error) => {
                    Done::Acted { written: None, lines: Vec::new(), failure: Some((error, input, client)) }
                }
            }
        })
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Acted { written, lines, failure } => {
                self.acting = false;
                if let Some(view) = written {
                    self.show(*view);
                }
                self.news.extend(lines.into_iter().map(News::Notice));
                if let Some((error, input, client)) = failure {
                    // the client id makes doing it again harmless
                    if error.is_passing() && !self.own {
                        self.wishes.push_front((input, client));
                    } else {
                        self.news.push_back(News::Notice(clean(&error.to_string())));
                    }
                }
            }
            Done::Older(page) => {
                self.loading = false;
                match page {
                    Ok(page) => {
                        self.complete = page.len() < PAGE as usize;
                        let count = self.timeline.prepend(page);
                        self.news.push_back(News::Loaded(Some(count)));
                    }
                    Err(error) => self.news.push_back(News::Notice(clean(&error.to_string()))),
                }
            }
            Done::Reloaded(page) => {
                if let Ok(page) = page {
                    self.timeline.reload(page);
                    self.news.push_back(News::Loaded(None));
                }
            }
            Done::Marked(marked) => {
                self.marking = false;
                match marked {
                    Some(_) => self.marked = marked,
                    // not again and again: only with the next message, or a new connection
                    None => self.seen = self.marked,
                }
            }
            Done::Attached(Some((session, events))) => {
                self.session = session;
                self.events = Some(events);
                self.told_typing = None;
                self.seen = self.timeline.last_incoming();
                self.reload();
                self.refresh_contact();
                self.news.push_back(News::Notice("Your node is back.".to_owned()));
            }
            Done::Attached(None) => self.attach_again(),
            Done::Contact(contact) => {
                if let Some(contact) = contact {
                    self.contact = *contact;
                    self.news.push_back(News::Peer);
                }
            }
        }
    }

    fn show(&mut self, view: MessageView) {
        let id = view.id;
        let late = view.late;
        if self.timeline.push(view) {
            self.news.push_back(News::Message(id));
            if late {
                self.reload();
            }
        }
    }

    fn hear(&mut self, event: EventView) {
        match event.body {
            EventBodyView::Message { message } if message.with == self.contact.account => {
                if message.direction == Direction::In && self.typing_until.take().is_some() {
                    self.news.push_back(News::Peer);
                }
                self.show(*message);
            }
            EventBodyView::Changed { message } => {
                let id = message.id;
                if self.timeline.update(*message) {
                    self.news.push_back(News::Changed(id));
                }
            }
            EventBodyView::Status { id, status, custody, .. }
                if self.timeline.status(id, status, custody) =>
            {
                self.news.push_back(News::Status(id, status));
            }
            EventBodyView::Contact { contact } if contact.account == self.contact.account => {
                self.contact = *contact;
                self.news.push_back(News::Peer);
            }
            EventBodyView::Online { account, online, .. } if account == self.contact.account => {
                self.contact.online = online;
                self.contact.last_seen = Some(event.time);
                self.typing_until = None;
                self.news.push_back(News::Peer);
            }
            EventBodyView::Typing { account, active, .. } if account == self.contact.account => {
                self.typing_until = active.then(|| Instant::now() + TYPING);
                self.news.push_back(News::Peer);
            }
            EventBodyView::Notice { text, account, .. }
                if account.is_none_or(|account| account == self.contact.account) =>
            {
                self.news.push_back(News::Notice(clean_line(&text)));
            }
            EventBodyView::Resync {} => self.reload(),
            _ => {}
        }
    }

    fn cut_off(&mut self) {
        self.events = None;
        self.contact.online = false;
        self.typing_until = None;
        if self.own {
            self.news.push_back(News::Over("the node has stopped; `kith chat` starts it again".to_owned()));
            return;
        }
        let text = "Your node is off. What you write waits here until `kith run` is back.";
        self.news.push_back(News::Notice(text.to_owned()));
        self.attach_again();
    }

    fn attach_again(&mut self) {
        let folder = self.folder.clone();
        self.tasks.push(Box::pin(async move {
            tokio::time::sleep(AGAIN).await;
            let Ok(Some(client)) = Client::attach(&folder).await else { return Done::Attached(None) };
            let session = Session::Remote(client);
            Done::Attached(session.events(None).await.ok().map(|events| (session, events)))
        }));
    }

    fn refresh_contact(&mut self) {
        // presence is told as a change; the present state is asked for once
        let (session, account) = (self.session.clone(), self.contact.account);
        self.tasks
            .push(Box::pin(async move { Done::Contact(session.contact(account).await.ok().map(Box::new)) }));
    }

    /// Who is there, in a few words.
    pub(super) fn presence(&self) -> String {
        if self.is_cut_off() {
            return "your node is off".to_owned();
        }
        if self.is_typing() {
            return "typing …".to_owned();
        }
        render::presence(&self.contact)
    }

    /// What did not leave yet, in a few words.
    pub(super) fn waiting(&self) -> Option<String> {
        match (self.wishes.len() as u64, self.timeline.waiting()) {
            (0, 0) => None,
            (0, count) => Some(format!("{} queued", when::plural(count, "message"))),
            (count, _) if self.is_cut_off() => {
                Some(format!("{} waiting for your node", when::plural(count, "line")))
            }
            (count, _) => Some(format!("{} on the way to the disk", when::plural(count, "line"))),
        }
    }

    /// Texts that never reached the node.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &str> {
        self.wishes.iter().filter_map(|(input, _)| match input {
            Input::Text(text) | Input::Reply { text, .. } | Input::Edit { text, .. } => Some(text.as_str()),
            _ => None,
        })
    }
}

async fn next_event(events: &mut Option<EventStream>) -> Option<EventView> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

type Outcome = (Option<Box<MessageView>>, Vec<String>);

/// Does one thing the person wants.
async fn perform(
    session: &Session,
    account: kith_node::protocol::AccountId,
    input: &Input,
    target: Option<EntryId>,
    client: ClientId,
    out: &Out,
) -> Result<Outcome, Error> {
    let missing = || Ok((None, vec!["There is no such message on the screen.".to_owned()]));
    match (input, target) {
        (Input::Text(text), _) => {
            let sent = session.send(account, text.clone(), None, Some(client)).await?;
            Ok((Some(Box::new(session.message(sent.id).await?)), Vec::new()))
        }
        (Input::Reply { text, .. }, Some(target)) => {
            let sent = session.send(account, text.clone(), Some(target), Some(client)).await?;
            Ok((Some(Box::new(session.message(sent.id).await?)), Vec::new()))
        }
        (Input::Edit { text, .. }, Some(target)) => {
            session.edit(target, text.clone()).await?;
            Ok((None, Vec::new()))
        }
        (Input::Delete { .. }, Some(target)) => {
            session.delete(target).await?;
            Ok((None, Vec::new()))
        }
        (Input::React { emoji, .. }, Some(target)) => {
            session.react(target, emoji.clone()).await?;
            Ok((None, Vec::new()))
        }
        (Input::Info { .. }, Some(target)) => {
            let journey = session.journey(target).await?;
            let plain = Out { colour: false, ..out.clone() };
            Ok((None, render::journey(&plain, &journey, true)))
        }
        _ => missing(),
    }
}
