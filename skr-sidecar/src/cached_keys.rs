//! Released keys that are kept for a while, for callers who ask for that.
//!
//! A key that is kept is answered without asking the vault again, so a vault that says no in the meantime is heard
//! late: the caller chooses by how much. Keys stay in memory that is zeroed, and go by themselves when their time is
//! up. Nothing is kept of a release with a caller's own access token: another caller may not have its right.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Lock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::host::Host;
use crate::key::Jwk;
use crate::kid::KeyId;

/// The longest that a key is kept, however long a caller would have it kept.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);

/// Keys that are kept; the one that was asked for longest ago goes first.
const KEPT: usize = 16;

/// What a release is for: two requests that differ in any of it have keys of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    /// Which vault.
    pub(crate) vault: Host,
    /// Which key.
    pub(crate) kid: KeyId,
    /// Which MAA instance; `None`: that of `attest-sidecar`.
    pub(crate) maa: Option<Host>,
    /// SHA-256 of the release policy that was expected, as it was written; `None`: none was.
    pub(crate) policy_sha256: Option<[u8; 32]>,
}

/// The keys.
#[derive(Default)]
pub(crate) struct CachedKeys(Lock<VecDeque<(Id, Arc<Place>)>>);

/// One key's place. Held while it is released, so that it is released once however many wait.
type Place = Mutex<Option<Kept>>;

struct Kept {
    jwk: Jwk,
    since: Instant,
    until: Instant,
}

impl CachedKeys {
    /// The key that was released for the same at most `keep` ago and is still kept, or else what `release` brings,
    /// kept for as long.
    pub(crate) async fn get<E>(
        &self,
        id: Id,
        keep: Duration,
        release: impl Future<Output = Result<Jwk, E>>,
    ) -> Result<Jwk, E> {
        let keep = keep.min(LONGEST);
        let place = self.place(id);
        let mut kept = place.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.serves(keep)) {
            return Ok(kept.jwk.copy());
        }
        let jwk = release.await?;
        let since = Instant::now();
        let until = since + keep;
        *kept = Some(Kept { jwk: jwk.copy(), since, until });
        tokio::spawn(drop_at(until, Arc::downgrade(&place)));
        Ok(jwk)
    }

    fn place(&self, id: Id) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = places.iter().position(|(of, _)| *of == id);
        let (id, place) =
            at.and_then(|at| places.remove(at)).unwrap_or_else(|| (id, Arc::default()));
        places.push_front((id, place.clone()));
        places.truncate(KEPT);
        place
    }
}

impl Kept {
    fn serves(&self, keep: Duration) -> bool {
        let now = Instant::now();
        now < self.until && now < self.since + keep
    }
}

/// Drops what is kept in a place when its time is up, unless it was replaced by then.
async fn drop_at(until: Instant, place: Weak<Place>) {
    tokio::time::sleep_until(until).await;
    let Some(place) = place.upgrade() else { return };
    let mut kept = place.lock().await;
    if kept.as_ref().is_some_and(|kept| kept.until <= until) {
        *kept = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::key::Published;

    fn id(kid: &str) -> Id {
        let vault = "v.vault.azure.net".parse().unwrap();
        Id { vault, kid: kid.parse().unwrap(), maa: None, policy_sha256: None }
    }

    fn jwk() -> Jwk {
        let published: Published =
            serde_json::from_value(serde_json::json!({"kty": "oct"})).unwrap();
        Jwk::new(&published, &[7; 16]).unwrap()
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[derive(Default)]
    struct Releases(AtomicU32);

    impl Releases {
        async fn one(&self) -> Result<Jwk, ()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(jwk())
        }

        fn so_far(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_answered_again_no_longer_than_both_callers_want() {
        let (keys, releases) = (CachedKeys::default(), Releases::default());
        let get = async |keep| keys.get(id("k"), seconds(keep), releases.one()).await;
        for (advance, keep, so_far) in [
            (0, 60, 1),
            (59, 60, 1),
            (0, 300, 1),
            (0, 30, 2), // too old for this caller, who has it anew and kept for 30 s
            (29, 300, 2),
            (1, 300, 3), // the one before had it kept for 30 s
            (299, 10_000, 3),
            (1, 10_000, 4), // kept for 300 s, whatever is asked
        ] {
            tokio::time::advance(seconds(advance)).await;
            assert_eq!(get(keep).await.unwrap().as_str(), jwk().as_str());
            assert_eq!(releases.so_far(), so_far, "{advance} {keep}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_goes_by_itself() {
        let (keys, releases) = (CachedKeys::default(), Releases::default());
        keys.get(id("k"), seconds(60), releases.one()).await.unwrap();
        let place = keys.place(id("k"));
        assert!(place.lock().await.is_some());
        tokio::time::sleep(seconds(61)).await;
        assert!(place.lock().await.is_none(), "nobody had to ask");
    }

    #[tokio::test]
    async fn many_who_wait_have_it_released_once_and_a_failure_is_not_kept() {
        let (keys, releases) = (CachedKeys::default(), Releases::default());
        let refused = keys.get(id("k"), seconds(60), std::future::ready(Err(()))).await;
        assert!(refused.is_err());
        let all = (0..20).map(|_| keys.get(id("k"), seconds(60), releases.one()));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
        assert_eq!(releases.so_far(), 1);
    }

    #[tokio::test]
    async fn what_differs_has_a_key_of_its_own_and_there_is_a_bound() {
        let (keys, releases) = (CachedKeys::default(), Releases::default());
        let other_maa = Id { maa: "m.test".parse().ok(), ..id("k") };
        let other_policy = Id { policy_sha256: Some([1; 32]), ..id("k") };
        let other_vault = Id { vault: "w.vault.azure.net".parse().unwrap(), ..id("k") };
        let all = [id("k"), id("k/1"), other_maa, other_policy, other_vault];
        for _ in 0..2 {
            for id in &all {
                keys.get(id.clone(), seconds(60), releases.one()).await.unwrap();
            }
        }
        assert_eq!(releases.so_far(), 5);
        for n in 0..2 * KEPT {
            keys.get(id(&format!("n{n}")), seconds(60), releases.one()).await.unwrap();
        }
        assert_eq!(keys.0.lock().unwrap().len(), KEPT);
    }
}
