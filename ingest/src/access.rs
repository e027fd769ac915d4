//! Who may do what: tokens and client certificates with their rights.
//!
//! ```toml
//! [token.feed-a]                       # isotick access add feed-a --publish trades
//! sha256     = "…64 hex digits…"       # of the token's text; the token itself is kept nowhere
//! publish    = ["trades"]              # streams; "*" for all, "fx_*" for those that begin so
//! publishers = ["feed-a*"]             # under these names only [default: any]
//! subscribe  = ["bars_*"]              # views
//! scan       = false                   # read history through the service: submit jobs
//! admin      = false                   # everything, status included
//! expires    = "2027-01-01T00:00:00Z"
//!
//! [certificate.gateway]                # a client certificate that --client-ca vouches for
//! name       = "gateway.example"       # its common name, or one of its alternative names
//! publish    = ["*"]
//! ```
//!
//! A token, where one is sent, decides alone; else the client certificate does. Refusals name what
//! was asked for and nothing else: they read the same whether it exists or not.

mod file;
mod gate;

use std::collections::BTreeMap;
use std::fmt;

use isotick_model::definitions::Definitions;
use isotick_wire::{Code, Hello, JobRequest, Refusal, Role, Token};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use toml::Spanned;

use crate::certificates::{self, sha256};
use crate::error::AccessError;

pub use file::{NewCredential, NewEntry, add, fresh_token, load, remove};
pub use gate::{Gate, Refusals};

/// Bytes of a token's text that are looked at; a longer one is unknown.
const TOKEN_BYTES_MAX: usize = 1_024;

/// Everyone who may do something, or everything for everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `None`: nobody is asked who they are.
    entries: Option<Vec<Entry>>,
}

/// Someone who may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What operators call them; unique among tokens and among certificates.
    pub name: String,
    /// How they are recognised.
    pub credential: Credential,
    /// What they may do.
    pub rights: Rights,
    /// When the entry ends, seconds since 1970 UTC.
    pub expires_unix_s: Option<i64>,
}

/// How someone is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// By the SHA-256 of a token's text.
    Token([u8; 32]),
    /// By a name in a client certificate: its common name, or an alternative one.
    CertificateName(String),
    /// By the SHA-256 of a client certificate's DER bytes.
    CertificateFingerprint([u8; 32]),
}

/// What someone may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Streams to publish to.
    pub publish: Vec<Pattern>,
    /// Names to publish under; empty for any.
    pub publishers: Vec<Pattern>,
    /// Views to subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Whether history may be read through the service.
    pub scan: bool,
    /// Whether everything is allowed, the service's status included.
    pub admin: bool,
}

/// A name, or every name that begins with what stands before a final `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// `None` when it is empty, or a `*` stands before the end.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let stem = text.strip_suffix('*').unwrap_or(&text);
        (!text.is_empty() && !stem.contains('*')).then_some(Self(text))
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(stem) => name.starts_with(stem),
            None => self.0 == name,
        }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Rights {
    fn allow(&self, role: &Role) -> bool {
        let any = |patterns: &[Pattern], name: &str| patterns.iter().any(|p| p.matches(name));
        self.admin
            || match role {
                Role::Publish { stream, publisher, .. } => {
                    any(&self.publish, stream)
                        && (self.publishers.is_empty() || any(&self.publishers, publisher.as_str()))
                }
                Role::Subscribe(subscribe) => any(&self.subscribe, &subscribe.view),
                Role::Status => false,
                Role::Jobs(_) => self.scan,
                // Answered with what the asker may know: see `Granted::definitions`.
                Role::Definitions => true,
            }
    }
}

/// Someone was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The entry's name; empty where nobody is asked.
    pub name: String,
    /// `None` for everything that is read: who may scan or administer, and where nobody is asked.
    rights: Option<Rights>,
    /// Whether everything is allowed.
    is_admin: bool,
    /// When what let them in ends, seconds since 1970 UTC.
    expires_unix_s: Option<i64>,
}

/// What someone was let in for, and by what: enough to ask again whether they may.
#[derive(Debug)]
pub(crate) struct Admitted {
    token: Token,
    role: Role,
    expires_unix_s: Option<i64>,
}

impl Admitted {
    /// Of a hello that was let in.
    pub(crate) fn new(hello: &Hello, granted: &Granted) -> Self {
        let role = match &hello.role {
            // Rights make no difference between requests, and some are long.
            Role::Jobs(_) => Role::Jobs(JobRequest::List),
            role => role.clone(),
        };
        Self { token: hello.token.clone(), role, expires_unix_s: granted.expires_unix_s }
    }

