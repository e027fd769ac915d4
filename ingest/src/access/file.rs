//! The access file on disk: read, added to, cut from. Comments and order are kept.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::{
    Access, Credential, ENTRY_NAME_RULE, Entry, Pattern, Rights, digest_of, is_entry_name,
};
use crate::certificates::{hex, write};
use crate::error::AccessError;

/// What every token begins with, so that one that lies about is recognised.
const TOKEN_PREFIX: &str = "isotick_";

/// Reads an access file; `None` when there is none.
///
/// # Errors
///
/// A file that cannot be read, or is not right: with its line and the remedy.
pub fn load(path: &Path) -> Result<Option<Access>, AccessError> {
    match read(path)? {
        Some(text) => Access::parse(&text, &path.display().to_string()).map(Some),
        None => Ok(None),
    }
}

/// A new token: 256 random bits, as text.
///
/// # Errors
///
/// When the operating system gives no random bytes.
pub fn fresh_token() -> Result<String, AccessError> {
    let mut bytes = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| AccessError::Random)?;
    Ok(format!("{TOKEN_PREFIX}{}", hex(&bytes)))
}

/// An entry to be added.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Its name.
    pub name: String,
    /// How it is recognised.
    pub credential: NewCredential,
    /// What it may do.
    pub rights: Rights,
    /// When it ends, seconds since 1970 UTC.
    pub expires_unix_s: Option<i64>,
}

/// How a new entry is recognised.
#[derive(Clone, Debug)]
pub enum NewCredential {
    /// By this token, of which the hash is kept.
    Token(String),
    /// By a name in a client certificate.
    CertificateName(String),
    /// By the fingerprint of a client certificate, 64 hex digits.
    CertificateFingerprint(String),
}

/// Adds an entry at the end of an access file, which is made if it is not there.
///
/// # Errors
///
/// A file that is not right, a name that is taken or no name, and what cannot be written. The file
/// is as it was then.
pub fn add(path: &Path, entry: &NewEntry) -> Result<(), AccessError> {
    let file = path.display().to_string();
    let old = read(path)?.unwrap_or_default();
    let (kind, recognised) = match &entry.credential {
        NewCredential::Token(token) => {
            ("token", format!("sha256 = \"{}\"", hex(&digest_of(token.as_bytes()))))
        }
        NewCredential::CertificateName(name) => ("certificate", format!("name = {}", quoted(name))),
        NewCredential::CertificateFingerprint(digits) => {
            ("certificate", format!("sha256 = {}", quoted(digits)))
        }
    };
    if !is_entry_name(&entry.name) {
        let name = entry.name.escape_debug().to_string();
        return Err(AccessError::Name { name, rule: ENTRY_NAME_RULE });
    }
    let taken = Access::parse(&old, &file)?;
    if taken.entries().iter().any(|known| known.name == entry.name) {
        return Err(AccessError::Taken { name: entry.name.clone(), file });
    }
    let mut text = old;
    if !text.is_empty() {
        text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
    }
    let _ = writeln!(text, "[{kind}.{}]\n{recognised}", entry.name);
    let lists = [
        ("publish", &entry.rights.publish),
        ("publishers", &entry.rights.publishers),
        ("subscribe", &entry.rights.subscribe),
    ];
    for (field, patterns) in lists.into_iter().filter(|(_, patterns)| !patterns.is_empty()) {
        let _ = writeln!(text, "{field} = [{}]", list(patterns));
    }
    for (field, given) in [("scan", entry.rights.scan), ("admin", entry.rights.admin)] {
        if given {
            let _ = writeln!(text, "{field} = true");
        }
    }
    if let Some(end) = entry.expires_unix_s {
        let end = isotick_model::time::format_rfc3339(end.saturating_mul(1_000_000_000));
        let _ = writeln!(text, "expires = \"{end}\"");
    }
    // What was written must be what is read, before it takes the file's place.
    Access::parse(&text, &file)?;
    replace(path, &text)
}

/// Cuts the entries of this name, a token's and a certificate's, out of an access file.
///
/// # Errors
///
/// A file that is not right or not there, no such name, an entry that does not stand as a table of
/// its own, and what cannot be written. The file is as it was then.
pub fn remove(path: &Path, name: &str) -> Result<(), AccessError> {
    let file = path.display().to_string();
    let old = read(path)?.unwrap_or_default();
    let before = Access::parse(&old, &file)?;
    let keeps = |entry: &&Entry| entry.name != name;
    let kept: Vec<_> = before.entries().iter().filter(keeps).cloned().collect();
    if kept.len() == before.entries().len() {
        return Err(AccessError::NoSuchEntry { name: name.escape_debug().to_string(), file });
    }
    let headers = [format!("[token.{name}]"), format!("[certificate.{name}]")];
    let mut text = String::new();
    let mut inside = false;
    for line in old.split_inclusive('\n') {
        let start = line.trim_start();
        if start.starts_with('[') {
            inside = headers.iter().any(|header| start.starts_with(header));
        }
        if !inside {
            text.push_str(line);
        }
    }
    // Cut by lines, judged by the meaning: anything unusual is left to the operator.
    match Access::parse(&text, &file) {
        Ok(after) if after.entries() == kept => replace(path, &text),
        _ => Err(AccessError::NotATable { name: name.into(), file }),
    }
}

fn read(path: &Path) -> Result<Option<String>, AccessError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AccessError::Io { action: "read", path: path.into(), source }),
    }
}

fn replace(path: &Path, text: &str) -> Result<(), AccessError> {
    write(path, text, true).map_err(|source| AccessError::Io {
        action: "write",
        path: path.into(),
        source,
    })
}

fn list(patterns: &[Pattern]) -> String {
    patterns.iter().map(|pattern| quoted(pattern.as_str())).collect::<Vec<_>>().join(", ")
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl Entry {
    /// How it is recognised, for people; of a token's hash only the beginning.
    pub fn recognised_by(&self) -> String {
        match &self.credential {
            Credential::Token(digest) => format!("token, sha256 {}…", &hex(digest)[..8]),
            Credential::CertificateName(name) => format!("certificate of {name}"),
            Credential::CertificateFingerprint(digest) => {
                format!("certificate, sha256 {}…", &hex(digest)[..8])
            }
        }
    }
}
