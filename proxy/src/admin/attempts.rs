//! How often an address may guess the password: [`FAILURES`] times in [`WINDOW`] (`proxy.md` cases 99 and 100).
//!
//! A guess takes its place before its body is read, so that guesses which arrive together cannot all be judged. A place
//! becomes a failure, or is given back. Times are monotonic: the wall clock is the host's.
//!
//! The host can forge addresses and so have as many guesses as it likes; only a long password keeps it out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::address::network;

use super::form;

/// Wrong guesses of one address in each window, those counted that are not judged yet.
pub(super) const FAILURES: usize = 5;

/// How long a wrong guess counts.
pub(super) const WINDOW: Duration = Duration::from_secs(300);

/// Addresses that are remembered. Beyond that, the one whose last failure is the oldest is forgotten.
const ADDRESSES: usize = 16_384;

/// What every address did.
#[derive(Clone, Default)]
pub(super) struct Attempts(Arc<Mutex<HashMap<IpAddr, Guesses>>>);

#[derive(Default)]
struct Guesses {
    /// When each failed; the oldest first.
    failed: VecDeque<Instant>,
    /// Those that are not judged yet.
    open: usize,
}

/// A guess that may be judged. Dropped unjudged it does not count.
pub(super) struct Attempt {
    all: Attempts,
    address: IpAddr,
}

impl Attempts {
    /// Takes a place, or says how long there is none.
    pub(super) fn begin(&self, address: IpAddr, now: Instant) -> Result<Attempt, Duration> {
        let address = network(address);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ADDRESSES && !all.contains_key(&address) {
            make_room(&mut all, now);
        }
        let guesses = all.entry(address).or_default();
        guesses.forget(now);
        if guesses.failed.len() + guesses.open >= FAILURES {
            let first = guesses.failed.front();
            // Those that are not judged yet are so soon, or give their places back.
            return Err(first.map_or(form::PATIENCE, |first| WINDOW - now.duration_since(*first)));
        }
        guesses.open += 1;
        Ok(Attempt { all: self.clone(), address })
    }
}

impl Attempt {
    /// The password was wrong. Whether that was the last guess for now.
    pub(super) fn failed(self, now: Instant) -> bool {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guesses = all.entry(self.address).or_default();
        guesses.failed.push_back(now);
        guesses.failed.len() >= FAILURES
        // The place itself is given back by the drop that follows.
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guesses) = all.get_mut(&self.address) {
            guesses.open = guesses.open.saturating_sub(1);
            if guesses.open == 0 && guesses.failed.is_empty() {
                all.remove(&self.address);
            }
        }
    }
}

impl Guesses {
    fn forget(&mut self, now: Instant) {
        while self.failed.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.failed.pop_front();
        }
    }
}

/// Forgets everybody whose failures count no longer, or else the one who failed longest ago.
fn make_room(all: &mut HashMap<IpAddr, Guesses>, now: Instant) {
    all.retain(|_, guesses| {
        guesses.forget(now);
        guesses.open > 0 || !guesses.failed.is_empty()
    });
    if all.len() >= ADDRESSES {
        let idle = all.iter().filter(|(_, guesses)| guesses.open == 0);
        let oldest = idle.min_by_key(|(_, guesses)| guesses.failed.back().copied());
        if let Some(oldest) = oldest.map(|(address, _)| *address) {
            all.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn case_99_five_failures_and_no_sixth_until_the_first_is_old() {
        let (attempts, begin) = (Attempts::default(), Instant::now());
        for n in 0..5 {
            let last = attempts.begin(HERE, begin).ok().unwrap().failed(begin);
            assert_eq!(last, n == 4);
        }
        assert_eq!(attempts.begin(HERE, begin).err(), Some(WINDOW));
        let other = IpAddr::from([127, 0, 0, 2]);
        assert!(attempts.begin(other, begin).is_ok(), "others are not touched");
        let later = begin + WINDOW - Duration::from_secs(1);
        assert_eq!(attempts.begin(HERE, later).err(), Some(Duration::from_secs(1)));
        assert!(attempts.begin(HERE, begin + WINDOW).is_ok());
    }

    #[test]
    fn case_100_guesses_that_are_not_judged_yet_take_places() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let open: Vec<_> = (0..FAILURES).map(|_| attempts.begin(HERE, now).ok().unwrap()).collect();
        assert_eq!(attempts.begin(HERE, now).err(), Some(form::PATIENCE));
        drop(open);
        assert!(attempts.0.lock().unwrap().is_empty(), "what is given back leaves nothing");
        assert!(attempts.begin(HERE, now).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..5 {
            let address = format!("2001:db8::{n}").parse().unwrap();
            attempts.begin(address, now).ok().unwrap().failed(now);
        }
        assert!(attempts.begin("2001:db8::ffff".parse().unwrap(), now).is_err());
        assert!(attempts.begin("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(network(mapped), HERE);
    }

    #[test]
    fn addresses_have_a_bound() {
        let (attempts, begin) = (Attempts::default(), Instant::now());
        for n in 0..u32::try_from(ADDRESSES).unwrap() + 10 {
            let now = begin + Duration::from_millis(u64::from(n) / 100);
            let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            attempts.begin(address, now).ok().unwrap().failed(now);
        }
        assert_eq!(attempts.0.lock().unwrap().len(), ADDRESSES);
    }
}
