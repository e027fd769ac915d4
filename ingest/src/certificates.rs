//! The service's certificate: a development one is made at first start and kept; production brings
//! its own, and can ask clients for theirs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isotick_wire::ALPN;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use crate::error::CertificateError;

/// The names in a development certificate. Clients do not check them: they pin the fingerprint.
const NAMES: [&str; 2] = ["isotick", "localhost"];

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Certificates {
    /// The chain, the service's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// SHA-256 over the first certificate's DER bytes, 64 lowercase hex digits: what clients pin,
    /// and what `openssl x509 -noout -fingerprint -sha256` prints (there with colons).
    pub fingerprint: String,
    /// What the first certificate says of itself.
    pub facts: Facts,
    /// Whose certificates clients may show; `None` when they are not asked for one.
    pub clients: Option<ClientAuthorities>,
}

/// What a certificate says of itself. Times are seconds since 1970 UTC, both inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its common name, then its alternative names (DNS, address, e-mail, URI), each once.
    pub names: Vec<String>,
    /// Whether it has an alternative name: clients check no other.
    pub has_alternative_names: bool,
    /// From when on it holds.
    pub not_before_unix_s: i64,
    /// Until when.
    pub not_after_unix_s: i64,
}

/// Who vouches for clients.
#[derive(Clone, Debug)]
pub struct ClientAuthorities {
    /// The authorities' certificates.
    pub roots: Arc<RootCertStore>,
    /// Whether a client without a certificate is refused in the handshake.
    pub required: bool,
}

impl ClientAuthorities {
    /// What the handshake asks whether they vouch for a client.
    ///
    /// # Errors
    ///
    /// No authority at all.
    pub(crate) fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider);
        let verifier = if self.required { verifier } else { verifier.allow_unauthenticated() };
        Ok(verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?)
    }
}

/// Where a production service has its certificates.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain, PEM, the service's own certificate first.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Certificates {
    /// Whether clients are to show a certificate: one that a certificate in this PEM file vouches
    /// for.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or holds no certificate of an authority.
    pub fn with_client_authorities(
        mut self,
        path: &Path,
        required: bool,
    ) -> Result<Self, CertificateError> {
        let unusable = |reason: String| unusable(path, "certificate of an authority", reason);
        let mut roots = RootCertStore::empty();
        for certificate in pem_certificates(path).map_err(|error| match error {
            PemError::Io(error) => error,
            PemError::Invalid(reason) => unusable(reason),
        })? {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("no certificate in it".into()));
        }
        self.clients = Some(ClientAuthorities { roots: Arc::new(roots), required });
        Ok(self)
    }
}

/// Loads what a production service was given, and checks what clients will check: that the
/// certificate holds now, names a host, and goes with its key.
///
/// # Errors
///
/// Files that cannot be read, that hold something else, or a certificate that clients would
/// refuse.
pub fn load_production(files: &Files, now_unix_s: i64) -> Result<Certificates, CertificateError> {
    let invalid = |path: &Path, what| {
        let path = path.to_owned();
        move |error| match error {
            PemError::Io(error) => error,
            PemError::Invalid(reason) => unusable(&path, what, reason),
        }
    };
    let certificate = &files.certificate;
    let loaded = load_pair(certificate, &files.key)
        .map_err(|(path, what, error)| invalid(path, what)(error))?;
    let time =
        |unix_s: i64| isotick_model::time::format_rfc3339(unix_s.saturating_mul(1_000_000_000));
    let path = certificate.clone();
    if now_unix_s > loaded.facts.not_after_unix_s {
        return Err(CertificateError::Expired { path, at: time(loaded.facts.not_after_unix_s) });
    }
    if now_unix_s < loaded.facts.not_before_unix_s {
        return Err(CertificateError::NotYetValid {
            path,
            at: time(loaded.facts.not_before_unix_s),
        });
    }
    if !loaded.facts.has_alternative_names {
        return Err(CertificateError::NoNames { path });
    }
    let provider = rustls::crypto::ring::default_provider();
    let key = provider
        .key_provider
        .load_private_key(loaded.key.clone_key())
        .map_err(|error| unusable(&files.key, "private key", error.to_string()))?;
    if CertifiedKey::new(loaded.chain.clone(), key).keys_match().is_err() {
        return Err(CertificateError::Mismatch { certificate: path, key: files.key.clone() });
    }
    Ok(loaded)
}

/// The TLS side of a service: TLS 1.3 only, ALPN `isotick/1`, client certificates where they are
/// asked for. Used at start, and again when the certificates were replaced.
///
/// # Errors
///
/// A certificate that does not go with its key.
pub fn server_tls(certificates: &Certificates) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match &certificates.clients {
        None => builder.with_no_client_auth(),
        Some(authorities) => builder.with_client_cert_verifier(authorities.verifier()?),
    };
    let (chain, key) = (certificates.chain.clone(), certificates.key.clone_key());
    let mut tls = builder.with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    Ok(tls)
}

