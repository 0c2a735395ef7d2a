//! From one seed text to every secret of the simulated world.
//!
//! Must not know: what is derived. The same seed gives the same keys and certificates in every
//! process, so that a device, an attestation service and a vault which run in different
//! containers trust one another without exchanging anything.

use std::fmt;

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest as _, Sha256};

/// The seed that every binary and every [`crate::world::WorldConfig`] starts from.
pub const DEFAULT_SEED: &str = "laptop";

/// The root of all derived randomness. Not a secret: whoever knows the text owns the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed(String);

impl Seed {
    /// Any text is a seed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A deterministic generator for one purpose: ChaCha20 keyed with
    /// `SHA-256(seed ‖ 0x00 ‖ label)`. The zero byte keeps `("ab", "c")` and `("a", "bc")` apart.
    #[must_use]
    pub fn rng(&self, label: &str) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.digest(label))
    }

    /// `N` derived bytes for one purpose.
    #[must_use]
    pub fn bytes<const N: usize>(&self, label: &str) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng(label).fill_bytes(&mut bytes);
        bytes
    }

    /// A derived identifier in the form of a random UUID (RFC 9562 section 5.4), as Azure writes
    /// tenants, clients and objects.
    #[must_use]
    pub fn uuid(&self, label: &str) -> String {
        let mut bytes: [u8; 16] = self.bytes(label);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = hex::encode(bytes);
        let (time_low, rest) = hex.split_at(8);
        let (time_mid, rest) = rest.split_at(4);
        let (time_high, rest) = rest.split_at(4);
        let (clock, node) = rest.split_at(4);
        format!("{time_low}-{time_mid}-{time_high}-{clock}-{node}")
    }

    pub(crate) fn digest(&self, label: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.0.as_bytes())
            .chain_update([0])
            .chain_update(label.as_bytes())
            .finalize()
            .into()
    }
}

impl Default for Seed {
    fn default() -> Self {
        Self::new(DEFAULT_SEED)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_and_label_give_the_same_bytes_and_any_other_pair_does_not() {
        let seed = Seed::new("laptop");
        let first: [u8; 32] = seed.bytes("chip");
        assert_eq!(first, seed.bytes("chip"));
        assert_ne!(first, seed.bytes::<32>("chips"));
        assert_ne!(first, Seed::new("laptopc").bytes::<32>("hip"));
    }

    #[test]
    fn derived_identifiers_look_like_random_uuids() {
        let uuid = Seed::default().uuid("tenant");
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
