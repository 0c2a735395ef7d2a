//! Rate limits in the file that today's users have (`proxy.md` part 1.5), read again when it changes.
//!
//! Must not know what they are for.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use service::plain_file;

use super::{MEMBERS, Numbers, SettingsError};
use crate::small_file;
use crate::watched::{Content, Watched};

/// The longest file.
const MAX_LENGTH: u64 = 1024 * 1024;

/// The file.
pub(super) struct InFile {
    file: Arc<Watched<Numbers>>,
    /// Held while the file is changed.
    changing: Mutex<()>,
}

impl InFile {
    /// With what holds where the file says nothing.
    pub(super) fn new(path: PathBuf, defaults: Numbers) -> Self {
        let content = move |path: &Path| Content::Is(read(path, defaults));
        let file = Arc::new(Watched::new(path, defaults, content));
        Self { file, changing: Mutex::default() }
    }

    /// Sees what other machines change as well.
    pub(super) fn follow(&self) -> std::io::Result<()> {
        self.file.follow()
    }

    /// Returns when what was changed up to now is in force.
    pub(super) async fn refresh(&self) {
        self.file.refresh().await;
    }

    /// The numbers as they are known now.
    pub(super) fn current(&self) -> Numbers {
        *self.file.current()
    }

    /// Writes them. What else stands in the file stays. Waits for the disk.
    pub(super) fn change(&self, numbers: Numbers) -> Result<(), SettingsError> {
        let _held = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.file.path();
        let mut document = match document(path) {
            Ok(document) => document.ok_or(SettingsError::Unusable)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(SettingsError::Unwritable(error)),
        };
        for (member, value) in MEMBERS.into_iter().zip(numbers.values()) {
            document.insert(member.name.to_owned(), value.into());
        }
        let text = serde_json::to_vec_pretty(&document);
        let text = text.map_err(|error| SettingsError::Unwritable(error.into()))?;
        small_file::replace(path, &text).map_err(SettingsError::Unwritable)?;
        self.file.look_now();
        Ok(())
    }
}

/// The file's numbers. What cannot be used of it gives way to the environment, and is said once.
fn read(path: &Path, defaults: Numbers) -> Numbers {
    match document(path) {
        Ok(Some(document)) => {
            let (numbers, wrong) = defaults.over(&document);
            if !wrong.is_empty() {
                let members = wrong.join(", ");
                tracing::error!(
                    members,
                    "settings of the file cannot be used; those of the environment hold"
                );
            }
            numbers
        }
        Ok(None) | Err(_) => {
            tracing::error!("the settings file cannot be used; the environment's settings hold");
            defaults
        }
    }
}

/// The file's object; `None` if it is something else.
fn document(path: &Path) -> std::io::Result<Option<Map<String, Value>>> {
    let content = plain_file::read(path, MAX_LENGTH)?;
    Ok(serde_json::from_slice(&content).ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const DEFAULTS: [u64; 4] = [100, 60, 1000, 60];

    fn at(file: PathBuf) -> InFile {
        InFile::new(file, Numbers::new(DEFAULTS).unwrap())
    }

    #[test]
    fn case_44_45_the_file_goes_before_the_environment_where_it_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        let settings = at(file.clone());
        let thread = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let current = || {
            thread.block_on(settings.refresh());
            settings.current().values()
        };
        assert_eq!(current(), DEFAULTS);
        for (text, values) in [
            (r#"{"rate_limit_requests":1}"#, [1, 60, 1000, 60]),
            (r#"{"rate_limit_requests":7,"ip_rate_limit_window":9}"#, [7, 60, 1000, 9]),
            (r#"{"rate_limit_requests":"5"}"#, DEFAULTS),
            (r#"{"rate_limit_requests":-1,"rate_limit_window":0}"#, DEFAULTS),
            (r#"{"rate_limit_requests":1e99,"rate_limit_window":86401}"#, DEFAULTS),
            (r#"{"rate_limit_requests":[],"ip_rate_limit_requests":2}"#, [100, 60, 2, 60]),
            ("[1]", DEFAULTS),
            ("{", DEFAULTS),
            ("", DEFAULTS),
            ("\"text\"", DEFAULTS),
        ] {
            std::fs::write(folder.path().join("next"), text).unwrap();
            std::fs::rename(folder.path().join("next"), &file).unwrap();
            assert_eq!(current(), values, "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(current(), DEFAULTS);
    }

    #[test]
    fn case_105_112_a_change_is_whole_private_and_keeps_what_it_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        std::fs::write(&file, r#"{"theme":{"dark":true},"rate_limit_requests":3}"#).unwrap();
        let settings = at(file.clone());
        settings.change(Numbers::new([5, 6, 7, 8]).unwrap()).unwrap();
        assert_eq!(settings.current().values(), [5, 6, 7, 8]);
        let text = std::fs::read(&file).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["theme"]["dark"], true);
        assert_eq!(document["ip_rate_limit_window"], 8);
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");

        std::fs::write(&file, "[]").unwrap();
        let refused = settings.change(Numbers::new([5, 6, 7, 8]).unwrap());
        assert!(matches!(refused, Err(SettingsError::Unusable)));
        assert_eq!(std::fs::read(&file).unwrap(), b"[]");
    }
}
