//! New keys, until the page that shows them once was asked for (`proxy.md` case 101).
//!
//! A key's text is kept for [`PATIENCE`] and no longer, for the session that made it, and is zeroed then: it is in no URL,
//! no file and no log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::session::SessionId;

/// How long a key waits to be shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys that wait at once. One more drops the oldest.
const WAITING: usize = 64;

/// Keys that wait.
#[derive(Clone, Default)]
pub(super) struct Reveals(Arc<Mutex<HashMap<String, Waiting>>>);

struct Waiting {
    secret: Zeroizing<String>,
    whose: SessionId,
    since: Instant,
}

impl Reveals {
    /// Keeps a key's text, and forgets it in time even if nobody asks.
    pub(super) fn keep(&self, key_id: &str, secret: Zeroizing<String>, whose: SessionId) {
        self.put(key_id, secret, whose, Instant::now());
        let all = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            all.forget(Instant::now());
        });
    }

    fn put(&self, key_id: &str, secret: Zeroizing<String>, whose: SessionId, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= WAITING
            && let Some(oldest) = all.iter().min_by_key(|(_, waiting)| waiting.since)
        {
            let oldest = oldest.0.clone();
            all.remove(&oldest);
        }
        all.insert(key_id.to_owned(), Waiting { secret, whose, since: now });
    }

    /// The key's text, once.
    pub(super) fn take(
        &self,
        key_id: &str,
        whose: SessionId,
        now: Instant,
    ) -> Option<Zeroizing<String>> {
        self.forget(now);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key_id)?.whose != whose {
            return None;
        }
        all.remove(key_id).map(|waiting| waiting.secret)
    }

    fn forget(&self, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, waiting| now.saturating_duration_since(waiting.since) < PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_101_a_key_is_shown_once_to_its_maker_and_within_a_minute() {
        let (reveals, begin) = (Reveals::default(), Instant::now());
        let [mine, other] = [1, 2].map(|n| SessionId::of(&[n]));
        let secret = || Zeroizing::new("pm_secret".to_owned());
        reveals.put("k", secret(), mine, begin);
        assert!(reveals.take("other", mine, begin).is_none());
        assert!(reveals.take("k", other, begin).is_none());
        assert!(reveals.take("k", mine, begin).is_some_and(|shown| *shown == "pm_secret"));
        assert!(reveals.take("k", mine, begin).is_none(), "once");
        reveals.put("k", secret(), mine, begin);
        assert!(reveals.take("k", mine, begin + PATIENCE).is_none(), "too late");
        assert!(reveals.0.lock().unwrap().is_empty());
    }

    #[test]
    fn what_waits_has_a_bound() {
        let (reveals, begin) = (Reveals::default(), Instant::now());
        let mine = SessionId::of(b"x");
        for n in 0..u64::try_from(WAITING).unwrap() + 1 {
            let now = begin + Duration::from_millis(n);
            reveals.put(&n.to_string(), Zeroizing::new(String::new()), mine, now);
        }
        assert!(reveals.take("0", mine, begin).is_none());
        assert!(reveals.take("1", mine, begin).is_some());
    }
}
