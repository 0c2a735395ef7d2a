//! What a client proved of itself on one connection, and the nonce that it may do so with.
//!
//! Everything ends with the connection. Time is an argument: it is the process's own, which no host sets back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a nonce may be used.
const NONCE: Duration = Duration::from_secs(60);

/// How long a proof stands, from the moment that its nonce was given: it says nothing about later.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// API keys that one connection can prove itself for.
const KEYS: usize = 16;

/// A nonce that was given to the client.
#[derive(Clone, Copy)]
pub(crate) struct Nonce {
    pub(crate) value: [u8; 32],
    pub(crate) since: Instant,
}

/// One connection's part.
#[derive(Default)]
pub(crate) struct Proven(Mutex<State>);

#[derive(Default)]
struct State {
    nonce: Option<Nonce>,
    /// SHA-256 of the id of an API key, and since when it is proved for.
    keys: Vec<([u8; 32], Instant)>,
}

impl Proven {
    /// A new nonce; the one before is void. `None` if the system has no random numbers.
    pub(crate) fn give_nonce(&self, now: Instant) -> Option<[u8; 32]> {
        let mut value = [0; 32];
        aws_lc_rs::rand::fill(&mut value).ok()?;
        self.state(|state| state.nonce = Some(Nonce { value, since: now }));
        Some(value)
    }

    /// The nonce, for one use, if it is there and young.
    pub(crate) fn take_nonce(&self, now: Instant) -> Option<Nonce> {
        let nonce = self.state(|state| state.nonce.take())?;
        (now.duration_since(nonce.since) < NONCE).then_some(nonce)
    }

    /// The client is proved for this key; of too many, the oldest proof is forgotten.
    pub(crate) fn admit(&self, key_id_sha256: [u8; 32], since: Instant) {
        self.state(|state| {
            state.keys.retain(|(key, _)| *key != key_id_sha256);
            state.keys.insert(0, (key_id_sha256, since));
            state.keys.truncate(KEYS);
        });
    }

    /// Whether the client is proved for this key now.
    pub(crate) fn holds(&self, key_id_sha256: &[u8; 32], now: Instant) -> bool {
        let stands = |since: Instant| now.duration_since(since) < LIFETIME;
        self.state(|state| {
            state.keys.iter().any(|(key, since)| key == key_id_sha256 && stands(*since))
        })
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_nonce_is_used_once_soon_and_only_the_newest() {
        let (proven, now) = (Proven::default(), Instant::now());
        assert!(proven.take_nonce(now).is_none(), "none was given");
        let given = proven.give_nonce(now).unwrap();
        assert_eq!(proven.take_nonce(now + NONCE - MOMENT).unwrap().value, given);
        assert!(proven.take_nonce(now).is_none(), "it was used");
        let first = proven.give_nonce(now).unwrap();
        let second = proven.give_nonce(now).unwrap();
        assert_ne!(first, second);
        assert_eq!(proven.take_nonce(now).unwrap().value, second);
        proven.give_nonce(now).unwrap();
        assert!(proven.take_nonce(now + NONCE).is_none(), "it is too old");
        assert!(proven.take_nonce(now).is_none(), "and was used up by that");
    }

    #[test]
    fn a_proof_stands_for_its_key_and_its_time() {
        let (proven, now) = (Proven::default(), Instant::now());
        proven.admit([1; 32], now);
        assert!(proven.holds(&[1; 32], now + LIFETIME - MOMENT));
        assert!(!proven.holds(&[1; 32], now + LIFETIME));
        assert!(!proven.holds(&[2; 32], now));
        proven.admit([1; 32], now + LIFETIME);
        assert!(proven.holds(&[1; 32], now + LIFETIME), "it was proved again");
    }

    #[test]
    fn the_number_of_keys_has_a_bound() {
        let (proven, now) = (Proven::default(), Instant::now());
        for n in 0..=u8::try_from(KEYS).unwrap() {
            proven.admit([n; 32], now);
        }
        assert!(!proven.holds(&[0; 32], now), "the oldest made room");
        assert!(proven.holds(&[1; 32], now));
        assert_eq!(proven.state(|state| state.keys.len()), KEYS);
    }
}