    /// Whether its time is over.
    pub(crate) fn has_expired(&self, now_unix_s: i64) -> bool {
        self.expires_unix_s.is_some_and(|end| now_unix_s >= end)
    }
}

/// Who asks for something about jobs. Jobs belong to the name: to a token and a certificate of the
/// same name alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOwner {
    /// The access entry's name, [`ANYONE`](Self::ANYONE) where nobody is asked.
    pub name: String,
    /// Whether it may see and change the jobs of others.
    pub is_admin: bool,
    granted: Granted,
}

impl JobOwner {
    /// Who asks where nobody is asked who they are; no access entry can have this name.
    pub const ANYONE: &str = "(anyone)";

    /// Whether a view may be scanned.
    pub fn may_scan(&self, view: &str) -> bool {
        self.granted.may_scan(view)
    }

    /// Whether a job of this owner may be seen and changed.
    pub fn may_touch(&self, owner: &str) -> bool {
        self.is_admin || self.name == owner
    }
}

impl From<Granted> for JobOwner {
    fn from(granted: Granted) -> Self {
        let name = match granted.name.as_str() {
            "" => Self::ANYONE.to_owned(),
            name => name.to_owned(),
        };
        Self { name, is_admin: granted.is_admin, granted }
    }
}

impl Granted {
    /// Everything, as where nobody is asked.
    pub fn everything() -> Self {
        Self { name: String::new(), rights: None, is_admin: true, expires_unix_s: None }
    }

    /// Whether a view may be scanned: all views, or none.
    pub fn may_scan(&self, _view: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.scan)
    }

    /// What of the definitions (TOML) they may know: streams they may publish to, views they may
    /// subscribe to, and the streams of these. Everything with the right to scan or administer.
    pub fn definitions(&self, all: String) -> String {
        let Some(rights) = &self.rights else { return all };
        let Ok(all) = Definitions::parse(&all, "definitions") else { return String::new() };
        let any = |patterns: &[Pattern], name: &str| patterns.iter().any(|p| p.matches(name));
        let views: Vec<_> =
            all.views.into_iter().filter(|view| any(&rights.subscribe, &view.name)).collect();
        let read = |stream: &str| views.iter().any(|view| view.stream == stream);
        let streams = all.streams.into_iter();
        let streams = streams.filter(|s| any(&rights.publish, &s.name) || read(&s.name)).collect();
        Definitions { streams, views }.to_toml()
    }

    /// A refusal as they may read it: one that lists the names that there are is cut short for
    /// whoever may not know them all.
    pub fn conceal(&self, refusal: Refusal) -> Refusal {
        let text = match refusal.code {
            _ if self.rights.is_none() => return refusal,
            Code::UnknownStream => "there is no such stream",
            Code::UnknownView => "there is no such view",
            _ => return refusal,
        };
        Refusal::new(refusal.code, text)
    }
}

/// Why someone was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Neither token nor certificate.
    Anonymous,
    /// A token that no entry has.
    UnknownToken,
    /// A client certificate that no entry names.
    UnknownCertificate,
    /// The entry, or the client certificate, has ended.
    Expired {
        /// Which of both.
        what: &'static str,
    },
    /// Known, without the right to this.
    Forbidden {
        /// What was asked for.
        what: String,
    },
}

impl Denied {
    /// The same, as the client is told.
    pub fn to_refusal(&self) -> Refusal {
        let code = match self {
            Self::Forbidden { .. } => Code::Forbidden,
            _ => Code::Unauthenticated,
        };
        Refusal::new(code, self.to_string())
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str(
                "this service lets in only who shows a token or a client certificate, and neither \
                 came: ask its operator for one",
            ),
            Self::UnknownToken => f.write_str(
                "the token is not one of this service's: check that it is whole, and of this \
                 service",
            ),
            Self::UnknownCertificate => f.write_str(
                "the client certificate has no rights here: ask the service's operator for them",
            ),
            Self::Expired { what } => {
                write!(f, "the {what} has expired: ask the service's operator for a new one")
            }
            Self::Forbidden { what } => {
                write!(f, "no right to {what}: ask the service's operator for it")
            }
        }
    }
}

impl Access {
    /// Everything for everyone: development, or behind something that guards.
    pub fn open() -> Self {
        Self { entries: None }
    }

    /// Only what these entries allow.
    pub fn of(entries: Vec<Entry>) -> Self {
        Self { entries: Some(entries) }
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.entries.is_none()
    }

