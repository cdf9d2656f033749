//! Two nodes in one process chat over loopback.

mod support;

use kith_node::api::{ContactStatus, Direction, Error, EventBodyView, Session, Status};
use kith_node::protocol::ClientId;
use support::{Person, deliver, incoming, meet, patient, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_and_its_author_learns_that_it_was_delivered_and_read() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let (a, b) = (ann.session(), bob.session());
    let mut events = b.events(None).await.unwrap();

    let sent = deliver(&a, bob.account, "hello Bob").await;
    let got = incoming(&mut events, "hello Bob").await;
    assert_eq!(got.id, sent.id);
    assert_eq!((got.direction, got.status), (Direction::In, Status::Delivered));
    assert_eq!(got.author_name, "Ann");
    assert_eq!(b.conversations().await.unwrap()[0].unread, 1);

    b.mark_read(ann.account, None).await.unwrap();
    assert!(patient(a.wait(sent.id, Status::Read, support::PATIENCE)).await.unwrap().reached);
    assert_eq!(b.conversations().await.unwrap()[0].unread, 0);
    let journey = a.journey(sent.id).await.unwrap();
    assert_eq!(journey.devices.len(), 1);
    let steps: Vec<_> = journey.devices[0].steps.iter().map(|step| step.what.as_str()).collect();
    assert!(
        steps.contains(&"queued") && steps.contains(&"delivered") && steps.contains(&"read"),
        "{steps:?}"
    );
    assert!(a.status().await.unwrap().contacts_online == 1);
    assert_eq!(
        a.safety_number(bob.account).await.unwrap().number,
        b.safety_number(ann.account).await.unwrap().number
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_replies_reactions_and_deletions_reach_the_other_side() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let (a, b) = (ann.session(), bob.session());
    let mut events = b.events(None).await.unwrap();
    let sent = deliver(&a, bob.account, "helo").await;
    incoming(&mut events, "helo").await;

    a.edit(sent.id, "hello".to_owned()).await.unwrap();
    let edited = until(&mut events, |event| match &event.body {
        EventBodyView::Changed { message } if message.text == "hello" => Some(message.clone()),
        _ => None,
    })
    .await;
    assert!(edited.edited && edited.id == sent.id);

    let mut back = a.events(None).await.unwrap();
    b.react(sent.id, "👍".to_owned()).await.unwrap();
    let liked = until(&mut back, |event| match &event.body {
        EventBodyView::Changed { message } if !message.reactions.is_empty() => Some(message.clone()),
        _ => None,
    })
    .await;
    assert_eq!(liked.reactions[0].emoji, "👍");
    b.send(ann.account, "yes?".to_owned(), Some(sent.id), None).await.unwrap();
    assert_eq!(incoming(&mut back, "yes?").await.reply_to, Some(sent.id));

    a.delete(sent.id).await.unwrap();
    until(&mut events, |event| match &event.body {
        EventBodyView::Changed { message } if message.deleted => Some(()),
        _ => None,
    })
    .await;
    let history = b.history(ann.account, 10, None).await.unwrap();
    assert_eq!(history.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["", "yes?"]);
    assert!(
        matches!(a.edit(sent.id, "again".to_owned()).await, Err(Error::Refused { reason, .. }) if reason == "deleted")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_the_other_was_away_arrives_when_both_are_back() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    bob.stop().await;
    let a = ann.session();
    let sent = a.send(bob.account, "when you are back".to_owned(), None, None).await.unwrap();
    ann.stop().await;

    let offline = ann.builder().open().unwrap();
    assert_eq!(offline.journey(sent.id).unwrap().status, Status::Queued);
    assert_eq!(offline.history(bob.account, 5, None).unwrap()[0].text, "when you are back");
    assert_eq!(offline.search("BACK".to_owned(), None, 5).unwrap().len(), 1);
    assert!(!offline.status().unwrap().running);
    let refused = offline.send(bob.account, String::new(), None, None).await;
    assert_eq!(refused, Err(Error::Offline));
    drop(offline);

    bob.start().await;
    ann.start().await;
    assert!(ann.session().wait(sent.id, Status::Delivered, support::PATIENCE).await.unwrap().reached);
    assert_eq!(bob.handle().history(ann.account, 5, None).unwrap()[0].id, sent.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn submitting_with_the_same_client_id_again_writes_nothing_new() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let a = ann.session();
    let client = Some(ClientId([9; 16]));
    let first = a.send(bob.account, "once".to_owned(), None, client).await.unwrap();
    let again = a.send(bob.account, "once".to_owned(), None, client).await.unwrap();
    assert!(!first.repeated && again.repeated);
    assert_eq!(first.id, again.id);
    assert_eq!(a.history(bob.account, 10, None).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_at_once_arrive_once_and_in_order() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let a = ann.handle();
    let mut last = None;
    for n in 0..300 {
        last = Some(a.send(bob.account, format!("line {n}"), None, None).await.unwrap().id);
    }
    let a = Session::Local(a);
    assert!(a.wait(last.unwrap(), Status::Delivered, support::PATIENCE).await.unwrap().reached);
    let texts: Vec<_> =
        bob.handle().history(ann.account, 1_000, None).unwrap().into_iter().map(|m| m.text).collect();
    assert_eq!(texts, (0..300).map(|n| format!("line {n}")).collect::<Vec<_>>());
    // pages join without a gap
    let page = bob.handle().history(ann.account, 100, None).unwrap();
    let before = bob.handle().history(ann.account, 100, Some(page[0].id)).unwrap();
    assert_eq!(before.last().unwrap().text, "line 199");
    assert_eq!(before[0].text, "line 100");
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_renamed_blocked_and_resolved() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let a = ann.session();
    assert_eq!(a.resolve("bob".to_owned()).await.unwrap().account, bob.account);
    assert_eq!(a.rename(bob.account, Some("Robert".to_owned())).await.unwrap().name, "Robert");
    assert_eq!(a.resolve("@Robert".to_owned()).await.unwrap().account, bob.account);
    let prefix = bob.account.to_string()[..8].to_owned();
    assert_eq!(a.resolve(prefix).await.unwrap().account, bob.account);
    assert!(matches!(a.resolve("Carol".to_owned()).await, Err(Error::UnknownWho { .. })));
    assert!(a.verify(bob.account, true).await.unwrap().verified);
    assert_eq!(a.block(bob.account).await.unwrap().state, ContactStatus::Blocked);
    let refused = a.send(bob.account, "?".to_owned(), None, None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { reason, .. } if reason == "blocked"));
    assert_eq!(a.unblock(bob.account).await.unwrap().state, ContactStatus::Accepted);
    // a name in use outlives a restart
    ann.stop().await;
    let names = std::fs::read(ann.folder.path().join("names.sealed")).unwrap();
    let id = bob.account.to_string();
    assert!(!names.windows(8).any(|part| part == &id.as_bytes()[..8]), "names are sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_kept_and_one_folder_has_one_node() {
    let mut ann = Person::new("Ann");
    ann.start().await;
    let first = ann.node.as_ref().unwrap().options().chosen.clone();
    assert!(!first.is_empty());
    let second = ann.builder().start().await.unwrap_err();
    assert!(second.is_locked(), "{second}");
    ann.stop().await;
    let node = ann.builder().start().await.unwrap();
    assert_eq!(node.options().chosen, first, "the ports of the first start are taken again");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_says_what_to_do_and_an_account_is_never_written_over() {
    let home = tempfile::tempdir().unwrap();
    let folder = kith_node::Folder::new(home.path().join("none"));
    let error = kith_node::Builder::new(folder).start().await.unwrap_err().to_string();
    assert!(error.contains("kith init"), "{error}");

    let ann = Person::new("Ann");
    let host = kith_node::ProductHost::current().unwrap();
    let again = kith_node::account::NewAccount {
        key: kith_node::keys::KeyKind::File,
        ..kith_node::account::NewAccount::named("Eve")
    };
    let error = kith_node::account::create(&host, &ann.folder, again).unwrap_err().to_string();
    assert!(error.contains("Ann"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_and_a_deletion_say_where_they_stand_apart_from_their_message() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let a = ann.session();
    let (edited, deleted) = (deliver(&a, bob.account, "one").await, deliver(&a, bob.account, "two").await);
    bob.stop().await;
    a.edit(edited.id, "one, changed".to_owned()).await.unwrap();
    a.delete(deleted.id).await.unwrap();
    for id in [edited.id, deleted.id] {
        let view = a.message(id).await.unwrap();
        assert_eq!(view.status, Status::Delivered, "what was first written is there");
        let change = view.change.expect("one's own change is told of");
        assert_eq!(change.status, Status::Queued);
        assert_eq!(a.journey(change.id).await.unwrap().status, Status::Queued);
    }

    let mut events = a.events(None).await.unwrap();
    bob.start().await;
    for id in [edited.id, deleted.id] {
        until(&mut events, |event| match &event.body {
            EventBodyView::Changed { message } if message.id == id => {
                message.change.is_some_and(|change| change.status.meets(Status::Delivered)).then_some(())
            }
            _ => None,
        })
        .await;
    }
    let there = bob.session().history(ann.account, 10, None).await.unwrap();
    assert_eq!(there[0].text, "one, changed");
    assert!(there[1].deleted);
    assert!(there.iter().all(|view| view.change.is_none()), "of others it is not known here");
}
