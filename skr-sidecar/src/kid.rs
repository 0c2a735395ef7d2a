//! Which key is asked for: `name` or `name/version`, as Key Vault defines both.
//!
//! Source: Key Vault REST API 7.4, operation *release*: `POST {vault}/keys/{name}/{version}/release`; a name is
//! `^[0-9a-zA-Z-]{1,127}$`.

use std::fmt::{self, Display};
use std::str::FromStr;

use url::Url;

use crate::host::Host;

/// The longest name or version.
const LONGEST: usize = 127;

/// A key of a vault, in its newest or in a given version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyId {
    name: String,
    version: Option<String>,
}

/// Why a text names no key. The text itself is not repeated: it comes from a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kid must be a key's name or name/version, each of at most 127 letters, digits and hyphens"
)]
pub(crate) struct NotAKeyId;

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let part = |text: &str| is_part(text).then(|| text.to_owned()).ok_or(NotAKeyId);
        match text.split_once('/') {
            Some((name, version)) => Ok(Self { name: part(name)?, version: Some(part(version)?) }),
            None => Ok(Self { name: part(text)?, version: None }),
        }
    }
}

fn is_part(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}/{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl KeyId {
    /// Where the vault releases it.
    pub(crate) fn release_url(&self, vault: &Host, api_version: &str) -> Url {
        let mut url = vault.url();
        url.path_segments_mut()
            .expect("an https URL has a path")
            .clear()
            .extend(["keys", self.name.as_str()])
            .extend(self.version.as_deref())
            .push("release");
        url.query_pairs_mut().append_pair("api-version", api_version);
        url
    }

    /// Whether both are the same key, in whichever versions. Key Vault does not distinguish upper and lower case.
    pub(crate) fn is_other_version_of(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
    }

    /// Whether `kid`, as a vault writes it, means this key in this vault: `https://vault/keys/name[/version]`,
    /// or `name[/version]`. A version that was asked for must be the one; none was asked for, any will do.
    /// Key Vault does not distinguish upper and lower case in names.
    pub(crate) fn is_meant_by(&self, kid: &str, vault: &Host) -> bool {
        let Some(found) = Self::of_vault(kid, vault) else { return false };
        let asked_version = self.version.as_deref();
        found.name.eq_ignore_ascii_case(&self.name)
            && asked_version.is_none_or(|asked| {
                found.version.is_some_and(|found| found.eq_ignore_ascii_case(asked))
            })
    }

    /// What a vault's own name for a key says: `https://vault/keys/name[/version]`, or `name[/version]`.
    pub(crate) fn of_vault(kid: &str, vault: &Host) -> Option<Self> {
        let path = match Url::parse(kid) {
            Ok(url) => {
                let of_vault = url.scheme() == "https" && url.host_str() == Some(vault.name());
                let path = url.path().strip_prefix("/keys/").map(str::to_owned);
                path.filter(|_| of_vault && url.query().is_none() && url.fragment().is_none())
            }
            Err(_) => Some(kid.to_owned()),
        };
        path?.parse().ok()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its version, where one is named.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Another version of it.
    pub(crate) fn in_version(&self, version: &str) -> Result<Self, NotAKeyId> {
        format!("{}/{version}", self.name).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> Host {
        "v.vault.azure.net".parse().unwrap()
    }

    #[test]
    fn the_path_is_built_from_parts() {
        let url =
            |kid: &str| kid.parse::<KeyId>().unwrap().release_url(&vault(), "7.4").to_string();
        assert_eq!(url("k-1"), "https://v.vault.azure.net/keys/k-1/release?api-version=7.4");
        assert_eq!(url("k/0a"), "https://v.vault.azure.net/keys/k/0a/release?api-version=7.4");
    }

    #[test]
    fn anything_that_is_no_kid_is_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "..",
            "a/..",
            "../secrets/s",
            "a?x",
            "a#",
            "a%2fb",
            "a b",
            "ä",
            "a_b",
            "https://v.vault.azure.net/keys/a",
        ] {
            assert_eq!(text.parse::<KeyId>(), Err(NotAKeyId), "{text:?}");
        }
        assert!("a".repeat(127).parse::<KeyId>().is_ok());
        assert!("a".repeat(128).parse::<KeyId>().is_err());
    }

    #[test]
    fn an_echoed_kid_must_mean_the_key_that_was_asked_for() {
        let newest: KeyId = "tls".parse().unwrap();
        let fixed: KeyId = "tls/1a".parse().unwrap();
        for kid in
            ["https://v.vault.azure.net/keys/tls", "https://V.vault.azure.net:443/keys/TLS", "tls"]
        {
            assert!(newest.is_meant_by(kid, &vault()), "{kid}");
            assert!(!fixed.is_meant_by(kid, &vault()), "{kid} names no version");
        }
        for kid in [
            "https://v.vault.azure.net/keys/tls/1a",
            "https://v.vault.azure.net/keys/tls/1A",
            "tls/1a",
        ] {
            assert!(newest.is_meant_by(kid, &vault()), "{kid}");
            assert!(fixed.is_meant_by(kid, &vault()), "{kid}");
        }
        for kid in [
            "",
            "https://v.vault.azure.net/keys/other/1a",
            "https://w.vault.azure.net/keys/tls/1a",
            "http://v.vault.azure.net/keys/tls/1a",
            "https://v.vault.azure.net/secrets/tls/1a",
            "https://v.vault.azure.net/keys/tls/1a/x",
            "https://v.vault.azure.net/keys/tls/1a?x=1",
            "tls/1a/x",
            "TLS-2",
        ] {
            assert!(!newest.is_meant_by(kid, &vault()), "{kid}");
        }
        assert!(!fixed.is_meant_by("https://v.vault.azure.net/keys/tls/1b", &vault()));
    }
}
