//! Keys of the group's stored state, derived of a key of the owner's vault. What is derived goes to the other roles; the
//! vault's key stays here.
//!
//! Each version of the vault's key gives another one, so that state can be encrypted anew when the key is rotated. Must not
//! know what is stored.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::held::Held;
use crate::key::{self, KeyError, Published};
use crate::kid::{KeyId, NotAKeyId};
use crate::release::{ReleaseError, Releases};

/// What HKDF's info begins with.
const LABEL: &str = "privatemode-confidential/state-key/v1";

/// A symmetric key has at least so many bytes: what is derived of it is worth no more.
const SHORTEST: usize = 16;

/// How long a caller waits for the key of the start.
const FIRST: Duration = Duration::from_secs(20);

/// A derived key. Has no `Debug`; zeroed when dropped.
pub(crate) struct StateKey {
    version: String,
    bytes: Zeroizing<[u8; 32]>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// There is none to derive of.
    #[error("no key of stored state is configured: name it in STATE_KID")]
    NotConfigured,
    /// The vault has not released it yet.
    #[error("the vault has not released it yet: the log of skr-sidecar says why")]
    NotYet,
    /// It was refused, and is asked for again from time to time.
    #[error(
        "the vault, or another party, refuses to release it: the log of skr-sidecar says which and why"
    )]
    Refused,
    /// The version is none.
    #[error("the version must be the name of one in the vault")]
    Version(#[from] NotAKeyId),
    /// Another version could not be released.
    #[error("this version of the key was not released")]
    Release(#[from] ReleaseError),
}

impl StateKey {
    /// Derives it of what the vault released.
    fn new(published: &Published, released: &[u8]) -> Result<Self, KeyError> {
        const NEEDED: KeyError = KeyError::Unfit("EC, or symmetric of 128 bits or more");
        const NAMED: KeyError = KeyError::Unfit("named with its version by the vault");
        let secret = key::secret_part(published, released)?.ok_or(NEEDED)?;
        if secret.len() < SHORTEST {
            return Err(NEEDED);
        }
        let kid = published.kid.as_ref().ok_or(NAMED)?;
        // Key Vault does not distinguish upper and lower case in names; what is derived must not, either.
        let name = kid.name().to_ascii_lowercase();
        let version = kid.version().ok_or(NAMED)?.to_ascii_lowercase();
        let bytes = derived(&secret, &name, &version).ok_or(NEEDED)?;
        Ok(Self { version, bytes })
    }

    /// The version that it is derived of.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The key.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

/// HKDF-SHA-256 (RFC 5869) without salt, info LP(label) ‖ LP(name) ‖ LP(version). `None` if the provider fails.
fn derived(secret: &[u8], name: &str, version: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut info = Vec::new();
    for part in [LABEL, name, version] {
        info.extend(u32::try_from(part.len()).ok()?.to_be_bytes());
        info.extend(part.as_bytes());
    }
    let info = [info.as_slice()];
    let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(secret);
    let output = pseudorandom.expand(&info, HKDF_SHA256).ok()?;
    let mut bytes = Zeroizing::new([0; 32]);
    output.fill(bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

/// Keys by the versions of the vault's key.
pub(crate) struct StateKeys {
    releases: Arc<Releases>,
    kid: KeyId,
    /// Released when it is first asked for: a group that stores nothing need not have it.
    first: OnceLock<Held<StateKey>>,
}

impl StateKeys {
    pub(crate) fn new(releases: Arc<Releases>, kid: KeyId) -> Self {
        Self { releases, kid, first: OnceLock::new() }
    }

    /// The key of a version; of none, the current one. Another version is released each time that it is asked for: at the
    /// start after a rotation.
    pub(crate) async fn derived(&self, version: &str) -> Result<Arc<StateKey>, StateError> {
        let start = || Held::start(self.releases.clone(), self.kid.clone(), StateKey::new);
        let held = self.first.get_or_init(start);
        let none = || if held.is_refused() { StateError::Refused } else { StateError::NotYet };
        let first = held.within(FIRST).await.ok_or_else(none)?;
        if version.is_empty() || version.eq_ignore_ascii_case(&first.version) {
            return Ok(first);
        }
        let other = self.kid.in_version(version)?;
        Ok(Arc::new(self.releases.release_reserved(&other, StateKey::new).await?))
    }
}

#[cfg(test)]
mod tests {
    use p256::pkcs8::EncodePrivateKey as _;
    use serde_json::json;

    use super::*;

    fn published(kty: &str, kid: Option<&str>) -> Published {
        let mut published: Published = serde_json::from_value(json!({"kty": kty})).unwrap();
        published.kid = kid.map(|kid| kid.parse().unwrap());
        published
    }

    /// Computed with Python's hmac: HKDF-Extract with 32 zero bytes, HKDF-Expand with one block.
    #[test]
    fn the_derivation_is_the_one_that_is_written_down() {
        let secret: Vec<u8> = (0..32).collect();
        let key = StateKey::new(&published("oct-HSM", Some("State/0A")), &secret).ok().unwrap();
        assert_eq!(key.version(), "0a");
        assert_eq!(hex::encode(key.bytes()), EXPECTED);
    }

    const EXPECTED: &str = "74d0828da2fc6c621893fcffdfefd52983e71e062b14685040ae48d9136947b4";

    #[test]
    fn every_version_name_and_key_gives_another_one_and_every_release_the_same() {
        let secret = p256::SecretKey::random(&mut rand::thread_rng());
        let der = secret.to_pkcs8_der().unwrap();
        let of = |kid: &str| {
            let key = StateKey::new(&published("EC-HSM", Some(kid)), der.as_bytes());
            *key.ok().unwrap().bytes()
        };
        assert_eq!(of("state/1"), of("STATE/1"));
        assert_ne!(of("state/1"), of("state/2"));
        assert_ne!(of("state/1"), of("stat/e1"));
        let symmetric = StateKey::new(&published("oct", Some("state/1")), &secret.to_bytes());
        assert_eq!(*symmetric.ok().unwrap().bytes(), of("state/1"), "of the private number alone");
    }

    #[test]
    fn what_cannot_be_derived_of_is_refused() {
        let refused = |published: &Published, secret: &[u8]| {
            matches!(StateKey::new(published, secret), Err(KeyError::Unfit(_)))
        };
        assert!(refused(&published("oct", Some("state/1")), &[7; 15]), "too short");
        assert!(refused(&published("oct", Some("state")), &[7; 32]), "no version");
        assert!(refused(&published("oct", None), &[7; 32]), "no name");
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        let rsa = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        assert!(refused(&published("RSA", Some("state/1")), der.as_ref()), "RSA");
    }
}
