//! Care of a store at rest, and what the doctor says.

mod support;

use kith_node::doctor::{Level, examine};
use kith_node::keys::EngineKind;
use kith_node::{Builder, Folder, maintenance};
use support::{Person, deliver, meet};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_between_engines_with_all_it_holds() {
    let (mut ann, mut bob) = (Person::new("Ann"), Person::new("Bob"));
    meet(&mut ann, &mut bob).await;
    for n in 0..5 {
        deliver(&ann.session(), bob.account, &format!("{n}")).await;
    }
    let before = ann.handle().history(bob.account, 10, None).unwrap();
    let busy = maintenance::migrate(&ann.builder(), EngineKind::Redb).unwrap_err().to_string();
    assert!(busy.contains("in use"), "{busy}");
    ann.stop().await;

    for (to, name) in [(EngineKind::Redb, "redb"), (EngineKind::Sled, "sled")] {
        let moved = maintenance::migrate(&ann.builder(), to).unwrap();
        assert_eq!(moved.to, name);
        let report = maintenance::check(&ann.builder()).unwrap();
        assert!(report.sound, "{report:?}");
        assert_eq!(report.engine, name);
    }
    maintenance::compact(&ann.builder()).unwrap();
    ann.start().await;
    assert_eq!(ann.handle().history(bob.account, 10, None).unwrap(), before);
    deliver(&ann.session(), bob.account, "and on it goes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let mut ann = Person::new("Ann");
    let says = |level: Level, check: &str, node: Option<&kith_node::api::NodeView>| {
        examine(&ann.folder, &ann.builder(), node)
            .into_iter()
            .filter(|finding| finding.level == level && finding.check == check)
            .map(|finding| finding.text)
            .collect::<String>()
    };
    assert!(says(Level::Ok, "store", None).contains("sled"));
    assert!(says(Level::Ok, "clock", None).contains("clock says"));
    assert!(says(Level::Warning, "config", None).contains("--bootstrap"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let folder = ann.folder.path();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(says(Level::Problem, "key", None).contains("chmod 700"));
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let nowhere = Folder::new(ann.folder.path().join("nowhere"));
    let findings = examine(&nowhere, &Builder::new(nowhere.clone()), None);
    assert!(findings.iter().any(|finding| finding.text.contains("kith init")), "{findings:?}");

    let handle = ann.start().await;
    let node = handle.status().unwrap();
    let findings = examine(&ann.folder, &ann.builder(), Some(&node));
    let listen = findings.iter().find(|finding| finding.check == "listen").unwrap();
    assert!(listen.text.contains("listening at 1 address"), "{}", listen.text);
    assert!(findings.iter().all(|finding| finding.level != Level::Problem), "{findings:?}");
}
