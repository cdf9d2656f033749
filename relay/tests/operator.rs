//! What an operator does: looks at figures and health, makes backups and restores them, asks whether the host is fit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::time::Duration;

use kith_protocol::wire::relay::{Answer, Ask};
use serde_json::Value;
use support::http::{get, metric, raw};
use support::peer::*;
use support::process::{Process, command};

const TTL: u32 = 86_400;

fn told(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn bundle(owner: &Owner) -> Ask {
    Ask::PutBundle {
        mailbox: owner.mailbox,
        bundle: Some(vec![7; 2_000].into()),
        lifetime: 1_000_000,
        one_time_keys: vec![[1; 32], [2; 32]],
        replace: true,
    }
}

fn restored(file: &Path, into: &Path, more: &[&str]) -> (Process, Value) {
    let args = [&["restore", file.to_str().unwrap(), "--json"], more].concat();
    let made = command(into, &args);
    assert!(made.status.success(), "{}", told(&made));
    (Process::existing(into.to_owned()), serde_json::from_slice(&made.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_busy_relay_is_whole_and_becomes_the_same_relay_again() {
    let relay = Process::started("");
    let temporary = tempfile::tempdir().unwrap();
    let owner = Owner::connect(relay.tcp(), 1).await;
    owner.ready(0..3).await;
    owner.peer.ask(bundle(&owner)).await;
    let contact = Peer::connect(relay.tcp(), 2).await;
    let first: Vec<_> = (0..200).map(|n| envelope(&format!("before {n}"), 1024)).collect();
    for letter in &first {
        custody(&contact.ask(owner.deposit(1, letter, TTL)).await);
    }
    relay.json(&["token", "create", "--label", "kept"]);

    // deposits, collections and revocations go on while the backup is made
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let busy = async {
        let mut n = 0;
        while !*stopped.borrow_and_update() {
            let letter = envelope(&format!("during {n}"), 4096);
            custody(&contact.ask(owner.deposit(2, &letter, TTL)).await);
            if n % 3 == 0 {
                owner.collect(vec![kith_protocol::crypto::envelope::envelope_id(&letter)]).await.unwrap();
            }
            n += 1;
        }
        n
    };
    let file = temporary.path().join("one.backup");
    let (folder, path) = (relay.folder.clone(), file.clone());
    let backup = async move {
        let mut made = None;
        // once is chance
        for _ in 0..3 {
            let _ = std::fs::remove_file(&path);
            let (folder, path) = (folder.clone(), path.clone());
            let args = move || command(&folder, &["backup", path.to_str().unwrap(), "--json"]);
            let thread = std::thread::spawn(args);
            while !thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            made = Some(thread.join().unwrap());
        }
        stop.send(true).unwrap();
        made.unwrap()
    };
    let (deposits, made) = tokio::join!(busy, backup);
    assert!(made.status.success(), "{}", told(&made));
    assert!(deposits > 10, "{deposits}");
    let summary: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&summary["running"], &summary["mailboxes"]), (&true.into(), &1.into()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(metric(&get(&relay.web, "/metrics").body, "kith_relay_last_backup_timestamp_seconds") > 1e9);

    // what comes after the backup is not in it
    custody(&contact.ask(owner.deposit(1, &envelope("after", 256), TTL)).await);
    let again = command(&relay.folder, &["backup", file.to_str().unwrap()]);
    assert!(!again.status.success() && told(&again).contains("nothing is ever overwritten"));
    let checked = command(&relay.folder, &["backup", "--verify", file.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", told(&checked));

    let into = temporary.path().join("new");
    let (mut copy, report) = restored(&file, &into, &[]);
    assert_eq!(report["envelopes"], summary["envelopes"]);
    assert_eq!(
        (&report["peer_id"], &report["one_time_keys_left_out"]),
        (&relay.peer_id.clone().into(), &2.into())
    );
    assert!(report["may_be_broken"].as_array().unwrap().len() >= 4);
    let peer = relay.peer_id.clone();
    drop(relay);
    copy.start();
    assert_eq!(copy.peer_id, peer);
    copy.audit();
    assert_eq!(copy.json(&["token", "list"])[0]["label"], "kept");
    let owner = Owner::connect(copy.tcp(), 1).await;
    let state = owner.open().await;
    assert!(!state.created);
    assert_eq!(state.one_time_keys, 0, "none may be given twice");
    let listed = owner.list().await;
    assert_eq!(listed.len() as u64, report["envelopes"].as_u64().unwrap());
    let ids: Vec<_> = listed.iter().take(200).map(|listed| listed.id).collect();
    let mut bodies = Vec::new();
    for ids in ids.chunks(20) {
        bodies.extend(owner.get(ids).await.into_iter().map(|stored| stored.envelope));
    }
    assert_eq!(bodies, first);
    // rights stand, marks of time stand: what is put now lives on
    let contact = Peer::connect(copy.tcp(), 2).await;
    custody(&contact.ask(owner.deposit(1, &envelope("later", 256), TTL)).await);
    owner.peer.ask(bundle(&owner)).await;
    assert!(matches!(contact.ask(owner.take_bundle(1)).await, Answer::Bundle { one_time_key: Some(_), .. }));
    copy.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_relay_moves_with_its_one_time_keys_and_nothing_is_overwritten() {
    let mut relay = Process::started("[store]\nkind = \"sled\"");
    let temporary = tempfile::tempdir().unwrap();
    let owner = Owner::connect(relay.tcp(), 1).await;
    owner.ready(0..2).await;
    owner.peer.ask(bundle(&owner)).await;
    let contact = Peer::connect(relay.tcp(), 2).await;
    for n in 0..50 {
        custody(&contact.ask(owner.deposit(1, &envelope(&format!("{n}"), 65_536), TTL)).await);
    }
    relay.json(&["drain"]);
    relay.signal("-TERM");
    assert!(relay.ended().success());
    let file = temporary.path().join("moved.backup");
    let made = command(&relay.folder, &["backup", file.to_str().unwrap()]);
    assert!(made.status.success(), "{}", told(&made));
    assert_eq!(temporary.path().read_dir().unwrap().count(), 1);

    let over = command(&relay.folder, &["restore", file.to_str().unwrap()]);
    assert!(!over.status.success() && told(&over).contains("restore into a new folder"), "{}", told(&over));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    let damaged = temporary.path().join("damaged.backup");
    std::fs::write(&damaged, &bytes).unwrap();
    let into = temporary.path().join("new");
    let refused = command(&into, &["restore", damaged.to_str().unwrap()]);
    assert!(!refused.status.success() && told(&refused).contains("no whole backup"), "{}", told(&refused));
    assert!(!into.exists());

    let (mut copy, report) = restored(&file, &into, &["--moved"]);
    assert_eq!((&report["envelopes"], &report["one_time_keys_left_out"]), (&50.into(), &0.into()));
    assert_eq!(report["may_be_broken"], serde_json::json!([]));
    copy.start();
    assert_eq!(copy.status()["mode"], "closed", "it is still drained");
    assert_eq!(Owner::connect(copy.tcp(), 1).await.open().await.one_time_keys, 2);
    copy.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_health_and_the_page_are_shown_and_follow_the_configuration() {
    let relay = Process::started(
        "[operator]\nname = \"First <b>\"\n[web]\nlisten = \"127.0.0.1:0\"\npage = \"127.0.0.1:0\"",
    );
    let owner = Owner::connect(relay.tcp(), 1).await;
    owner.ready(0..2).await;
    let contact = Peer::connect(relay.tcp(), 2).await;
    for n in 0..5 {
        custody(&contact.ask(owner.deposit(1, &envelope(&format!("{n}"), 256), TTL)).await);
    }
    // a sample is up to a second old
    let until = tokio::time::Instant::now() + support::CEILING;
    let text = loop {
        let text = get(&relay.web, "/metrics").body;
        if metric(&text, "kith_relay_deposits_total") == 5.0 || tokio::time::Instant::now() > until {
            break text;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(metric(&text, "kith_relay_deposits_total"), 5.0);
    assert_eq!(metric(&text, "kith_relay_envelope_bytes"), 1280.0);
    assert!(metric(&text, "kith_relay_store_duration_seconds_count{operation=\"write\"}") >= 5.0);
    assert!(metric(&text, "process_resident_memory_bytes") > 1e6);
    for secret in [relay.peer_id.as_str(), &owner.mailbox.to_string(), "127.0.0.1", "/ip4/"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(
        (get(&relay.web, "/healthz").status, get(&relay.web, "/readyz").body.as_str()),
        (200, "ready\n")
    );
    let page = get(&relay.page, "/");
    assert!(page.body.contains("Kith relay of First &lt;b&gt;") && page.body.contains(&relay.peer_id));
    assert!(page.headers.contains("content-security-policy: default-src 'none'"));
    for path in ["/metrics", "/healthz", "/readyz", "/../metrics", "/nothing"] {
        assert_eq!(get(&relay.page, path).status, 404, "{path} is for the operator");
    }

    relay.configure("[operator]\nname = \"Second\"\n[mailbox]\ndays = 3");
    relay.signal("-HUP");
    let until = tokio::time::Instant::now() + support::CEILING;
    loop {
        let page = get(&relay.page, "/").body;
        if page.contains("relay of Second") && page.contains("3 days") {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    relay.json(&["drain"]);
    let until = tokio::time::Instant::now() + support::CEILING;
    while !get(&relay.web, "/readyz").body.contains("closed") {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn hostile_requests_are_answered_or_closed_and_the_relay_lives_on() {
    let relay = Process::started("");
    let host = "Host: localhost\r\n";
    let cases = [
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nhello"), Some(405)),
        (format!("DELETE /metrics HTTP/1.1\r\n{host}\r\n"), Some(405)),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(), Some(421)),
        ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n".into(), Some(421)),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100_000)), Some(431)),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(10_000)), Some(431)),
        (format!("GET /%2e%2e/relay.key HTTP/1.1\r\n{host}\r\n"), Some(404)),
        ("\0\0\0\0\r\n\r\n".into(), Some(400)),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), None),
        (format!("HEAD / HTTP/1.1\r\n{host}\r\n"), Some(200)),
        (format!("GET / HTTP/1.1\r\n{host}\r\nGET /metrics HTTP/1.1\r\n{host}\r\n"), Some(200)),
    ];
    for (request, status) in cases {
        let reply = raw(&relay.web, request.as_bytes());
        let shown: String = request.chars().take(60).collect();
        if status.is_some() {
            assert_eq!(reply.as_ref().map(|reply| reply.status), status, "{shown:?}");
        }
        assert!(
            reply.is_none_or(|reply| reply.body.matches("HTTP/1.1").count() == 0),
            "one answer only: {shown:?}"
        );
    }
    // many that say nothing: those beyond the bound are closed, the others in time, and it goes on
    let before = relay.rss();
    let address = relay.web.strip_prefix("http://").unwrap();
    let silent: Vec<_> = (0..500).filter_map(|_| std::net::TcpStream::connect(address).ok()).collect();
    assert!(relay.rss() < before + 32 * 1024 * 1024);
    drop(silent);
    let until = tokio::time::Instant::now() + support::CEILING;
    while raw(&relay.web, format!("GET /healthz HTTP/1.1\r\n{host}\r\n").as_bytes())
        .is_none_or(|reply| reply.status != 200)
    {
        assert!(tokio::time::Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_busy_relay_names_no_address_and_nobody() {
    for format in ["text", "json"] {
        let mut relay = Process::started(&format!("log_format = \"{format}\""));
        let mut mailboxes = Vec::new();
        for seed in 0..4 {
            let owner = Owner::connect(relay.tcp(), seed * 2 + 1).await;
            owner.ready(0..2).await;
            let contact = Peer::connect(relay.address("/quic-v1"), seed * 2 + 2).await;
            for n in 0..20 {
                custody(&contact.ask(owner.deposit(1, &envelope(&format!("{n}"), 256), TTL)).await);
            }
            owner.peer.ask(owner.open_ask("wrong")).await;
            mailboxes.push(owner.mailbox.to_string());
        }
        let plain = relay.tcp().split("/tcp/").nth(1).unwrap().split('/').next().unwrap().to_owned();
        let mut stranger = std::net::TcpStream::connect(format!("127.0.0.1:{plain}")).unwrap();
        std::io::Write::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        relay.json(&["mailbox", "block", &mailboxes[0]]);
        relay.json(&["drain"]);
        relay.json(&["reload"]);
        relay.signal("-TERM");
        assert!(relay.ended().success());
        let until = tokio::time::Instant::now() + support::CEILING;
        while !relay.log().contains("ending") {
            assert!(tokio::time::Instant::now() < until, "{}", relay.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = relay.log();
        for secret in ["12D3KooW", "127.0.0.1", "::1", "/ip4/", "/ip6/", "Qm"] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
        assert!(mailboxes.iter().all(|mailbox| !log.contains(&mailbox[..8])), "{log}");
        assert!(log.contains("listening") && log.contains("carried out"), "{log}");
        if format == "json" {
            assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
        }
    }
}

#[test]
fn check_names_what_is_wrong_and_what_to_do() {
    let relay = Process::init("[connections]\ntotal = 100");
    let check = |args: &[&str]| {
        let output = command(&relay.folder, &[&["check", "--json"], args].concat());
        let lines = String::from_utf8(output.stdout).unwrap();
        let findings: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code(), findings)
    };
    let of = |findings: &[Value], what: &str| {
        findings
            .iter()
            .find(|finding| finding["what"] == what)
            .cloned()
            .unwrap_or_else(|| panic!("{what}: {findings:?}"))
    };
    let (code, findings) = check(&[]);
    assert_eq!(code, Some(0), "{findings:?}");
    for what in ["configuration", "key", "disk speed", "clock", "open files", "memory", "port"] {
        assert_ne!(of(&findings, what)["level"], "wrong", "{findings:?}");
    }
    let operator = of(&findings, "operator");
    assert!(operator["level"] == "advice" && operator["advice"].as_str().unwrap().contains("operator.name"));
    assert_eq!(check(&["--strict"]).0, Some(3));
    assert_eq!(of(&check(&["--store"]).1, "store")["level"], "fit");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    relay.configure(&format!(
        "[web]\nlisten = \"{}\"\n[connections]\ntotal = 100000000",
        taken.local_addr().unwrap()
    ));
    let (code, findings) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(of(&findings, "open files")["advice"].as_str().unwrap().contains("LimitNOFILE"));
    let port =
        findings.iter().find(|finding| finding["level"] == "wrong" && finding["what"] == "port").unwrap();
    assert!(port["advice"].as_str().unwrap().contains("another program"));

    relay.configure("mod = \"open\"");
    let (code, findings) = check(&[]);
    assert!(
        code == Some(1) && of(&findings, "configuration")["found"].as_str().unwrap().contains("did you mean")
    );
    std::fs::write(relay.folder.join("relay.key"), "no key").unwrap();
    assert_eq!(of(&check(&[]).1, "key")["level"], "wrong");
    let nowhere = command(&relay.folder.join("nowhere"), &["check"]);
    assert!(told(&nowhere).contains("kith-relay init"));
}

#[test]
fn a_running_relay_is_checked_by_knocking_and_with_its_key_elsewhere() {
    let mut relay = Process::init("");
    let key = relay.folder.parent().unwrap().join("credential");
    std::fs::rename(relay.folder.join("relay.key"), &key).unwrap();
    relay.env = vec![("KITH_RELAY_KEY".into(), key.to_str().unwrap().into())];
    relay.start();
    assert_eq!(relay.status()["peer_id"], relay.peer_id.as_str());
    let key = key.to_str().unwrap();
    let output = command(&relay.folder, &["check", "--json", "--key", key]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the running relay"), "{text}");
}

#[test]
fn the_default_web_address_may_be_taken_and_a_chosen_one_may_not() {
    // if this fails another program has it, which is as good
    let _first = std::net::TcpListener::bind("127.0.0.1:4192");
    let mut relay = Process::init("[web]");
    relay.start();
    assert_eq!(relay.web, "");
    assert_eq!(relay.status()["connections"], 0);
    let log = relay.log();
    assert!(log.contains("metrics, health and status page are off: 127.0.0.1:4192"), "{log}");
    assert!(log.contains("web.listen"), "{log}");
    relay.signal("-TERM");
    assert!(relay.ended().success());

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = std::net::TcpListener::bind(taken).unwrap();
    for key in ["listen", "page"] {
        let other = if key == "page" { "\nlisten = \"\"" } else { "" };
        relay.configure(&format!("[web]\n{key} = \"{taken}\"{other}"));
        let ended = command(&relay.folder, &["run"]);
        assert!(!ended.status.success());
        let told = told(&ended);
        assert!(told.contains(&format!("web.{key}: {taken} cannot be listened on")), "{told}");
    }
}

#[test]
fn a_certificate_is_told_of_before_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Process::init(&support::certificate(folder.path(), 2000));
    let verdict = |relay: &Process| {
        let findings = String::from_utf8(command(&relay.folder, &["check", "--json"]).stdout).unwrap();
        let mut findings = findings.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        findings.find(|finding| finding["what"] == "certificate").unwrap()
    };
    let wrong = verdict(&relay);
    assert!(wrong["level"] == "wrong" && wrong["found"].as_str().unwrap().contains("expired"), "{wrong}");
    relay.start();
    assert_eq!(relay.status()["certificate_expires"], 946_684_800_000_u64);
    let metrics = get(&relay.web, "/metrics").body;
    assert_eq!(metric(&metrics, "kith_relay_certificate_expires_timestamp_seconds"), 946_684_800.0);
    // the log is read by a thread
    for _ in 0..3_000 {
        if relay.log().contains("the certificate of the /wss addresses expired") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(relay.log().contains("the certificate of the /wss addresses expired"), "{}", relay.log());
    // renewed
    support::certificate(folder.path(), 2100);
    relay.json(&["reload"]);
    assert_eq!(relay.status()["certificate_expires"], 4_102_444_800_000_u64);
    assert_eq!(verdict(&relay)["level"], "fit");
    std::fs::write(folder.path().join("key.pem"), "no key").unwrap();
    assert_eq!(verdict(&relay)["level"], "wrong");
}
