//! Keys of the owner's vault that are used inside this process and handed to nobody (`wire.md` part 3).
//!
//! Must not know what they are for.

use crate::kid::KeyId;

/// The reserved keys, by their purpose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reserved {
    /// Signs proofs in the owner's name.
    pub(crate) owner: Option<KeyId>,
    /// Signs TLS handshakes.
    pub(crate) tls: Option<KeyId>,
}

impl Reserved {
    /// Whether this is one of them, in whichever version and spelling.
    pub(crate) fn holds(&self, kid: &KeyId) -> bool {
        [&self.owner, &self.tls].into_iter().flatten().any(|own| own.is_other_version_of(kid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_and_no_version_of_a_reserved_key_is_another_key() {
        let kid = |text: &str| text.parse::<KeyId>().unwrap();
        let reserved = Reserved { owner: Some(kid("owner")), tls: Some(kid("tls/0a")) };
        for own in ["owner", "OWNER", "Owner/0123", "tls", "TLS", "tls/0a", "tls/0b", "tLS/ff"] {
            assert!(reserved.holds(&kid(own)), "{own}");
        }
        for other in ["owner1", "owne", "tls-2", "state"] {
            assert!(!reserved.holds(&kid(other)), "{other}");
        }
        assert!(!Reserved::default().holds(&kid("owner")));
    }
}
