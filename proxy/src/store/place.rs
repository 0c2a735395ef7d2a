//! Where the database is, as the environment says.
//!
//! Must not know what is in it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use service::env::{Class, Reader, Var};
use service::listen::Local;

use super::KeySource;
use crate::config::TlsMode;

const STATE: &str = "PROXY_STATE";
const KEY: &str = "PROXY_STATE_KEY";

/// The row of the database's place.
pub(crate) const STATE_VAR: Var = Var {
    name: STATE,
    class: Class::Measured,
    default: None,
    help: "Path of the encrypted database of usage and keys, on storage that outlives the container, or `memory`: they \
           end with the process. Unset: `proxy.db` beside USAGE_FILE if TLS_MODE is `files` or `off` and that folder is \
           there, else `memory`.",
};

/// The row of the database's key.
pub(crate) const KEY_VAR: Var = Var {
    name: KEY,
    class: Class::Measured,
    default: None,
    help: "`released`: the database's key is derived by skr-sidecar of its STATE_KID, which the owner's vault releases to \
           this group only. `file`: from `<database>.key`, made at the first start: no protection against who reads the \
           disk. Unset: `released` with TLS_MODE=attested or released, else `file`.",
};

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it ends with the process.
    Memory,
    /// In this file.
    File(PathBuf),
}

/// Everything that the environment says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) place: Place,
    pub(crate) key: KeySource,
}

/// As it is written.
enum Named {
    Memory,
    File(PathBuf),
}

/// Neither.
#[derive(Debug, thiserror::Error)]
#[error("must be memory, or a path that begins with /")]
struct NotAPlace;

impl FromStr for Named {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        match text {
            "memory" => Ok(Self::Memory),
            _ if text.starts_with('/') && !text.ends_with('/') => Ok(Self::File(text.into())),
            _ => Err(NotAPlace),
        }
    }
}

impl Settings {
    /// Reads the variables.
    pub(crate) fn read(
        env: &mut Reader<'_>,
        tls: Option<&TlsMode>,
        usage_file: Option<&Path>,
        skr: Option<&Local>,
    ) -> Option<Self> {
        let named = env.optional::<Named>(STATE);
        let asked = env.optional::<String>(KEY);
        let is_attested = matches!(tls?, TlsMode::Attested | TlsMode::Released { .. });
        let place = match named {
            Some(Named::Memory) => Place::Memory,
            Some(Named::File(path)) => Place::File(path),
            None if is_attested => Place::Memory,
            None => beside(usage_file?),
        };
        let is_kept = place != Place::Memory;
        let key = match (asked.as_deref(), skr) {
            (Some("file"), _) => KeySource::File,
            (None, _) if !is_attested => KeySource::File,
            (None | Some("released"), Some(skr)) => KeySource::Released(skr.clone()),
            (None, None) if !is_kept => KeySource::File,
            (None | Some("released"), None) => {
                env.refuse(KEY, &"released needs skr-sidecar: set SKR_SIDECAR");
                return None;
            }
            (Some(_), _) => {
                env.refuse(KEY, &"must be released or file");
                return None;
            }
        };
        Some(Self { place, key })
    }
}

fn beside(usage_file: &Path) -> Place {
    let folder = usage_file.parent().filter(|folder| folder.is_absolute() && folder.is_dir());
    folder.map_or(Place::Memory, |folder| Place::File(folder.join("proxy.db")))
}

#[cfg(test)]
mod tests {
    use service::env::Environment;

    use super::*;

    fn read(pairs: &[(&str, &str)], tls: &TlsMode, usage: &Path) -> Result<Settings, String> {
        let env: Environment = pairs.iter().copied().collect();
        let mut reader = Reader::new(&env, &[STATE_VAR, KEY_VAR]);
        let skr = "127.0.0.1:1".parse().unwrap();
        let settings = Settings::read(&mut reader, Some(tls), Some(usage), Some(&skr));
        reader.finish(settings).map(|(settings, _)| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn in_a_group_nothing_is_kept_unless_it_is_said_and_then_under_a_released_key() {
        let folder = tempfile::tempdir().unwrap();
        let usage = folder.path().join("usage.json");
        let read = |pairs: &[(&str, &str)], tls: &TlsMode| read(pairs, tls, &usage);
        let said = |pairs: &[(&str, &str)]| read(pairs, &TlsMode::Attested).unwrap();
        assert_eq!(said(&[]).place, Place::Memory);
        assert!(matches!(said(&[]).key, KeySource::Released(_)));
        let kept = said(&[(STATE, "/state/proxy.db")]);
        assert_eq!(kept.place, Place::File("/state/proxy.db".into()));
        assert!(matches!(kept.key, KeySource::Released(_)));

        let alone = read(&[], &TlsMode::Off).unwrap();
        assert_eq!(alone.place, Place::File(folder.path().join("proxy.db")));
        assert_eq!(alone.key, KeySource::File);
        let asked = read(&[(STATE, "memory"), (KEY, "released")], &TlsMode::Off).unwrap();
        assert_eq!(asked.place, Place::Memory);
        assert!(matches!(asked.key, KeySource::Released(_)));

        for (name, value) in [(STATE, "relative"), (STATE, "/folder/"), (KEY, "none")] {
            let refused = read(&[(name, value)], &TlsMode::Off).unwrap_err();
            assert!(refused.contains(&format!("{name}: ")), "{refused}");
        }
    }

    #[test]
    fn without_its_folder_nothing_is_kept() {
        let alone = read(&[], &TlsMode::Off, Path::new("/no/such/folder/usage.json")).unwrap();
        assert_eq!(alone.place, Place::Memory);
    }
}
