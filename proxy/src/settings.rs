//! Rate limits: the numbers of the environment, and over them those that the admin pages changed.
//!
//! They are kept in the file that today's users have (`proxy.md` part 1.5). Where the folder of that file does not exist,
//! they are kept in the database. Must not know how anything is counted.

mod file;
mod stored;

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use service::env::{Class, Reader, Var};

use crate::store::{Store, StoreError};

use file::InFile;
use stored::Stored;

/// The most requests of a limit.
pub(crate) const MOST_REQUESTS: u64 = 1_000_000_000;

/// The longest window, in seconds: a day.
pub(crate) const LONGEST_WINDOW: u64 = 86_400;

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
    "Rate limits that the admin pages changed, over those of the environment, read again when it changes. It may be absent. Whoever can write it can lift the limits: let it lie where the host cannot. Where its folder does not exist, what the admin pages change is kept in the database (PROXY_STATE).",
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
    /// So is this.
    #[error(transparent)]
    Store(#[from] StoreError),
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

    /// With what was changed instead, and the names of what of it cannot be used.
    fn over(&self, changed: &Map<String, Value>) -> (Self, Vec<&'static str>) {
        let mut wrong = Vec::new();
        let mut values = self.values();
        for (member, value) in MEMBERS.into_iter().zip(&mut values) {
            match changed.get(member.name) {
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
pub(crate) struct Settings(Place);

/// Where they are kept.
enum Place {
    File(Arc<InFile>),
    Database(Stored),
    #[cfg(test)]
    Nowhere(Numbers),
}

impl Settings {
    /// In the file, if there can be one, and else in the database.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub(crate) async fn open(origin: Origin, store: &Store) -> Result<Self, StoreError> {
        let Origin { defaults, file } = origin;
        // The folder of a bare name is the one that this process is in.
        let folder = file.parent();
        let can_be = folder.is_some_and(|it| it.as_os_str().is_empty() || it.is_dir());
        Ok(Self(if can_be {
            Place::File(Arc::new(InFile::new(file, defaults)))
        } else {
            Place::Database(Stored::open(store.clone(), defaults).await?)
        }))
    }

    /// Always these.
    #[cfg(test)]
    pub(crate) fn fixed(numbers: Numbers) -> Self {
        Self(Place::Nowhere(numbers))
    }

    /// Sees what other machines change in the file as well; [`Settings::refresh`] sees what is changed on this one.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(crate) fn follow(&self) -> std::io::Result<()> {
        if let Place::File(file) = &self.0 { file.follow() } else { Ok(()) }
    }

    /// Returns when what was changed in the file up to now is in force.
    pub(crate) async fn refresh(&self) {
        if let Place::File(file) = &self.0 {
            file.refresh().await;
        }
    }

    /// The numbers as they are known now: see [`Settings::refresh`].
    pub(crate) fn current(&self) -> Numbers {
        match &self.0 {
            Place::File(file) => file.current(),
            Place::Database(stored) => stored.current(),
            #[cfg(test)]
            Place::Nowhere(numbers) => *numbers,
        }
    }

    /// Changes them for good. They are on the disk, and hold, when this returns.
    ///
    /// # Errors
    ///
    /// [`SettingsError`]; nothing is changed then.
    pub(crate) async fn change(&self, numbers: Numbers) -> Result<(), SettingsError> {
        // Whoever made it may not have come by `new`.
        let numbers = Numbers::new(numbers.values())?;
        match &self.0 {
            Place::File(file) => {
                let file = file.clone();
                let changed = tokio::task::spawn_blocking(move || file.change(numbers)).await;
                changed.map_err(|error| SettingsError::Unwritable(error.into()))??;
            }
            Place::Database(stored) => stored.change(numbers).await?,
            #[cfg(test)]
            Place::Nowhere(_) => {}
        }
        tracing::info!(?numbers, "the rate limits were changed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: [u64; 4] = [100, 60, 1000, 60];

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

    /// Where there can be no file, the database keeps them, for whoever opens it next.
    #[tokio::test]
    async fn without_a_folder_they_are_kept_in_the_database() {
        let origin = || Origin {
            defaults: Numbers::new(DEFAULTS).unwrap(),
            file: "/nowhere/settings.json".into(),
        };
        let store = Store::in_memory(0).unwrap();
        let settings = Settings::open(origin(), &store).await.unwrap();
        assert_eq!(settings.current().values(), DEFAULTS);
        settings.change(Numbers::new([5, 6, 7, 8]).unwrap()).await.unwrap();
        assert_eq!(settings.current().values(), [5, 6, 7, 8]);
        let again = Settings::open(origin(), &store).await.unwrap();
        assert_eq!(again.current().values(), [5, 6, 7, 8]);
        store.close().await;
        let refused = settings.change(Numbers::new([1, 1, 1, 1]).unwrap()).await;
        assert!(matches!(refused, Err(SettingsError::Store(_))));
        assert_eq!(settings.current().values(), [5, 6, 7, 8], "nothing is changed then");
    }
}
