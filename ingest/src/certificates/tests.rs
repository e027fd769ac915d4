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

/// An authority, and what it signs.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// A client's chain and key; its certificate ends with this year.
    fn client(&self, until: i32) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let made = params.signed_by(&key, &self.issuer).unwrap();
        (vec![made.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// Takes the service at its word.
#[derive(Debug)]
struct Trusting(rustls::crypto::WebPkiSupportedAlgorithms);

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A handshake in memory: the client's certificate as the service sees it, or its refusal.
fn shake(
    server: &Certificates,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Option<CertificateDer<'static>>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusting = Trusting(provider.signature_verification_algorithms);
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusting));
    let mut config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name = "isotick".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let config = Arc::new(server_tls(server).unwrap());
    let mut server = rustls::ServerConnection::new(config).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
        }
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
        }
        client.process_new_packets()?;
    }
    assert!(!server.is_handshaking(), "the handshake ends");
    Ok(server.peer_certificates().map(|chain| chain[0].clone()))
}

#[test]
fn clients_show_certificates_that_the_authority_vouches_for() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, foreign) = (Authority::new(), Authority::new());
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, &ours.pem).unwrap();
    let server = |required| {
        load_or_create(dir.path()).unwrap().with_client_authorities(&ca, required).unwrap()
    };
    for required in [false, true] {
        let server = server(required);
        let (chain, key) = ours.client(2100);
        let seen = shake(&server, Some((chain.clone(), key))).unwrap().unwrap();
        assert_eq!(seen, chain[0]);
        assert!(facts(&seen).unwrap().names.contains(&"client".to_owned()));
        assert_eq!(shake(&server, None).is_ok(), !required);
        let expired = shake(&server, Some(ours.client(2001))).unwrap_err();
        assert!(expired.to_string().contains("xpired"), "{expired}");
        assert!(shake(&server, Some(foreign.client(2100))).is_err(), "a stranger's authority");
    }
    let nobody = load_or_create(dir.path()).unwrap();
    assert_eq!(shake(&nobody, Some(ours.client(2100))), Ok(None), "nobody is asked");
}
