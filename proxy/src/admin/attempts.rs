//! How often an address may guess the password: [`FAILURES`] times in [`WINDOW`] (`proxy.md` cases 99 and 100).
//!
//! A guess is judged and counted in one step, when all of it is there. So guesses that arrive together cannot all be judged,
//! and who sends half of one takes nobody's place. Times are monotonic: the wall clock is the host's.
//!
//! The host can forge addresses and so have as many guesses as it likes; only a long password keeps it out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::address::network;

/// Wrong guesses of one address in each window.
pub(super) const FAILURES: usize = 5;

/// How long a wrong guess counts.
pub(super) const WINDOW: Duration = Duration::from_secs(300);

/// Addresses that are remembered. Beyond that, the one whose last failure is the oldest is forgotten.
const ADDRESSES: usize = 16_384;

/// When every address failed; the oldest first.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, VecDeque<Instant>>>);

/// What became of a guess.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Guess<T> {
    /// It was right.
    Right(T),
    /// It was wrong.
    Wrong {
        /// That was the last one for now.
        is_last: bool,
    },
}

impl Attempts {
    /// Whether an address may guess at all; if not, how long it may not.
    pub(super) fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = all.get_mut(&network(address));
        failed.map_or(Ok(()), |failed| may_guess(failed, now))
    }

    /// Has a guess judged, if its address may guess. A right one does not count.
    pub(super) fn guess<T>(
        &self,
        address: IpAddr,
        now: Instant,
        judge: impl FnOnce() -> Option<T>,
    ) -> Result<Guess<T>, Duration> {
        let address = network(address);
        // Held until it is counted, so that the next one of this address meets that.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = all.get_mut(&address) {
            may_guess(failed, now)?;
        }
        if let Some(right) = judge() {
            return Ok(Guess::Right(right));
        }
        if all.len() >= ADDRESSES && !all.contains_key(&address) {
            make_room(&mut all, now);
        }
        let failed = all.entry(address).or_default();
        failed.push_back(now);
        Ok(Guess::Wrong { is_last: failed.len() >= FAILURES })
    }
}

fn may_guess(failed: &mut VecDeque<Instant>, now: Instant) -> Result<(), Duration> {
    forget(failed, now);
    match failed.front() {
        Some(first) if failed.len() >= FAILURES => Err(WINDOW - now.duration_since(*first)),
        Some(_) | None => Ok(()),
    }
}

fn forget(failed: &mut VecDeque<Instant>, now: Instant) {
    while failed.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
        failed.pop_front();
    }
}

/// Forgets everybody whose failures count no longer, or else the one who failed longest ago.
fn make_room(all: &mut HashMap<IpAddr, VecDeque<Instant>>, now: Instant) {
    all.retain(|_, failed| {
        forget(failed, now);
        !failed.is_empty()
    });
    if all.len() >= ADDRESSES {
        let oldest = all.iter().min_by_key(|(_, failed)| failed.back().copied());
        if let Some(oldest) = oldest.map(|(address, _)| *address) {
            all.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn wrong(attempts: &Attempts, address: IpAddr, now: Instant) -> Result<bool, Duration> {
        match attempts.guess(address, now, || None::<()>)? {
            Guess::Wrong { is_last } => Ok(is_last),
            Guess::Right(()) => panic!("nothing is right"),
        }
    }

    #[test]
    fn case_99_five_failures_and_no_sixth_until_the_first_is_old() {
        let (attempts, begin) = (Attempts::default(), Instant::now());
        for n in 0..5 {
            assert_eq!(attempts.admit(HERE, begin), Ok(()));
            assert_eq!(wrong(&attempts, HERE, begin), Ok(n == 4));
        }
        assert_eq!(attempts.admit(HERE, begin), Err(WINDOW));
        let not_judged = || -> Option<()> { panic!("it is not looked at") };
        assert_eq!(attempts.guess(HERE, begin, not_judged), Err(WINDOW));
        let other = IpAddr::from([127, 0, 0, 2]);
        assert_eq!(attempts.admit(other, begin), Ok(()), "others are not touched");
        let later = begin + WINDOW - Duration::from_secs(1);
        assert_eq!(attempts.admit(HERE, later), Err(Duration::from_secs(1)));
        assert_eq!(wrong(&attempts, HERE, begin + WINDOW), Ok(false));
    }

    #[test]
    fn right_guesses_do_not_count_and_leave_nothing() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..10 {
            assert_eq!(attempts.guess(HERE, now, || Some(n)), Ok(Guess::Right(n)));
        }
        assert!(attempts.0.lock().unwrap().is_empty());
    }

    #[test]
    fn case_100_of_guesses_that_come_together_five_are_judged() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let judged = std::sync::atomic::AtomicUsize::new(0);
        let all = std::sync::Barrier::new(40);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    all.wait();
                    drop(attempts.guess(HERE, now, || {
                        judged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        None::<()>
                    }));
                });
            }
        });
        assert_eq!(judged.into_inner(), FAILURES);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..5 {
            let address = format!("2001:db8::{n}").parse().unwrap();
            wrong(&attempts, address, now).unwrap();
        }
        assert!(attempts.admit("2001:db8::ffff".parse().unwrap(), now).is_err());
        assert!(attempts.admit("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(network(mapped), HERE);
    }

    #[test]
    fn addresses_have_a_bound() {
        let (attempts, begin) = (Attempts::default(), Instant::now());
        for n in 0..u32::try_from(ADDRESSES).unwrap() + 10 {
            let now = begin + Duration::from_millis(u64::from(n) / 100);
            let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            wrong(&attempts, address, now).unwrap();
        }
        assert_eq!(attempts.0.lock().unwrap().len(), ADDRESSES);
    }
}
