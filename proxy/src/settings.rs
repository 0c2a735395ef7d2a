//! Rate limits: the numbers of the environment, and over them those that the admin pages changed.
//!
//! They are kept in the file that today's users have (`proxy.md` part 1.5), read again when it changes. Where the folder of
//! that file does not exist, they are kept in memory. Must not know how anything is counted.

use std::fmt::{self, Display};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Map, Value};
use service::env::{Class, Reader, Var};
use service::plain_file;

use crate::small_file::{self, FileState};

/// The most requests of a limit.
pub(crate) const MOST_REQUESTS: u64 = 1_000_000_000;

/// The longest window, in seconds: a day.
pub(crate) const LONGEST_WINDOW: u64 = 86_400;

/// The longest file.
const MAX_LENGTH: u64 = 1024 * 1024;

/// Requests of all keys.
pub(crate) const REQUESTS_VAR: Var = var(
    "RATE_LIMIT_REQUESTS",
    "100",
    "Requests of all keys together in each RATE_LIMIT_WINDOW. SETTINGS_FILE and the admin pages go before it.",
);
/// Their window.
pub(crate) const WINDOW_VAR: Var = var(
    "RATE_LIMIT_WINDOW",
    "60",
    "Seconds in which requests are counted, of all keys and of each that has a limit of its own.",
);
/// Requests of an address.
pub(crate) const IP_REQUESTS_VAR: Var = var(
    "IP_RATE_LIMIT_REQUESTS",
    "1000",
    "Requests of one client address (IPv6: of one /64) in each IP_RATE_LIMIT_WINDOW, with a good key or without.",
);
/// Their window.
pub(crate) const IP_WINDOW_VAR: Var =
    var("IP_RATE_LIMIT_WINDOW", "60", "Seconds in which requests of an address are counted.");
/// Where they are kept.
pub(crate) const FILE_VAR: Var = var(
    "SETTINGS_FILE",
    "/app/secrets/settings.json",
    "Rate limits that the admin pages changed, over those of the environment, read again when it changes. It may be absent. Whoever can write it can lift the limits: let it lie where the host cannot. Where its folder does not exist, what the admin pages change ends with the process.",
);

const fn var(name: &'static str, default: &'static str, help: &'static str) -> Var {
    Var { name, class: Class::Measured, default: Some(default), help }
}

/// The limits that hold for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Requests of all keys together, in each window.
    pub(crate) requests: u64,
    /// The window of these, and of keys that have a limit of their own.
    pub(crate) window: Duration,
    /// Requests of one address, in each of its windows.
    pub(crate) ip_requests: u64,
    /// The window of these.
    pub(crate) ip_window: Duration,
}

/// One of the four numbers: its name in the file and in forms, and the most that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    most: u64,
}

/// All of them, in the order of [`Numbers::values`].
pub(crate) const MEMBERS: [Member; 4] = [
    Member { name: "rate_limit_requests", most: MOST_REQUESTS },
    Member { name: "rate_limit_window", most: LONGEST_WINDOW },
    Member { name: "ip_rate_limit_requests", most: MOST_REQUESTS },
    Member { name: "ip_rate_limit_window", most: LONGEST_WINDOW },
];

impl Member {
    fn check(self, value: u64) -> Result<u64, SettingsError> {
        let within = (1..=self.most).contains(&value);
        if within { Ok(value) } else { Err(SettingsError::OutOfBounds(self)) }
    }
}

impl Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be 1 to {}", self.name, self.most)
    }
}

/// Settings are not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A limit of none, or one that is none.
    #[error("{0}")]
    OutOfBounds(Member),
    /// Somebody else's content would be lost.
    #[error("the settings file is no JSON object: correct or remove it first")]
    Unusable,
    /// The disk's fault, most likely.
    #[error("the settings file cannot be written")]
    Unwritable(#[source] std::io::Error),
}

impl Numbers {
    /// From the four values, in the order of [`MEMBERS`]; windows in seconds.
    pub(crate) fn new(values: [u64; 4]) -> Result<Self, SettingsError> {
        let [requests, window, ip_requests, ip_window] = MEMBERS;
        let [a, b, c, d] = values;
        Ok(Self {
            requests: requests.check(a)?,
            window: Duration::from_secs(window.check(b)?),
            ip_requests: ip_requests.check(c)?,
            ip_window: Duration::from_secs(ip_window.check(d)?),
        })
    }

    /// The four values, in the order of [`MEMBERS`]; windows in seconds.
    pub(crate) fn values(&self) -> [u64; 4] {
        [self.requests, self.window.as_secs(), self.ip_requests, self.ip_window.as_secs()]
    }

    /// With what the file says instead, and the names of what it says that cannot be used.
    fn over(&self, file: &Map<String, Value>) -> (Self, Vec<&'static str>) {
        let mut wrong = Vec::new();
        let mut values = self.values();
        for (member, value) in MEMBERS.into_iter().zip(&mut values) {
            match file.get(member.name) {
                None | Some(Value::Null) => {}
                Some(said) => match said.as_u64().map(|said| member.check(said)) {
                    Some(Ok(said)) => *value = said,
                    Some(Err(_)) | None => wrong.push(member.name),
                },
            }
        }
        (Self::new(values).unwrap_or(*self), wrong)
    }
}

/// What the environment says: the numbers, and where others may stand.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    defaults: Numbers,
    file: PathBuf,
}

