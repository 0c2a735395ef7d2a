//! Keys of the owner's vault that are used inside this process and handed to nobody (`wire.md` part 3).
//!
//! Must not know what they are for.

use service::env::{Class, Reader, Var};

use crate::kid::KeyId;

/// The variables that name them. Each has one purpose, so each is another key.
pub(crate) const OWNER: &str = "OWNER_KID";
/// As [`OWNER`].
pub(crate) const TLS: &str = "TLS_KID";
/// As [`OWNER`].
pub(crate) const SECRETS: &str = "SECRETS_KID";
/// As [`OWNER`].
pub(crate) const STATE: &str = "STATE_KID";

/// The row of [`OWNER`].
pub(crate) const OWNER_VAR: Var = named(
    OWNER,
    "The owner's signing key in KEY_VAULT_URL, name or name/version: EC on P-256. It signs proofs, is used inside this role only, and no route hands it out.",
);
/// The row of [`TLS`].
pub(crate) const TLS_VAR: Var = named(
    TLS,
    "The TLS key of TLS_MODE=released in KEY_VAULT_URL, name or name/version: RSA, or EC on P-256 or P-384. It signs handshakes, is used inside this role only, and no route hands it out.",
);
/// The row of [`SECRETS`].
pub(crate) const SECRETS_VAR: Var = named(
    SECRETS,
    "The key in KEY_VAULT_URL that the sealed secrets are encrypted to, name or name/version: RSA of 2048 bits or more. It opens them, is used inside this role only, and no route hands it out.",
);
/// The row of [`STATE`].
pub(crate) const STATE_VAR: Var = named(
    STATE,
    "The key in KEY_VAULT_URL that keys of the group's stored state are derived of, name or name/version: EC, or symmetric of 128 bits or more. What is derived goes to the group's other roles; no route hands the key itself out.",
);

const fn named(name: &'static str, help: &'static str) -> Var {
    Var { name, class: Class::Measured, default: None, help }
}

/// The reserved keys, by their purpose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reserved {
    /// Signs proofs in the owner's name.
    pub(crate) owner: Option<KeyId>,
    /// Signs TLS handshakes.
    pub(crate) tls: Option<KeyId>,
    /// Opens the sealed secrets.
    pub(crate) secrets: Option<KeyId>,
    /// Keys of stored state are derived of it.
    pub(crate) state: Option<KeyId>,
}

impl Reserved {
    /// Reads them all. They are keys of the configured vault, so there must be one.
    pub(crate) fn read(env: &mut Reader<'_>, has_vault: bool) -> Self {
        let reserved = Self {
            owner: env.optional(OWNER),
            tls: env.optional(TLS),
            secrets: env.optional(SECRETS),
            state: env.optional(STATE),
        };
        for (at, (name, kid)) in reserved.all().into_iter().enumerate() {
            let Some(kid) = kid else { continue };
            if !has_vault {
                env.refuse(name, &"names a key of the owner's vault: set KEY_VAULT_URL as well");
            }
            let same = |other: &&KeyId| other.is_other_version_of(kid);
            let earlier = reserved.all().into_iter().take(at);
            for (other, _) in earlier.filter(|(_, other)| other.as_ref().is_some_and(same)) {
                let why = format!("must be another key than {other}: one key, one purpose");
                env.refuse(name, &why);
            }
        }
        reserved
    }

    fn all(&self) -> [(&'static str, Option<&KeyId>); 4] {
        let Self { owner, tls, secrets, state } = self;
        [
            (OWNER, owner.as_ref()),
            (TLS, tls.as_ref()),
            (SECRETS, secrets.as_ref()),
            (STATE, state.as_ref()),
        ]
    }

    /// Whether this is one of them, in whichever version and spelling.
    pub(crate) fn holds(&self, kid: &KeyId) -> bool {
        let mut own = self.all().into_iter().filter_map(|(_, own)| own);
        own.any(|own| own.is_other_version_of(kid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_and_no_version_of_a_reserved_key_is_another_key() {
        let kid = |text: &str| text.parse::<KeyId>().unwrap();
        let reserved = Reserved {
            owner: Some(kid("owner")),
            tls: Some(kid("tls/0a")),
            secrets: Some(kid("secrets")),
            state: Some(kid("state/01")),
        };
        for own in [
            "owner",
            "OWNER",
            "Owner/0123",
            "tls",
            "TLS",
            "tls/0a",
            "tls/0b",
            "tLS/ff",
            "Secrets/1",
            "secrets",
            "state",
            "STATE/02",
        ] {
            assert!(reserved.holds(&kid(own)), "{own}");
        }
        for other in ["owner1", "owne", "tls-2", "secret", "states"] {
            assert!(!reserved.holds(&kid(other)), "{other}");
        }
        assert!(!Reserved::default().holds(&kid("owner")));
    }
}
