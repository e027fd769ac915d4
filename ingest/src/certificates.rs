//! The service's certificate: a development one is made at first start and kept.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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

/// Loads a chain and its key from PEM files.
///
/// # Errors
///
/// Files that cannot be read or hold something else.
pub fn load(certificate: &Path, key: &Path) -> Result<Certificates, CertificateError> {
    let text = read(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(certificate, "certificate", error))?;
    let Some(first) = chain.first() else {
        return Err(invalid(certificate, "certificate", "no certificate in it"));
    };
    let fingerprint = fingerprint(first);
    let key = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| invalid(key, "private key", error))?;
    Ok(Certificates { chain, key, fingerprint })
}

fn create(folder: &Path, certificate: &Path, key: &Path) -> Result<(), CertificateError> {
    let generate = |source| CertificateError::Generate { source };
    let key_pair = rcgen::KeyPair::generate().map_err(generate)?;
    let names = NAMES.map(String::from).to_vec();
    let params = rcgen::CertificateParams::new(names).map_err(generate)?;
    let made = params.self_signed(&key_pair).map_err(generate)?;
    fs::create_dir_all(folder).map_err(io("make the folder", folder))?;
    write(key, &key_pair.serialize_pem(), true)?;
    write(certificate, &made.pem(), false)
}

/// Writes beside and renames, so that a file is whole or absent.
fn write(path: &Path, text: &str, secret: bool) -> Result<(), CertificateError> {
    let part = path.with_extension("part");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(&part).map_err(io("write", &part))?;
    file.write_all(text.as_bytes()).map_err(io("write", &part))?;
    file.sync_all().map_err(io("write", &part))?;
    fs::rename(&part, path).map_err(io("write", path))
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

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    sha256(certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, by way of the cipher suite that is linked in anyway.
pub(crate) fn sha256(bytes: &[u8]) -> rustls::crypto::hash::Output {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().expect("the suite's name says TLS 1.3");
    suite.common.hash_provider.hash(bytes)
}

#[cfg(test)]
mod tests {
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
}