impl Origin {
    /// Reads its variables.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let vars = [REQUESTS_VAR, WINDOW_VAR, IP_REQUESTS_VAR, IP_WINDOW_VAR];
        let values = vars.map(|var| env.parse::<u64>(var.name));
        let file = env.parse(FILE_VAR.name);
        let mut all = [None; 4];
        for (((var, member), value), place) in vars.iter().zip(MEMBERS).zip(values).zip(&mut all) {
            *place = value.filter(|value| member.check(*value).is_ok());
            if value.is_some() && place.is_none() {
                env.refuse(var.name, &format!("must be 1 to {}", member.most));
            }
        }
        let [Some(a), Some(b), Some(c), Some(d)] = all else { return None };
        Some(Self { defaults: Numbers::new([a, b, c, d]).ok()?, file: file? })
    }
}

/// The numbers that hold now.
pub(crate) struct Settings {
    defaults: Numbers,
    place: Place,
}

enum Place {
    File {
        path: PathBuf,
        loaded: RwLock<Loaded>,
        /// Held while the file is changed.
        changing: Mutex<()>,
    },
    Memory(RwLock<Numbers>),
}

/// The file's numbers, and which state of the file they are of.
struct Loaded {
    state: Option<FileState>,
    numbers: Numbers,
}

impl Settings {
    /// In the file, if there can be one.
    pub(crate) fn new(origin: Origin) -> Self {
        let Origin { defaults, file } = origin;
        let can_be = file.parent().is_some_and(Path::is_dir);
        let place = if can_be {
            let loaded = RwLock::new(Loaded { state: None, numbers: defaults });
            Place::File { path: file, loaded, changing: Mutex::default() }
        } else {
            Place::Memory(RwLock::new(defaults))
        };
        Self { defaults, place }
    }

    /// In memory, and at first these.
    #[cfg(test)]
    pub(crate) fn fixed(numbers: Numbers) -> Self {
        Self { defaults: numbers, place: Place::Memory(RwLock::new(numbers)) }
    }

    /// The numbers as they are now.
    pub(crate) fn current(&self) -> Numbers {
        match &self.place {
            Place::Memory(numbers) => *numbers.read().unwrap_or_else(PoisonError::into_inner),
            Place::File { path, loaded, .. } => {
                let state = FileState::of(path);
                {
                    let loaded = loaded.read().unwrap_or_else(PoisonError::into_inner);
                    if loaded.state == state {
                        return loaded.numbers;
                    }
                }
                let mut loaded = loaded.write().unwrap_or_else(PoisonError::into_inner);
                if loaded.state != state {
                    let numbers = state.as_ref().map(|_| self.read(path));
                    *loaded = Loaded { state, numbers: numbers.unwrap_or(self.defaults) };
                }
                loaded.numbers
            }
        }
    }

    /// The file's numbers. What cannot be used of it gives way to the environment, and is said once.
    fn read(&self, path: &Path) -> Numbers {
        match document(path) {
            Ok(Some(document)) => {
                let (numbers, wrong) = self.defaults.over(&document);
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
                tracing::error!(
                    "the settings file cannot be used; the environment's settings hold"
                );
                self.defaults
            }
        }
    }

    /// Changes them for good. What else stands in the file stays. Waits for the disk.
    ///
    /// # Errors
    ///
    /// [`SettingsError`]; nothing is changed then.
    pub(crate) fn change(&self, numbers: Numbers) -> Result<(), SettingsError> {
        // Whoever made it may not have come by `new`.
        let numbers = Numbers::new(numbers.values())?;
        match &self.place {
            Place::Memory(held) => {
                *held.write().unwrap_or_else(PoisonError::into_inner) = numbers;
            }
            Place::File { path, changing, .. } => {
                let _held = changing.lock().unwrap_or_else(PoisonError::into_inner);
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
            }
        }
        tracing::info!(?numbers, "the rate limits were changed");
        Ok(())
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

    fn at(file: PathBuf) -> Settings {
        Settings::new(Origin { defaults: Numbers::new(DEFAULTS).unwrap(), file })
    }

    #[test]
    fn case_44_45_the_file_goes_before_the_environment_where_it_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        let settings = at(file.clone());
        assert_eq!(settings.current().values(), DEFAULTS);
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
            assert_eq!(settings.current().values(), values, "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(settings.current().values(), DEFAULTS);
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

    #[test]
    fn case_108_numbers_that_would_stop_everybody_are_refused() {
        for values in [
            [0, 60, 1, 1],
            [1, 0, 1, 1],
            [1, 1, 0, 1],
            [1, 1, 1, 0],
            [MOST_REQUESTS + 1, 1, 1, 1],
            [1, LONGEST_WINDOW + 1, 1, 1],
        ] {
            let error = Numbers::new(values).unwrap_err();
            assert!(error.to_string().contains("must be 1 to"), "{error}");
        }
        assert!(Numbers::new([MOST_REQUESTS, LONGEST_WINDOW, 1, 1]).is_ok());
    }

    #[test]
    fn without_a_folder_they_are_kept_in_memory() {
        let settings = at("/nowhere/settings.json".into());
        settings.change(Numbers::new([5, 6, 7, 8]).unwrap()).unwrap();
        assert_eq!(settings.current().values(), [5, 6, 7, 8]);
    }
}
