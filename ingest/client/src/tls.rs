//! Whose certificate is accepted, and which one is shown.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use isotick_wire::ALPN;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::connect::Options;
use crate::error::{CertificateProblem, ClientError};

/// The name in the handshake where no name is checked.
const SERVER_NAME: &str = "isotick";

/// The certificates of the authorities that may sign a service's certificate.
#[derive(Clone)]
pub struct Authorities(Arc<RootCertStore>);

impl Authorities {
    /// All certificates of a PEM file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or holds no certificate.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| invalid(path, "certificate", error))?;
        }
        Ok(Self(Arc::new(roots)))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} authorities", self.0.len())
    }
}

/// The client's own certificate and its key, where a service asks for one.
#[derive(Clone)]
pub struct Identity(Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>);

impl Identity {
    /// A certificate, its own first and then those between it and the authority, and its key.
    ///
    /// # Errors
    ///
    /// Files that cannot be read or hold something else.
    pub fn from_pem_files(
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, ClientError> {
        let (chain, key) = (certificates(certificate.as_ref())?, key.as_ref());
        let private = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| invalid(key, "private key", error))?;
        Ok(Self(Arc::new((chain, private))))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a certificate and its key")
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    fs::read(path).map_err(|source| ClientError::File { path: path.into(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if found.is_empty() => Err(invalid(path, "certificate", "there is none in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(invalid(path, "certificate", error)),
    }
}

fn invalid(path: &Path, what: &'static str, reason: impl ToString) -> ClientError {
    ClientError::Pem { path: PathBuf::from(path), what, reason: reason.to_string() }
}

/// What a connection must show, from what the user said.
pub(crate) struct Trust {
    pinned: Option<String>,
    authorities: Option<Authorities>,
    identity: Option<Identity>,
    /// The name that the certificate must have, where authorities are given.
    name: String,
}

impl Trust {
    /// From the options, for a service that was named `HOST:PORT`.
    pub(crate) fn new(address: &str, options: &Options) -> Result<Self, ClientError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = match options.authorities {
            Some(_) => host.trim_start_matches('[').trim_end_matches(']'),
            None => SERVER_NAME,
        };
        Ok(Self {
            pinned: options.fingerprint.as_deref().map(normalise).transpose()?,
            authorities: options.authorities.clone(),
            identity: options.identity.clone(),
            name: name.into(),
        })
    }

    /// The name to put into the handshake.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// TLS for one connection, and what will have looked at the certificate.
    pub(crate) fn config(
        &self,
        address: SocketAddr,
    ) -> Result<(QuicClientConfig, Arc<Verifier>), ClientError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier::new(self, address, provider.clone())?);
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider offers TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let mut tls = match &self.identity {
            None => tls.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = &*identity.0;
                tls.with_client_auth_cert(chain.clone(), key.clone_key())
                    .map_err(|error| ClientError::Identity { reason: error.to_string() })?
            }
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("the provider offers QUIC's first cipher");
        Ok((tls, verifier))
    }
}

fn normalise(text: &str) -> Result<String, ClientError> {
    let digits: String = text.chars().filter(|c| *c != ':' && !c.is_whitespace()).collect();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ClientError::FingerprintText { text: text.into() });
    }
    Ok(digits.to_ascii_lowercase())
}

/// Checks a certificate against the pinned fingerprint and the authorities, each where given;
/// without both it accepts any on loopback. Keeps what it saw.
#[derive(Debug)]
pub(crate) struct Verifier {
    address: SocketAddr,
    pinned: Option<String>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    fingerprint: String,
    /// Why it was refused.
    refused: Option<Refused>,
}

#[derive(Debug)]
enum Refused {
    OtherFingerprint,
    Unknown,
    Problem(CertificateProblem),
}

impl Verifier {
    fn new(
        trust: &Trust,
        address: SocketAddr,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, ClientError> {
        let authorities = match &trust.authorities {
            None => None,
            Some(Authorities(roots)) => Some(
                WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                    .build()
                    .map_err(|error| ClientError::Identity { reason: error.to_string() })?,
            ),
        };
        let pinned = trust.pinned.clone();
        Ok(Self { address, pinned, authorities, provider, seen: Mutex::default() })
    }

    /// Whether more was asked for than an address of this machine.
    pub(crate) fn checks(&self) -> bool {
        self.pinned.is_some() || self.authorities.is_some()
    }

    /// The fingerprint of the certificate seen, empty while none was.
    pub(crate) fn fingerprint(&self) -> String {
        self.seen.lock().map(|seen| seen.fingerprint.clone()).unwrap_or_default()
    }

    /// Why the certificate was refused, if it was.
    pub(crate) fn refusal(&self) -> Option<ClientError> {
        let mut seen = self.seen.lock().ok()?;
        let (address, found) = (self.address, seen.fingerprint.clone());
        Some(match seen.refused.take()? {
            Refused::Unknown => ClientError::FingerprintNeeded { address, found },
            Refused::OtherFingerprint => {
                let expected = self.pinned.clone().unwrap_or_default();
                ClientError::FingerprintMismatch { address, expected, found }
            }
            Refused::Problem(problem) => ClientError::Certificate { address, found, problem },
        })
    }

    fn check(
        &self,
        found: &str,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Refused> {
        if self.pinned.as_ref().is_some_and(|pinned| pinned != found) {
            return Err(Refused::OtherFingerprint);
        }
        match &self.authorities {
            Some(authorities) => authorities
                .verify_server_cert(certificate, between, name, &[], now)
                .map(|_| ())
                .map_err(|error| Refused::Problem(problem(name, error))),
            None if self.pinned.is_some() || self.address.ip().is_loopback() => Ok(()),
            None => Err(Refused::Unknown),
        }
    }
}

fn problem(name: &ServerName<'_>, error: rustls::Error) -> CertificateProblem {
    let rustls::Error::InvalidCertificate(error) = error else {
        return CertificateProblem::Other { reason: error.to_string() };
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CertificateProblem::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateProblem::NotYetValid
        }
        // An authority of the same name with another key has signed it.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            CertificateProblem::UnknownAuthority
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateProblem::OtherName { name: name.to_str().into_owned() }
        }
        other => CertificateProblem::Other { reason: other.to_string() },
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = fingerprint(certificate);
        let refused = self.check(&fingerprint, certificate, between, name, now).err();
        let accepted = refused.is_none();
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Seen { fingerprint, refused };
        }
        match accepted {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 over the certificate's DER bytes, as lowercase hex digits.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().expect("the suite's name says TLS 1.3");
    let digest = suite.common.hash_provider.hash(certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