/// What a certificate says of itself. Nothing is verified.
///
/// # Errors
///
/// Bytes that are no X.509 certificate.
pub fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.map(str::to_owned).collect();
    let alternative = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let alternative = alternative.map(|found| &found.value.general_names);
    for name in alternative.into_iter().flatten() {
        match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                names.push((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
            _ => {}
        }
    }
    let mut once = Vec::with_capacity(names.len());
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    Ok(Facts {
        names: once,
        has_alternative_names: alternative.is_some_and(|names| !names.is_empty()),
        not_before_unix_s: parsed.validity().not_before.timestamp(),
        not_after_unix_s: parsed.validity().not_after.timestamp(),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::Ipv4Addr::from(bytes).to_string());
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|b| std::net::Ipv6Addr::from(b).to_string());
    four.or_else(|_| sixteen()).ok()
}

/// Loads `DIR/tls/certificate.pem` and `DIR/tls/key.pem`; makes both, self-signed, when neither is
/// there. The key's file can be read by its owner only.
///
/// # Errors
///
/// Files that cannot be read or written, that hold something else, or only one of the two.
pub fn load_or_create(dir: &Path) -> Result<Certificates, CertificateError> {
    let folder = dir.join("tls");
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    match (certificate.exists(), key.exists()) {
        (false, false) => create(&folder, &certificate, &key)?,
        (true, false) => return Err(CertificateError::Half { path: key }),
        (false, true) => return Err(CertificateError::Half { path: certificate }),
        (true, true) => (),
    }
    load(&certificate, &key)
}

/// Loads a development pair.
fn load(certificate: &Path, key: &Path) -> Result<Certificates, CertificateError> {
    load_pair(certificate, key).map_err(|(path, what, error)| match error {
        PemError::Io(error) => error,
        PemError::Invalid(reason) => invalid(path, what, reason),
    })
}

/// Why a PEM file cannot be used.
enum PemError {
    Io(CertificateError),
    Invalid(String),
}

/// The pair, or the file at fault and what it should hold.
fn load_pair<'a>(
    certificate: &'a Path,
    key: &'a Path,
) -> Result<Certificates, (&'a Path, &'static str, PemError)> {
    let invalid = |what, path| move |reason: String| (path, what, PemError::Invalid(reason));
    let of_certificate = |error| (certificate, "certificate", error);
    let chain = pem_certificates(certificate).map_err(of_certificate)?;
    let Some(first) = chain.first() else {
        return Err(invalid("certificate", certificate)("no certificate in it".into()));
    };
    let (fingerprint, facts) = (fingerprint(first), facts(first));
    let facts = facts.map_err(invalid("certificate", certificate))?;
    let text = read(key).map_err(|error| (key, "private key", PemError::Io(error)))?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| invalid("private key", key)(error.to_string()))?;
    Ok(Certificates { chain, key, fingerprint, facts, clients: None })
}

fn pem_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(path).map_err(PemError::Io)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| PemError::Invalid(error.to_string()))
}

fn create(folder: &Path, certificate: &Path, key: &Path) -> Result<(), CertificateError> {
    let generate = |source| CertificateError::Generate { source };
    let key_pair = rcgen::KeyPair::generate().map_err(generate)?;
    let names = NAMES.map(String::from).to_vec();
    let params = rcgen::CertificateParams::new(names).map_err(generate)?;
    let made = params.self_signed(&key_pair).map_err(generate)?;
    fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    write(key, &key_pair.serialize_pem(), true).map_err(io("write", key))?;
    write(certificate, &made.pem(), false).map_err(io("write", certificate))
}

/// Writes beside and renames, so that a file is whole or absent.
pub(crate) fn write(path: &Path, text: &str, secret: bool) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(io("read", path))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertificateError {
    let path = PathBuf::from(path);
    move |source| CertificateError::Io { action, path, source }
}

fn invalid(path: &Path, what: &'static str, reason: impl ToString) -> CertificateError {
    CertificateError::Invalid { path: path.into(), what, reason: reason.to_string() }
}

fn unusable(path: &Path, what: &'static str, reason: String) -> CertificateError {
    CertificateError::Unusable { path: path.into(), what, reason }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(sha256(certificate).as_ref())
}

/// Lowercase hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, by way of the cipher suite that is linked in anyway.
pub(crate) fn sha256(bytes: &[u8]) -> rustls::crypto::hash::Output {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().expect("the suite's name says TLS 1.3");
    suite.common.hash_provider.hash(bytes)
}

#[cfg(test)]
mod tests;
