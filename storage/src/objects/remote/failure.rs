//! What a failed request means: whether to try again, and what to tell people.

use std::error::Error as _;

use object_store::client::HttpError;

use crate::error::Error;

/// What a request came to that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such file.
    Missing,
    /// There is no such bucket.
    NoBucket,
    /// The store does not let us.
    Refused,
    /// No credentials were found.
    NoCredentials,
    /// A condition did not hold.
    Precondition,
    /// No answer, or one that says to come again. The request may have been done.
    Passing,
    /// Anything else, which trying again does not change.
    Lasting,
}

impl Failure {
    pub fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let text = chain(error);
        match error {
            _ if text.contains("<Code>NoSuchBucket</Code>") => Self::NoBucket,
            E::NotFound { .. } => Self::Missing,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Refused,
            E::Precondition { .. } | E::AlreadyExists { .. } | E::NotModified { .. } => {
                Self::Precondition
            }
            // Where the environment has none, the client asks the machine for a role of its own.
            _ if text.contains("169.254.") => Self::NoCredentials,
            _ => match status(&text) {
                Some(408 | 429 | 500..) => Self::Passing,
                Some(_) => Self::Lasting,
                // No request was made, or nobody can be trusted to answer it.
                None if text.contains("scheme is not allowed") || text.contains("certificate") => {
                    Self::Lasting
                }
                None if has_transport_error(error) => Self::Passing,
                None => Self::Lasting,
            },
        }
    }

    /// That a file is missing.
    pub fn missing(object: String) -> Error {
        let (what, remedy) = ("it is missing".to_owned(), Self::Missing.remedy());
        Error::Object { action: "read", object, what, remedy, missing: true }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Missing => "restore it from a copy",
            Self::NoBucket => "make the bucket, or name another with --store",
            Self::Refused => {
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION, \
                 and that the key may list, get, put and delete below the prefix"
            }
            Self::NoCredentials => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            Self::Precondition => "look for another writer of this store",
            Self::Passing => {
                "check the network and AWS_ENDPOINT_URL, then start again: what was committed is \
                 there, and what was not is in the log or comes again with the command"
            }
            Self::Lasting => {
                "check AWS_ENDPOINT_URL, AWS_REGION and AWS_ALLOW_HTTP (true for http://)"
            }
        }
    }

    /// The error for people; `tries` is how often it was tried.
    pub fn error(
        self,
        action: &'static str,
        object: String,
        error: &object_store::Error,
        tries: u32,
    ) -> Error {
        let mut what = match self {
            Self::Missing => "it is missing".to_owned(),
            Self::NoBucket => "the bucket does not exist".to_owned(),
            Self::NoCredentials => "no credentials were found".to_owned(),
            _ => brief(error),
        };
        if tries > 1 {
            what += &format!(" (tried {tries} times)");
        }
        let remedy = self.remedy();
        Error::Object { action, object, what, remedy, missing: self == Self::Missing }
    }
}

/// The error in a few words: what the store says, else the innermost cause.
pub(super) fn brief(error: &object_store::Error) -> String {
    let text = chain(error);
    let tag = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => return format!("{code}: {message}"),
        (Some(code), None) => return code.to_owned(),
        _ => {}
    }
    if let Some(status) = status(&text) {
        return format!("the store answered with status {status}");
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// An error with its causes.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

/// The status that the store answered with. The client keeps it in its text only.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn has_transport_error(error: &object_store::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<HttpError>() {
            return true;
        }
        source = cause.source();
    }
    false
}
