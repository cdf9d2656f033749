use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_key_file_gives_its_key_back_and_only_the_owner_may_read_it() {
    let folder = folder();
    let (key, used) = create(folder.path(), KeyKind::File, None).unwrap();
    assert_eq!(used, KeyKind::File);
    assert_eq!(open(folder.path(), None).unwrap().0, key.0);
    assert_eq!(kind(folder.path()).unwrap(), Some(KeyKind::File));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join(FILE);
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        open(folder.path(), None).unwrap();
        assert_eq!(mode(), 0o600);
    }
}

#[test]
fn a_passphrase_opens_its_key_and_another_does_not() {
    let folder = folder();
    let (key, used) = create(folder.path(), KeyKind::Passphrase, Some("four words of mine")).unwrap();
    assert_eq!(used, KeyKind::Passphrase);
    let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    assert!(!text.contains(&hex(&key.0)));
    assert_eq!(open(folder.path(), Some("four words of mine")).unwrap().0, key.0);
    assert!(matches!(open(folder.path(), Some("other words")), Err(KeyError::WrongPassphrase)));
    assert!(matches!(open(folder.path(), None), Err(KeyError::PassphraseNeeded)));
    // the key stays when the passphrase changes
    keep(folder.path(), &key, KeyKind::Passphrase, Some("new words")).unwrap();
    assert_eq!(open(folder.path(), Some("new words")).unwrap().0, key.0);
    assert!(matches!(open(folder.path(), Some("four words of mine")), Err(KeyError::WrongPassphrase)));
}

#[test]
fn an_empty_or_missing_passphrase_makes_no_key() {
    let folder = folder();
    assert!(matches!(create(folder.path(), KeyKind::Passphrase, Some("")), Err(KeyError::PassphraseEmpty)));
    assert!(matches!(create(folder.path(), KeyKind::Passphrase, None), Err(KeyError::PassphraseNeeded)));
    assert_eq!(kind(folder.path()).unwrap(), None);
}

#[test]
fn a_second_key_is_refused_and_a_missing_one_is_named() {
    let folder = folder();
    let error = open(folder.path(), None).unwrap_err();
    assert!(matches!(error, KeyError::Missing(_)));
    assert!(error.to_string().contains("kith init"), "{error}");
    create(folder.path(), KeyKind::File, None).unwrap();
    assert!(matches!(create(folder.path(), KeyKind::File, None), Err(KeyError::Exists(_))));
}

#[test]
fn a_damaged_or_newer_key_file_is_named() {
    let folder = folder();
    let path = folder.path().join(FILE);
    let text = "{\"version\":1,\"kind\":\"passphrase\",\"stretch\":\"ff\",\"wrapped\":\"\"}";
    let costly = format!(
        "{{\"version\":1,\"kind\":\"passphrase\",\"stretch\":\"{}\",\"wrapped\":\"\"}}",
        "ff".repeat(Stretch::LEN)
    );
    let damaged =
        ["", "{}", "{\"version\":1}", "{\"version\":1,\"kind\":\"file\",\"key\":\"zz\"}", text, &costly];
    for text in damaged {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(open(folder.path(), Some("p")), Err(KeyError::Damaged { .. })), "{text}");
    }
    std::fs::write(&path, "{\"version\":2,\"kind\":\"cloud\"}").unwrap();
    assert!(matches!(open(folder.path(), None), Err(KeyError::Newer { found: 2, .. })));
}

#[test]
fn without_a_keyring_auto_takes_a_passphrase_or_a_file() {
    // whether this machine has a keyring is not for the test to say; that a key comes back is
    for passphrase in [None, Some("words")] {
        let folder = folder();
        let (key, used) = create(folder.path(), KeyKind::Auto, passphrase).unwrap();
        assert_eq!(kind(folder.path()).unwrap(), Some(used));
        assert_eq!(open(folder.path(), passphrase).unwrap().0, key.0);
        if cfg!(not(feature = "keyring")) {
            assert_eq!(used, if passphrase.is_some() { KeyKind::Passphrase } else { KeyKind::File });
            let error = create(folder.path().join("other").as_path(), KeyKind::Keyring, None).unwrap_err();
            assert!(error.to_string().contains("--key file"), "{error}");
        }
    }
}

#[test]
fn the_words_for_kinds_are_those_of_the_command_line() {
    for kind in [KeyKind::Auto, KeyKind::Keyring, KeyKind::Passphrase, KeyKind::File] {
        assert_eq!(kind.name().parse::<KeyKind>().unwrap(), kind);
    }
    assert!("tpm".parse::<KeyKind>().unwrap_err().to_string().contains("tpm"));
    assert_eq!(format!("{:?}", MasterKey::from_bytes([1; 32])), "MasterKey(..)");
}
