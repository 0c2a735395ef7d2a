//! The key ring: derived private keys, with a cache for the ones that are slow to find.
//!
//! Must not know: certificates. An RSA-4096 key takes seconds to find, and always the same
//! seconds for the same seed; the cache keeps its PKCS#8 (RFC 5958) in a folder, readable by
//! its owner only. Without a folder everything still works, slower.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use rsa::traits::PublicKeyParts as _;

use crate::seed::Seed;

/// A key that could not be derived or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The generator gave up.
    #[error("no RSA key of {bits} bits for {label}")]
    Rsa {
        /// What the key was for.
        label: String,
        /// Its size.
        bits: usize,
        /// Why.
        #[source]
        source: rsa::Error,
    },
    /// The key does not encode as PKCS#8.
    #[error("the key for {label} has no PKCS#8 form")]
    Encode {
        /// What the key was for.
        label: String,
        /// Why.
        #[source]
        source: rsa::pkcs8::Error,
    },
    /// The state folder cannot be read or written.
    #[error("key cache {}: check that the folder exists and is writable", path.display())]
    Cache {
        /// The file in question.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Derives private keys from one [`Seed`].
#[derive(Debug)]
pub struct KeyRing {
    seed: Seed,
    state: Option<PathBuf>,
    known: Mutex<HashMap<String, RsaPrivateKey>>,
}

impl KeyRing {
    /// `state` is the folder of the cache; it is created when it is missing.
    #[must_use]
    pub fn new(seed: Seed, state: Option<PathBuf>) -> Self {
        Self { seed, state, known: Mutex::new(HashMap::new()) }
    }

    /// The seed that everything comes from.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The RSA key (e = 65537) for one purpose. Blocks for seconds when it is not cached.
    ///
    /// # Errors
    /// [`KeyError`] when no key is found or the cache cannot be used.
    pub fn rsa(&self, label: &str, bits: usize) -> Result<RsaPrivateKey, KeyError> {
        let name = self.cache_name(label, bits);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&name) {
            return Ok(key.clone());
        }
        let key = match &self.state {
            None => self.find(label, bits)?,
            Some(folder) => self.find_or_load(folder, &name, label, bits)?,
        };
        known.insert(name, key.clone());
        Ok(key)
    }

    /// The P-256 key for one purpose.
    #[must_use]
    pub fn p256(&self, label: &str) -> p256::SecretKey {
        p256::SecretKey::random(&mut self.seed.rng(&format!("p256/{label}")))
    }

    /// The P-384 key for one purpose.
    #[must_use]
    pub fn p384(&self, label: &str) -> p384::SecretKey {
        p384::SecretKey::random(&mut self.seed.rng(&format!("p384/{label}")))
    }

    fn cache_name(&self, label: &str, bits: usize) -> String {
        let digest = self.seed.digest(&format!("rsa/{bits}/{label}"));
        format!("rsa-{bits}-{}", hex::encode(&digest[..16]))
    }

    fn find(&self, label: &str, bits: usize) -> Result<RsaPrivateKey, KeyError> {
        let mut rng = self.seed.rng(&format!("rsa/{bits}/{label}"));
        RsaPrivateKey::new(&mut rng, bits).map_err(|source| KeyError::Rsa {
            label: label.to_owned(),
            bits,
            source,
        })
    }

    /// Processes that start together would all search for the same key: the lock file makes one
    /// of them search while the others wait for its result.
    fn find_or_load(
        &self,
        folder: &Path,
        name: &str,
        label: &str,
        bits: usize,
    ) -> Result<RsaPrivateKey, KeyError> {
        let path = folder.join(format!("{name}.pk8"));
        let failed = |source| KeyError::Cache { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        if let Some(key) = load(&path, bits).map_err(failed)? {
            return Ok(key);
        }
        let lock = private_file(&folder.join(format!("{name}.lock"))).map_err(failed)?;
        lock.lock().map_err(failed)?;
        if let Some(key) = load(&path, bits).map_err(failed)? {
            return Ok(key);
        }
        let key = self.find(label, bits)?;
        let der = key
            .to_pkcs8_der()
            .map_err(|source| KeyError::Encode { label: label.to_owned(), source })?;
        store(&path, der.as_bytes()).map_err(failed)?;
        Ok(key)
    }
}

/// `None` when there is no file, or one that does not hold a key of that size: then the key is
/// derived again and the file replaced.
fn load(path: &Path, bits: usize) -> io::Result<Option<RsaPrivateKey>> {
    match fs::read(path) {
        Ok(der) => Ok(RsaPrivateKey::from_pkcs8_der(&der)
            .ok()
            .filter(|key| key.size() * 8 == bits && key.validate().is_ok())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes beside the target and renames, so that a reader never sees half a key.
fn store(path: &Path, der: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let mut file = private_file(&temporary)?;
    file.set_len(0)?;
    file.write_all(der)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_cache_gives_the_same_key_and_a_broken_file_is_derived_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = Some(folder.path().to_owned());
        let without = KeyRing::new(Seed::new("keys"), None).rsa("test", 1024).unwrap();
        let with = KeyRing::new(Seed::new("keys"), state.clone()).rsa("test", 1024).unwrap();
        assert_eq!(without, with);

        let file = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|e| e == "pk8"))
            .unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&file, b"half a key").unwrap();
        let again = KeyRing::new(Seed::new("keys"), state).rsa("test", 1024).unwrap();
        assert_eq!(with, again);
        assert_ne!(fs::read(&file).unwrap(), b"half a key");
    }

    #[test]
    fn another_seed_or_label_is_another_key() {
        let ring = KeyRing::new(Seed::new("keys"), None);
        let other = KeyRing::new(Seed::new("other"), None);
        let key = ring.p384("a").to_bytes();
        assert_ne!(key, ring.p384("b").to_bytes());
        assert_ne!(key, other.p384("a").to_bytes());
    }
}
