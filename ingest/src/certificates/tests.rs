use super::*;

#[test]
fn the_certificate_is_made_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let made = load_or_create(dir.path()).unwrap();
    let kept = load_or_create(dir.path()).unwrap();
    assert_eq!(made.fingerprint, kept.fingerprint);
    assert_eq!(made.fingerprint.len(), 64);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(dir.path().join("tls/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn broken_pairs_are_named() {
    let dir = tempfile::tempdir().unwrap();
    load_or_create(dir.path()).unwrap();
    fs::write(dir.path().join("tls/certificate.pem"), "nothing").unwrap();
    let error = load_or_create(dir.path()).unwrap_err();
    assert!(error.to_string().contains("certificate.pem"), "{error}");
    fs::remove_file(dir.path().join("tls/certificate.pem")).unwrap();
    assert!(matches!(load_or_create(dir.path()), Err(CertificateError::Half { .. })));
}

const NOW: i64 = 1_800_000_000;

/// A pair in a folder.
fn files(dir: &Path, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Files {
    let key_pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["ticks.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    change(&mut params);
    let files = Files { certificate: dir.join("own.pem"), key: dir.join("own.key") };
    fs::write(&files.key, key_pair.serialize_pem()).unwrap();
    fs::write(&files.certificate, params.self_signed(&key_pair).unwrap().pem()).unwrap();
    files
}

#[test]
fn production_certificates_are_looked_at_as_clients_will() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let good = load_production(&files(dir, |_| ()), NOW).unwrap();
    assert_eq!(good.facts.not_before_unix_s, 1_577_836_800);
    assert!(good.facts.names.contains(&"ticks.example".to_owned()), "{:?}", good.facts);
    assert!(server_tls(&good).unwrap().alpn_protocols == [ALPN.to_vec()]);

    let refused = |files: &Files, now| load_production(files, now).unwrap_err().to_string();
    let pair = files(dir, |_| ());
    let text = refused(&pair, 1_893_456_001);
    assert!(text.contains("own.pem expired at 2030-01-01T00:00:00"), "{text}");
    let text = refused(&pair, 1_577_836_799);
    assert!(text.contains("holds from 2020-01-01T00:00:00"), "{text}");
    let nameless = files(dir, |params| params.subject_alt_names.clear());
    assert!(refused(&nameless, NOW).contains("no subject alternative name"));
    let pair = files(dir, |_| ());
    fs::write(&pair.key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(refused(&pair, NOW).contains("does not belong to the certificate"));
    fs::write(&pair.key, "no key").unwrap();
    assert!(refused(&pair, NOW).contains("own.key holds no valid private key"));
    fs::write(&pair.certificate, "").unwrap();
    assert!(refused(&pair, NOW).contains("own.pem holds no valid certificate: no certificate"));
    fs::remove_file(&pair.certificate).unwrap();
    assert!(refused(&pair, NOW).contains("cannot read"));
}

#[test]
fn authorities_of_clients_are_read_or_named_as_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let own = load_or_create(dir.path()).unwrap();
    let authority = files(dir.path(), |_| ()).certificate;
    let own = own.with_client_authorities(&authority, true).unwrap();
    assert!(own.clients.as_ref().is_some_and(|clients| clients.required));
    server_tls(&own).unwrap();
    fs::write(&authority, "").unwrap();
    let error = own.with_client_authorities(&authority, true).unwrap_err().to_string();
    assert!(error.contains("no valid certificate of an authority"), "{error}");
}
