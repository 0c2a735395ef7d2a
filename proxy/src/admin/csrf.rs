//! Tokens that show that a form was made by a page of ours, for whoever sends it (`proxy.md` cases 97 and 111).
//!
//! A token is a nonce, its age and a MAC over both and over whom it is for: a session, or before the login an address. So
//! pages may have as many forms as they like and nothing is kept for those that are never sent. What is kept are the
//! nonces of those that were, since each is good once. Ages are monotonic: the wall clock is the host's.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use attestation::encoding::{from_b64u, to_b64u};
use aws_lc_rs::hmac;

use super::session::SessionId;

/// How long a token is good.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Sent tokens that are remembered. Beyond that the oldest is forgotten, and could be sent once more by the session that
/// it is for, which could as well take a new one.
const REMEMBERED: usize = 16_384;

const NONCE: usize = 16;
const AGE: usize = 8;

/// Whom a token is for.
#[derive(Clone, Copy)]
pub(super) enum For {
    /// A session.
    Session(SessionId),
    /// Whoever wants to log in from there. (A login that somebody else begins has no use for them: there is one account.)
    Login(IpAddr),
}

/// Makes tokens and knows them again.
pub(super) struct Tokens {
    key: hmac::Key,
    begin: Instant,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    nonces: HashSet<[u8; NONCE]>,
    in_order: VecDeque<([u8; NONCE], Instant)>,
}

impl Tokens {
    /// With a key of this process.
    pub(super) fn new(now: Instant) -> Self {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        random(&mut *key);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &*key), begin: now, sent: Mutex::default() }
    }

    /// A new token.
    pub(super) fn give(&self, whom: For, now: Instant) -> String {
        let mut nonce = [0; NONCE];
        random(&mut nonce);
        let age = now.duration_since(self.begin).as_secs().to_be_bytes();
        let mac = hmac::sign(&self.key, &message(whom, &nonce, &age));
        to_b64u(&[nonce.as_slice(), &age, mac.as_ref()].concat())
    }

    /// Takes a token back: whether it is one, for them, of the last hour, and comes for the first time.
    pub(super) fn take(&self, token: &str, whom: For, now: Instant) -> bool {
        let Some((nonce, age)) = self.judge(token, whom) else { return false };
        let made = self.begin + Duration::from_secs(age);
        if now.saturating_duration_since(made) >= LIFETIME {
            return false;
        }
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.forget(now);
        if !sent.nonces.insert(nonce) {
            return false;
        }
        sent.in_order.push_back((nonce, now));
        true
    }

    fn judge(&self, token: &str, whom: For) -> Option<([u8; NONCE], u64)> {
        // Longer text is not looked at.
        let token = (token.len() <= 128).then(|| from_b64u(token))??;
        let (nonce, rest) = token.split_first_chunk::<NONCE>()?;
        let (age, mac) = rest.split_first_chunk::<AGE>()?;
        hmac::verify(&self.key, &message(whom, nonce, age), mac).ok()?;
        Some((*nonce, u64::from_be_bytes(*age)))
    }
}

impl Sent {
    /// A token that is too old for its age needs no remembering.
    fn forget(&mut self, now: Instant) {
        while let Some((nonce, at)) = self.in_order.front() {
            let is_old = now.saturating_duration_since(*at) >= LIFETIME;
            if !is_old && self.in_order.len() < REMEMBERED {
                return;
            }
            self.nonces.remove(nonce);
            self.in_order.pop_front();
        }
    }
}

fn message(whom: For, nonce: &[u8; NONCE], age: &[u8; AGE]) -> Vec<u8> {
    let whom = match whom {
        For::Session(id) => [b"session".as_slice(), id.bytes()].concat(),
        For::Login(IpAddr::V4(address)) => [b"login v4".as_slice(), &address.octets()].concat(),
        For::Login(IpAddr::V6(address)) => [b"login v6".as_slice(), &address.octets()].concat(),
    };
    // Nonce and age are of fixed length, so that what follows can only be whom it is for.
    [nonce.as_slice(), age, &whom].concat()
}

/// Fills with random bytes.
pub(super) fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the system gave random numbers at the start");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: For = For::Login(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn case_97_a_token_is_good_once_and_for_an_hour() {
        let now = Instant::now();
        let tokens = Tokens::new(now);
        let token = tokens.give(HERE, now);
        assert!(tokens.take(&token, HERE, now));
        assert!(!tokens.take(&token, HERE, now), "a second time");
        let almost = now + LIFETIME - Duration::from_secs(1);
        assert!(tokens.take(&tokens.give(HERE, now), HERE, almost));
        assert!(!tokens.take(&tokens.give(HERE, now), HERE, now + LIFETIME));
        for wrong in ["", "x", &token[1..], &"A".repeat(75), &"A".repeat(100_000)] {
            assert!(!tokens.take(wrong, HERE, now), "{wrong}");
        }
        assert!(!Tokens::new(now).take(&tokens.give(HERE, now), HERE, now), "another process");
    }

    #[test]
    fn case_111_a_token_is_for_one_session_and_a_page_may_have_many() {
        let now = Instant::now();
        let tokens = Tokens::new(now);
        let [one, other] = [1, 2].map(|n| For::Session(SessionId::of(&[n])));
        let (first, second) = (tokens.give(one, now), tokens.give(one, now));
        assert!(!tokens.take(&first, other, now));
        assert!(!tokens.take(&first, HERE, now), "it is not for a login");
        assert!(!tokens.take(&tokens.give(HERE, now), one, now), "nor the other way round");
        assert!(tokens.take(&first, one, now), "who may not send it does not use it up");
        assert!(tokens.take(&second, one, now));
    }

    #[test]
    fn an_altered_token_is_none() {
        let now = Instant::now();
        let tokens = Tokens::new(now);
        let token = from_b64u(&tokens.give(HERE, now)).unwrap();
        for place in 0..token.len() {
            let mut altered = token.clone();
            altered[place] ^= 1;
            assert!(!tokens.take(&to_b64u(&altered), HERE, now), "{place}");
        }
        assert!(tokens.take(&to_b64u(&token), HERE, now));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let now = Instant::now();
        let tokens = Tokens::new(now);
        for _ in 0..REMEMBERED + 100 {
            assert!(tokens.take(&tokens.give(HERE, now), HERE, now));
        }
        let sent = tokens.sent.lock().unwrap();
        assert!(sent.in_order.len() <= REMEMBERED && sent.nonces.len() == sent.in_order.len());
    }
}