    /// The entries, tokens first, by name.
    pub fn entries(&self) -> &[Entry] {
        self.entries.as_deref().unwrap_or_default()
    }

    /// Reads an access file's text. `file` only names the place of an error.
    ///
    /// # Errors
    ///
    /// The first problem found, with its line and the remedy.
    pub fn parse(text: &str, file: &str) -> Result<Self, AccessError> {
        let source = Source { file, text };
        let document: Document = toml::from_str(text).map_err(|error| {
            let message = error.message().replace('\n', ", ");
            source.error(error.span().map_or(0, |span| span.start), message)
        })?;
        let mut entries = Vec::new();
        for (name, table) in &document.token {
            let digest = source.required(table, "sha256", &table.get_ref().sha256)?;
            let credential = Credential::Token(source.digest(digest)?);
            entries.push(source.entry(name, table, credential)?);
            if let Some(wrong) = &table.get_ref().name {
                let message = "`name` belongs to certificates; a token has `sha256`";
                return Err(source.error(wrong.span().start, message));
            }
        }
        for (name, table) in &document.certificate {
            let credential = match (&table.get_ref().name, &table.get_ref().sha256) {
                (Some(name), None) if !name.get_ref().is_empty() => {
                    Credential::CertificateName(name.get_ref().clone())
                }
                (None, Some(digest)) => Credential::CertificateFingerprint(source.digest(digest)?),
                _ => {
                    let message = "a certificate has either `name` (its common or an alternative \
                                   name) or `sha256` (its fingerprint)";
                    return Err(source.error(table.span().start, message));
                }
            };
            entries.push(source.entry(name, table, credential)?);
        }
        for (at, entry) in entries.iter().enumerate() {
            let twin = entries[..at].iter().find(|other| other.credential == entry.credential);
            if let Some(twin) = twin {
                let message =
                    format!("`{}` and `{}` are recognised by the same", twin.name, entry.name);
                return Err(source.error(0, message));
            }
        }
        Ok(Self::of(entries))
    }

    /// Whether someone may do what their hello asks for. `client_certificate` is one that the
    /// handshake has verified. The same for the same arguments; the time to compare does not
    /// depend on how much of a token is right.
    ///
    /// # Errors
    ///
    /// Why not, without a word about what there is.
    pub fn check(
        &self,
        token: &Token,
        client_certificate: Option<&CertificateDer<'_>>,
        role: &Role,
        now_unix_s: i64,
    ) -> Result<Granted, Denied> {
        let Some(entries) = &self.entries else {
            return Ok(Granted::everything());
        };
        let (entry, end, what) = match (token.reveal(), client_certificate) {
            ("", None) => return Err(Denied::Anonymous),
            ("", Some(certificate)) => {
                let (found, end) = by_certificate(entries, certificate, now_unix_s)?;
                (found.ok_or(Denied::UnknownCertificate)?, end, "client certificate's entry")
            }
            (text, _) => (by_token(entries, text).ok_or(Denied::UnknownToken)?, i64::MAX, "token"),
        };
        if entry.expires_unix_s.is_some_and(|end| now_unix_s >= end) {
            return Err(Denied::Expired { what });
        }
        if !entry.rights.allow(role) {
            return Err(Denied::Forbidden { what: asked_for(role) });
        }
        let all = entry.rights.admin || entry.rights.scan;
        let rights = (!all).then(|| entry.rights.clone());
        Ok(Granted {
            name: entry.name.clone(),
            rights,
            is_admin: entry.rights.admin,
            expires_unix_s: entry.expires_unix_s.into_iter().chain([end]).min(),
        })
    }
}

fn asked_for(role: &Role) -> String {
    match role {
        Role::Publish { stream, publisher, .. } => {
            format!("publish to `{}` as `{publisher}`", stream.escape_debug())
        }
        Role::Subscribe(subscribe) => format!("subscribe to `{}`", subscribe.view.escape_debug()),
        Role::Status => "ask for the service's status".into(),
        Role::Definitions => "ask for the definitions".into(),
        Role::Jobs(JobRequest::Submit(submit)) => {
            let names = submit.views.iter().map(|view| format!("`{}`", view.escape_debug()));
            format!("scan {}", names.collect::<Vec<_>>().join(", "))
        }
        Role::Jobs(_) => "scan, which the right to ask for jobs comes with".into(),
    }
}

/// Looks at every entry, and at every byte of each.
fn by_token<'a>(entries: &'a [Entry], text: &str) -> Option<&'a Entry> {
    if text.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let digest = digest_of(text.as_bytes());
    let mut found = None;
    for entry in entries {
        if let Credential::Token(known) = &entry.credential
            && equal_in_constant_time(known, &digest)
        {
            found = Some(entry);
        }
    }
    found
}

