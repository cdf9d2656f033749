//! The event stream: resumable at any cursor, with no gap and nothing twice.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use kith_node::api::{EventBodyView, EventStream, EventView, Status};
use support::{Person, deliver, meet, until};

/// Stored events up to a cursor.
async fn stored(stream: &mut EventStream, last: u64) -> Vec<EventView> {
    let mut events: Vec<EventView> = Vec::new();
    if last == 0 {
        return events;
    }
    until(stream, |event| {
        let transient = matches!(event.body, EventBodyView::Online { .. } | EventBodyView::Typing { .. });
        if !transient && event.cursor <= last {
            events.push(event.clone());
        }
        (event.cursor >= last).then_some(())
    })
    .await;
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_resumes_misses_nothing_and_sees_nothing_twice() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let a = ann.session();
    let mut live = a.events(Some(0)).await.unwrap();
    let mut last = None;
    for n in 0..30 {
        last = Some(deliver(&a, bob.account, &format!("{n}")).await.id);
    }
    let end = until(&mut live, |event| match &event.body {
        EventBodyView::Status { id, status: Status::Delivered, .. } if Some(*id) == last => {
            Some(event.cursor)
        }
        _ => None,
    })
    .await;
    let all = stored(&mut a.events(Some(0)).await.unwrap(), end).await;
    let cursors: Vec<_> = all.iter().map(|event| event.cursor).collect();
    assert_eq!(cursors, (1..=end).collect::<Vec<_>>(), "numbered without holes");
    for after in [1, 7, end / 2, end - 1] {
        let rest = stored(&mut a.events(Some(after)).await.unwrap(), end).await;
        let cursors: Vec<_> = rest.iter().map(|event| event.cursor).collect();
        assert_eq!(cursors, (after + 1..=end).collect::<Vec<_>>());
    }
    // also after a restart
    ann.stop().await;
    ann.start().await;
    let rest = stored(&mut ann.session().events(Some(end - 3)).await.unwrap(), end).await;
    assert_eq!(rest.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_joining_amid_the_stream_see_each_message_once() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let (a, b) = (ann.handle(), bob.account);
    let writer = {
        let a = a.clone();
        async move {
            for n in 0..200 {
                a.send(b, format!("{n}"), None, None).await.unwrap();
            }
        }
    };
    let reader = async {
        let mut streams = Vec::new();
        for _ in 0..10 {
            streams.push(a.events(Some(0)).unwrap());
            tokio::task::yield_now().await;
        }
        for mut stream in streams {
            let mut texts = Vec::new();
            until(&mut stream, |event| {
                if let EventBodyView::Message { message } = &event.body {
                    texts.push(message.text.clone());
                }
                (texts.last().map(String::as_str) == Some("199")).then_some(())
            })
            .await;
            assert_eq!(texts, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
        }
    };
    futures::join!(writer, reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_not_kept_gets_resync_and_then_what_comes() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let a = ann.session();
    let mut stream = a.events(Some(1_000_000)).await.unwrap();
    let first = stream.next().await.unwrap();
    assert_eq!(first.body, EventBodyView::Resync {});
    assert!(first.cursor < 1_000_000);
    let sent = deliver(&a, bob.account, "after the resync").await;
    let id = until(&mut stream, |event| match &event.body {
        EventBodyView::Message { message } => Some((message.id, event.cursor)),
        _ => None,
    })
    .await;
    assert_eq!(id, (sent.id, first.cursor + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_and_online_are_told_live() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    let mut events = bob.session().events(None).await.unwrap();
    ann.session().typing(bob.account, true).await.unwrap();
    until(&mut events, |event| match &event.body {
        EventBodyView::Typing { account, active: true, .. } if *account == ann.account => Some(()),
        _ => None,
    })
    .await;
    ann.stop().await;
    until(&mut events, |event| match &event.body {
        EventBodyView::Online { account, online: false, .. } if *account == ann.account => Some(()),
        _ => None,
    })
    .await;
    assert!(!bob.handle().contact(ann.account).unwrap().online);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_node() {
    let mut ann = Person::new("Ann");
    let handle = ann.start().await;
    let mut events = handle.events(None).unwrap();
    ann.stop().await;
    support::patient(async { while events.next().await.is_some() {} }).await;
    assert!(matches!(handle.invite(1, 60_000).await, Err(kith_node::api::Error::Stopped)));
}
