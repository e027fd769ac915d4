use std::net::SocketAddr;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::fake::{Fake, Made, Manners};
use crate::{Code, Token, status};

#[test]
fn fingerprints_are_taken_as_people_paste_them() {
    let digits = "0123456789abcdef".repeat(4);
    let pairs: Vec<&str> = (0..32).map(|i| &digits[2 * i..2 * i + 2]).collect();
    let pasted = format!(" {}\n", pairs.join(":").to_uppercase());
    assert_eq!(normalise(&pasted).unwrap(), digits);
    for text in ["", "12", &"g".repeat(64)] {
        assert!(matches!(normalise(text), Err(ClientError::FingerprintText { .. })));
    }
}

#[test]
fn nothing_secret_is_printed() {
    let options = Options { token: isotick_wire::Token::new("secret words"), ..Options::default() };
    assert!(!format!("{options:?}").contains("secret"));
}

/// An authority in a folder of its own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), certificate, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A signed certificate for these names; `years` bound its time.
    fn sign(&self, names: &[&str], years: std::ops::Range<i32>) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn serve(&self, names: &[&str], years: std::ops::Range<i32>) -> Fake {
        let (certificate, key) = self.sign(names, years);
        Fake::with(made(&certificate, &key), None, Manners::default())
    }

    fn options(&self) -> Options {
        let authorities = Some(Authorities::from_pem_file(self.path("ca.pem")).unwrap());
        Options { authorities, ..Options::default() }
    }
}

fn made(certificate: &rcgen::Certificate, key: &KeyPair) -> Made {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Made { chain: vec![certificate.der().clone()], key }
}

fn at(host: &str, address: SocketAddr) -> String {
    format!("{host}:{}", address.port())
}

#[tokio::test]
async fn certificates_are_checked_against_authority_name_and_time() {
    let authority = Authority::new();
    let options = authority.options();

    let good = authority.serve(&["localhost", "127.0.0.1"], 2020..2090);
    assert_eq!(status(&at("localhost", good.address), &options).await.unwrap(), "{}");
    assert_eq!(status(&at("127.0.0.1", good.address), &options).await.unwrap(), "{}");

    let problem = |error: ClientError| match error {
        ClientError::Certificate { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let named = authority.serve(&["elsewhere.example"], 2020..2090);
    let error = status(&at("localhost", named.address), &options).await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(problem(error), CertificateProblem::OtherName { name: "localhost".into() });

    let old = authority.serve(&["localhost"], 2010..2020);
    let error = status(&at("localhost", old.address), &options).await.unwrap_err();
    assert_eq!(problem(error), CertificateProblem::Expired);

    let future = authority.serve(&["localhost"], 2080..2090);
    let error = status(&at("localhost", future.address), &options).await.unwrap_err();
    assert_eq!(problem(error), CertificateProblem::NotYetValid);

    let stranger = Authority::new().serve(&["localhost"], 2020..2090);
    let error = status(&at("localhost", stranger.address), &options).await.unwrap_err();
    assert!(error.to_string().contains("--ca"), "{error}");
    assert_eq!(problem(error), CertificateProblem::UnknownAuthority);
}

#[tokio::test]
async fn a_pinned_fingerprint_is_checked_beside_the_authority() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&["localhost"], 2020..2090);
    let service = Fake::with(made(&certificate, &key), None, Manners::default());
    let pinned =
        |fingerprint: String| Options { fingerprint: Some(fingerprint), ..authority.options() };
    let address = at("localhost", service.address);
    status(&address, &pinned(fingerprint(certificate.der()))).await.unwrap();
    let error = status(&address, &pinned("0".repeat(64))).await.unwrap_err();
    assert!(matches!(error, ClientError::FingerprintMismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let (services, clients) = (Authority::new(), Authority::new());
    let (certificate, key) = services.sign(&["localhost"], 2020..2090);
    let mut roots = RootCertStore::empty();
    roots.add(clients.certificate.der().clone()).unwrap();
    let service = Fake::with(made(&certificate, &key), Some(roots), Manners::default());
    let address = at("localhost", service.address);

    let identity = |authority: &Authority, years| {
        let (certificate, key) = authority.sign(&["somebody"], years);
        let (cert_path, key_path) = (authority.path("cert.pem"), authority.path("key.pem"));
        std::fs::write(&cert_path, certificate.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        Some(Identity::from_pem_files(&cert_path, &key_path).unwrap())
    };
    let with = |identity| Options { identity, ..services.options() };
    status(&address, &with(identity(&clients, 2020..2090))).await.unwrap();
    for (refused, word) in [
        (None, "--cert"),
        (identity(&clients, 2010..2020), "expired"),
        (identity(&Authority::new(), 2020..2090), "refused this client's certificate"),
    ] {
        let error = status(&address, &with(refused)).await.unwrap_err();
        assert!(matches!(error, ClientError::IdentityRefused { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn a_token_goes_with_the_hello() {
    let manners = Manners { token: Some("abc"), ..Manners::default() };
    let service = Fake::with(crate::fake::made(), None, manners);
    let address = service.address.to_string();
    let with = |text: &str| Options { token: Token::new(text), ..Options::default() };
    status(&address, &with("abc")).await.unwrap();
    for wrong in ["", "abd"] {
        let error = status(&address, &with(wrong)).await.unwrap_err();
        assert!(matches!(&error, ClientError::Refused(r) if r.code == Code::Unauthenticated));
        assert!(error.to_string().contains("--token"), "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn files_that_hold_something_else_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let error = Authorities::from_pem_file(&path).unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
    std::fs::write(&path, "nothing").unwrap();
    let error = Authorities::from_pem_file(&path).unwrap_err();
    assert!(matches!(&error, ClientError::Pem { what: "certificate", .. }), "{error}");
    let error = Identity::from_pem_files(&path, &path).unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
}
