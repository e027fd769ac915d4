//! What a data folder remembers of the store that it uses: `store.toml`.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::url::StoreUrl;
use crate::disk::{Disk, Files};
use crate::error::{Error, Result};
use crate::files;

const FILE: &str = "store.toml";
const HEADER: &str = "\
# Where history, record, checkpoints and the manifest of this data folder live. Credentials and
# endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …).
# retry_s: for how many seconds a failed request is tried again (120)
# grace_s: for how many seconds files that compaction replaced are kept for readers (600)
";

/// A store as a data folder remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub url: StoreUrl,
    /// Tells this data folder from any other: a store belongs to one log.
    pub folder: String,
    /// For how long a failed request is tried again.
    pub patience: Duration,
    /// For how long replaced files are kept.
    pub grace: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    store: String,
    folder: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_s: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_s: Option<u32>,
}

impl Place {
    /// A store that a folder uses for the first time.
    pub fn new(url: &StoreUrl) -> Self {
        Self {
            url: url.clone(),
            folder: new_id(),
            patience: Duration::from_secs(120),
            grace: Duration::from_secs(600),
        }
    }

    /// What a folder remembers; `None` when everything is in it.
    pub fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io("read", &path))?,
        };
        let damaged = |what: String| Error::Damaged { path: path.clone(), what };
        let text: Text = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let url: StoreUrl =
            text.store.parse().map_err(|error: Error| damaged(error.to_string()))?;
        if text.folder.is_empty() {
            return Err(damaged("it names no data folder".to_owned()));
        }
        let new = Self::new(&url);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Ok(Some(Self {
            folder: text.folder,
            patience: text.retry_s.map_or(new.patience, seconds),
            grace: text.grace_s.map_or(new.grace, seconds),
            url,
        }))
    }

    /// Remembers a store that is used for the first time, durably.
    pub fn write(&self, root: &Path) -> Result<()> {
        let (store, folder) = (self.url.to_string(), self.folder.clone());
        let text = toml::to_string(&Text { store, folder, retry_s: None, grace_s: None });
        let text = format!("{HEADER}{}", text.expect("it is plain data"));
        let disk: Arc<dyn Disk> = Arc::new(Files);
        files::replace(&disk, &root.join(FILE), text.as_bytes())
    }
}

/// An id that no other folder has: 128 bits from the operating system, by way of the keys that
/// hash maps get.
fn new_id() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_remembers_its_store() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Place::read(dir.path()).unwrap(), None);
        let url: StoreUrl = "s3://ticks/a/b".parse().unwrap();
        let place = Place::new(&url);
        assert_ne!(place.folder, Place::new(&url).folder);
        place.write(dir.path()).unwrap();
        assert_eq!(Place::read(dir.path()).unwrap(), Some(place.clone()));
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}retry_s = 3\ngrace_s = 0\n")).unwrap();
        let tuned = Place::read(dir.path()).unwrap().unwrap();
        assert_eq!((tuned.patience.as_secs(), tuned.grace.as_secs()), (3, 0));
        assert_eq!((tuned.folder, tuned.url), (place.folder, url));
        for broken in
            ["", "store = 7", "store = 's3://a'\nfolder = ''", "store = 'x'\nfolder = 'y'"]
        {
            fs::write(&path, broken).unwrap();
            let error = Place::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("store.toml is damaged"), "{error}");
        }
        fs::write(&path, format!("{text}unknown = 3\n")).unwrap();
        assert!(Place::read(dir.path()).unwrap_err().to_string().contains("unknown"));
    }
}
