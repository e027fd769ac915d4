//! The name of a store: a bucket and a prefix in it.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Where history, record and manifest live if not in the data folder: `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    prefix: String,
}

impl StoreUrl {
    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The whole name of a file in the bucket.
    pub(super) fn key(&self, relative: &str) -> String {
        match self.prefix.as_str() {
            "" => relative.to_owned(),
            prefix => format!("{prefix}/{relative}"),
        }
    }

    /// The file's name for people.
    pub(super) fn of(&self, relative: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.key(relative))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of("").trim_end_matches('/'))
    }
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |what| Error::StoreUrl { text: text.to_owned(), what };
        let rest = text.strip_prefix("s3://").ok_or(wrong("it does not begin with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err(wrong("a bucket's name has letters, digits, dots and dashes"));
        }
        let prefix = prefix.trim_end_matches('/');
        let segment = |part: &str| {
            !matches!(part, "" | "." | "..") && part.chars().all(|c| plain(c) || c == '=')
        };
        if !prefix.is_empty() && !prefix.split('/').all(segment) {
            return Err(wrong(
                "the parts of a prefix have letters, digits, dots, dashes, underscores and =",
            ));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bucket_and_prefix() {
        for (text, shown, key) in [
            ("s3://ticks", "s3://ticks", "manifest.json"),
            ("s3://ticks/", "s3://ticks", "manifest.json"),
            ("s3://my.ticks/a/b=c/", "s3://my.ticks/a/b=c", "a/b=c/manifest.json"),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.key("manifest.json").as_str()), (shown, key));
            assert_eq!(url.of("x"), format!("{shown}/x"));
            assert_eq!(shown.parse::<StoreUrl>().unwrap(), url);
        }
        for text in ["ticks", "gs://ticks", "s3://", "s3:///a", "s3://a b", "s3://a//b"] {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("s3://bucket/prefix"), "{error}");
        }
        for text in ["s3://a/../b", "s3://a/b c", "s3://a/%41", "s3://a/b/./c"] {
            assert!(text.parse::<StoreUrl>().is_err(), "{text}");
        }
    }
}
