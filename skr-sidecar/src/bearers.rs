//! The identity's tokens, kept until shortly before they end, and fetched once however many wait.
//!
//! The metadata service throttles, and every release needs a token. A token that a vault does not accept any more is
//! forgotten at once. Must not know whom a token is sent to: `vault_hosts` decides that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::identity::{IdentityError, Issued, Source};
use crate::secret::Bearer;

/// A token is not used in the last minutes of its life: what it is sent with takes time, and clocks differ.
const MARGIN: Duration = Duration::from_secs(300);

/// The longest that a token is kept, however long it lives.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Tokens of one identity.
pub(crate) struct Bearers {
    identity: Arc<Source>,
    /// One place a resource; there are as many as there are clouds and kinds of vaults.
    places: Lock<BTreeMap<&'static str, Arc<Mutex<Place>>>>,
}

/// What is known of one resource's token. Held while it is fetched.
#[derive(Default)]
struct Place {
    kept: Option<Kept>,
    failed: Option<(Instant, Arc<IdentityError>)>,
}

#[derive(Clone)]
struct Kept {
    bearer: Arc<Bearer>,
    fetched: Instant,
    end: Instant,
}

/// A token to use.
pub(crate) struct Lent {
    /// The token.
    pub(crate) bearer: Arc<Bearer>,
    /// Whether it was at hand before it was asked for: it may have been withdrawn since it was fetched.
    pub(crate) was_kept: bool,
}

impl Bearers {
    /// Those of `identity`.
    pub(crate) fn new(identity: Source) -> Self {
        Self { identity: Arc::new(identity), places: Lock::default() }
    }

    /// A token for `resource`.
    pub(crate) async fn lend(&self, resource: &'static str) -> Result<Lent, Arc<IdentityError>> {
        let asked = Instant::now();
        let (identity, place) = (self.identity.clone(), self.place(resource));
        // A task of its own: a caller who goes away does not take what the others wait for along.
        let turn = tokio::spawn(async move {
            let mut place = place.lock().await;
            if let Some(answer) = place.answer(asked) {
                return answer;
            }
            place.take_in(identity.token(resource).await);
            place.answer(asked).unwrap_or_else(|| Err(Arc::new(IdentityError::Interrupted)))
        });
        turn.await.unwrap_or_else(|_| Err(Arc::new(IdentityError::Interrupted)))
    }

    /// A vault did not accept this token.
    pub(crate) async fn forget(&self, resource: &'static str, bearer: &Arc<Bearer>) {
        let place = self.place(resource);
        let mut place = place.lock().await;
        // Somebody else may have noticed first, and fetched another.
        if place.kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.bearer, bearer)) {
            place.kept = None;
        }
    }

    fn place(&self, resource: &'static str) -> Arc<Mutex<Place>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(resource).or_default().clone()
    }
}

impl Place {
    /// What there is for a caller who asked then: a token that is good still, or whatever a turn brought that ended
    /// after they asked.
    fn answer(&self, asked: Instant) -> Option<Result<Lent, Arc<IdentityError>>> {
        let good = |kept: &&Kept| asked < kept.end || asked <= kept.fetched;
        if let Some(kept) = self.kept.as_ref().filter(good) {
            let was_kept = kept.fetched < asked;
            return Some(Ok(Lent { bearer: kept.bearer.clone(), was_kept }));
        }
        let failed = self.failed.as_ref().filter(|(when, _)| asked <= *when);
        failed.map(|(_, error)| Err(error.clone()))
    }

    fn take_in(&mut self, outcome: Result<Issued, IdentityError>) {
        let now = Instant::now();
        (self.kept, self.failed) = match outcome {
            Ok(Issued { bearer, expires_in }) => {
                let end = now + expires_in.saturating_sub(MARGIN).min(LONGEST);
                (Some(Kept { bearer: Arc::new(bearer), fetched: now, end }), None)
            }
            Err(error) => (None, Some((now, Arc::new(error)))),
        };
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn issued(seconds: u64) -> Result<Issued, IdentityError> {
        let bearer = Bearer::new(Zeroizing::new("a.b.c".to_owned())).ok().unwrap();
        Ok(Issued { bearer, expires_in: Duration::from_secs(seconds) })
    }

    fn place(seconds: u64) -> Place {
        let mut place = Place::default();
        place.take_in(issued(seconds));
        place
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_until_five_minutes_before_its_end() {
        for (life, used) in [(3600, 3300), (301, 1), (90_000_000, 24 * 3600)] {
            let place = place(life);
            tokio::time::advance(Duration::from_secs(used) - Duration::from_millis(1)).await;
            let lent = place.answer(Instant::now()).unwrap().ok().unwrap();
            assert!(lent.was_kept, "{life}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(place.answer(Instant::now()).is_none(), "{life}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_one_serves_those_who_waited_for_it_and_nobody_else() {
        let before = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        let place = place(10);
        assert!(!place.answer(before).unwrap().ok().unwrap().was_kept);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(place.answer(Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_those_who_waited_and_not_kept() {
        let before = Instant::now();
        let mut place = place(10_000);
        place.take_in(Err(IdentityError::NoToken));
        assert!(place.answer(before).unwrap().is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(place.answer(Instant::now()).is_none());
        place.take_in(issued(10_000));
        assert!(place.answer(before).unwrap().is_ok());
    }
}