/// A fingerprint goes before a name. With the second that the certificate does not hold any more.
fn by_certificate<'a>(
    entries: &'a [Entry],
    certificate: &CertificateDer<'_>,
    now_unix_s: i64,
) -> Result<(Option<&'a Entry>, i64), Denied> {
    let Ok(facts) = certificates::facts(certificate) else { return Ok((None, i64::MAX)) };
    // The handshake looked at the times too, but a connection can be older than its certificate.
    if now_unix_s > facts.not_after_unix_s {
        return Err(Denied::Expired { what: "client certificate" });
    }
    let digest = digest_of(certificate);
    let by_fingerprint = entries.iter().find(
        |entry| matches!(&entry.credential, Credential::CertificateFingerprint(known) if *known == digest),
    );
    let by_name = || {
        let named = |entry: &&Entry| matches!(&entry.credential, Credential::CertificateName(name) if facts.names.contains(name));
        entries.iter().find(named)
    };
    Ok((by_fingerprint.or_else(by_name), facts.not_after_unix_s.saturating_add(1)))
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    sha256(bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// No branch on the content.
fn equal_in_constant_time(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(difference) == 0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    token: BTreeMap<String, Spanned<Table>>,
    #[serde(default)]
    certificate: BTreeMap<String, Spanned<Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    sha256: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    #[serde(default)]
    publish: Vec<Spanned<String>>,
    #[serde(default)]
    publishers: Vec<Spanned<String>>,
    #[serde(default)]
    subscribe: Vec<Spanned<String>>,
    #[serde(default)]
    scan: bool,
    #[serde(default)]
    admin: bool,
    expires: Option<Spanned<String>>,
}

/// A file's text, to name places in it.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, offset: usize, message: impl Into<String>) -> AccessError {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        AccessError::Invalid { file: self.file.into(), line, message: message.into() }
    }

    fn required<'a>(
        &self,
        table: &Spanned<Table>,
        field: &str,
        value: &'a Option<Spanned<String>>,
    ) -> Result<&'a Spanned<String>, AccessError> {
        let missing = || self.error(table.span().start, format!("the field `{field}` is missing"));
        value.as_ref().ok_or_else(missing)
    }

    /// 64 hex digits, colons between them allowed.
    fn digest(&self, text: &Spanned<String>) -> Result<[u8; 32], AccessError> {
        parse_digest(text.get_ref()).ok_or_else(|| {
            self.error(
                text.span().start,
                "`sha256` is 64 hex digits, as `isotick access add` writes them",
            )
        })
    }

    fn entry(
        &self,
        name: &str,
        table: &Spanned<Table>,
        credential: Credential,
    ) -> Result<Entry, AccessError> {
        let at = table.span().start;
        if !is_entry_name(name) {
            let name = name.escape_debug();
            return Err(self.error(at, format!("`{name}` is no name: {ENTRY_NAME_RULE}")));
        }
        let fields = table.get_ref();
        let patterns = |field: &str, texts: &[Spanned<String>]| {
            let pattern = |text: &Spanned<String>| {
                Pattern::new(text.get_ref().as_str()).ok_or_else(|| {
                    let message = format!(
                        "`{field}` lists names; `*` stands alone or at the end of one, as in \"fx_*\""
                    );
                    self.error(text.span().start, message)
                })
            };
            texts.iter().map(pattern).collect::<Result<Vec<_>, _>>()
        };
        let rights = Rights {
            publish: patterns("publish", &fields.publish)?,
            publishers: patterns("publishers", &fields.publishers)?,
            subscribe: patterns("subscribe", &fields.subscribe)?,
            scan: fields.scan,
            admin: fields.admin,
        };
        let expires_unix_s = match &fields.expires {
            None => None,
            Some(text) => Some(
                isotick_model::time::parse_time(text.get_ref())
                    .map_err(|error| self.error(text.span().start, format!("`expires`: {error}")))?
                    .div_euclid(1_000_000_000),
            ),
        };
        Ok(Entry { name: name.into(), credential, rights, expires_unix_s })
    }
}

/// What an entry may be called.
pub(crate) const ENTRY_NAME_RULE: &str = "1 to 64 letters, digits, `-` and `_`";

/// So that it stands in a table's header without quotes.
pub(crate) fn is_entry_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let hex: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    if hex.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |digit: u8| (digit as char).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(digest)
}

#[cfg(test)]
mod tests;
