//! The keys that instances of Azure Attestation sign tokens with, as each publishes them at `/certs`: kept in memory
//! until they are due, fetched once however many wait.
//!
//! Source: RFC 7517 (JSON Web Key Sets); RFC 9111 section 5.2.2.1 (`max-age`). The instance vouches for its set by its
//! TLS certificate. Must not know: tokens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use attestation::maa::{Issuer, Jwks, JwksError, MAX_JWKS};
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use service::outbound::{Call, Limits, Outbound, OutboundError};
use service::roots::Roots;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

/// A token waits for the keys: what the two may take together stays below the bound of a caller's question.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(5),
    attempt: Duration::from_secs(3),
    attempts: 2,
    answer: MAX_JWKS,
};

/// Instances whose keys are kept; the one that was asked for longest ago goes first.
const KEPT: usize = 8;

/// How long a set is good for that says nothing about it.
const USUAL: Duration = Duration::from_secs(3600);

/// The longest that a set is good for, whatever it says, and also if no newer one can be had.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The shortest time between two questions for a set that is at hand.
const PAUSE: Duration = Duration::from_secs(60);

/// Why there are no keys.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The instance does not give them.
    #[error("its keys, which it publishes at /certs, cannot be had")]
    Call(#[source] Arc<OutboundError>),
    /// What it gives is no set of keys.
    #[error("what it publishes at /certs cannot be used")]
    Syntax(#[source] JwksError),
    /// The task that asked has ended early.
    #[error("its keys, which it publishes at /certs, were asked for in vain")]
    Gone,
}

impl KeysError {
    /// Whether they may be had a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Call(error) => error.is_transient(),
            Self::Gone => true,
            Self::Syntax(_) => false,
        }
    }
}

/// The keys of every instance that was asked for. Clones share them.
#[derive(Clone)]
pub(crate) struct Keys {
    outbound: Outbound,
    kept: Arc<Lock<Places>>,
}

/// The instance that was asked for last stands first.
type Places = VecDeque<(Url, Arc<Place>)>;

/// One instance's place. Held while its set is fetched.
type Place = Mutex<Known>;

/// What is known of one instance.
#[derive(Default)]
struct Known {
    kept: Option<Kept>,
    failed: Option<(Instant, KeysError)>,
}

struct Kept {
    issuer: Arc<Issuer>,
    due: Instant,
    end: Instant,
    asked: Instant,
}

impl Keys {
    pub(crate) fn new(roots: &Roots) -> Self {
        Self { outbound: Outbound::new("MAA", roots, LIMITS), kept: Arc::default() }
    }

    /// The keys of an instance.
    pub(crate) async fn of(&self, instance: &Url) -> Result<Arc<Issuer>, KeysError> {
        self.get(instance, None).await
    }

    /// Keys that are newer than these, for a token whose key is not among them; the same ones if they were asked for
    /// a moment ago.
    pub(crate) async fn newer(
        &self,
        instance: &Url,
        than: &Arc<Issuer>,
    ) -> Result<Arc<Issuer>, KeysError> {
        self.get(instance, Some(than.clone())).await
    }

    async fn get(
        &self,
        instance: &Url,
        stale: Option<Arc<Issuer>>,
    ) -> Result<Arc<Issuer>, KeysError> {
        let asked = Instant::now();
        let place = self.place(instance);
        let (outbound, instance) = (self.outbound.clone(), instance.clone());
        // A task of its own: a caller who goes away does not take what the others wait for along.
        let turn = tokio::spawn(async move {
            let mut known = place.lock().await;
            if let Some(answer) = known.answer(asked, stale.as_ref()) {
                return answer;
            }
            let fetched = fetched(&outbound, &instance, &mut known.kept).await;
            known.failed = fetched.as_ref().err().map(|error| (Instant::now(), error.clone()));
            fetched
        });
        turn.await.unwrap_or(Err(KeysError::Gone))
    }

    fn place(&self, instance: &Url) -> Arc<Place> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(of, _)| of == instance);
        let found = at.and_then(|at| kept.remove(at));
        let (url, place) = found.unwrap_or_else(|| (instance.clone(), Arc::default()));
        kept.push_front((url, place.clone()));
        kept.truncate(KEPT);
        place
    }
}

impl Known {
    /// What there is for a caller who asked then: keys that serve, or the failure of a turn that ended after they asked.
    fn answer(
        &self,
        asked: Instant,
        stale: Option<&Arc<Issuer>>,
    ) -> Option<Result<Arc<Issuer>, KeysError>> {
        if let Some(kept) = self.kept.as_ref().filter(|kept| kept.serves(stale)) {
            return Some(Ok(kept.issuer.clone()));
        }
        let failed = self.failed.as_ref().filter(|(when, _)| asked <= *when);
        failed.map(|(_, error)| Err(error.clone()))
    }
}

impl Kept {
    /// Whether nobody need be asked: the set is not due, and it is not one in which a key was missed, unless that was
    /// asked for a moment ago.
    fn serves(&self, stale: Option<&Arc<Issuer>>) -> bool {
        let now = Instant::now();
        let missed = stale.is_some_and(|stale| Arc::ptr_eq(stale, &self.issuer));
        let asked_just_now = now < self.asked + PAUSE;
        now < self.end && if missed { asked_just_now } else { now < self.due || asked_just_now }
    }
}

/// Asks the instance. A set that is at hand serves on if the instance has none, for as long as it may.
async fn fetched(
    outbound: &Outbound,
    instance: &Url,
    kept: &mut Option<Kept>,
) -> Result<Arc<Issuer>, KeysError> {
    let asked = Instant::now();
    match ask(outbound, instance).await {
        Ok((issuer, good)) => {
            let issuer = Arc::new(issuer);
            let (due, end) = (asked + good, asked + LONGEST);
            *kept = Some(Kept { issuer: issuer.clone(), due, end, asked });
            Ok(issuer)
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no keys of MAA");
            let old = kept.as_mut().filter(|kept| asked < kept.end).ok_or(error)?;
            old.asked = asked;
            Ok(old.issuer.clone())
        }
    }
}

async fn ask(outbound: &Outbound, instance: &Url) -> Result<(Issuer, Duration), KeysError> {
    let mut url = instance.clone();
    url.set_path("/certs");
    let answer = outbound.repeatedly(&Call::get(url)).await;
    let answer = answer.map_err(|error| KeysError::Call(Arc::new(error)))?;
    let keys = Jwks::parse(&answer.body).map_err(KeysError::Syntax)?;
    let url = instance.as_str().trim_end_matches('/').to_owned();
    Ok((Issuer::new(url, keys), good_for(&answer.headers)))
}

/// How long an answer is good for.
fn good_for(headers: &HeaderMap) -> Duration {
    let directives = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let age = directives
        .flat_map(|value| value.split(','))
        .find_map(|directive| directive.trim().strip_prefix("max-age=")?.parse().ok());
    age.map_or(USUAL, Duration::from_secs).clamp(PAUSE, LONGEST)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_good_for_within_bounds() {
        for (value, seconds) in [
            ("max-age=7200", 7200),
            ("public, max-age=7200", 7200),
            ("max-age=0", 60),
            ("no-store", 3600),
            ("max-age=x", 3600),
            ("max-age=18446744073709551615", 86_400),
        ] {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.clone())]);
            assert_eq!(good_for(&headers), Duration::from_secs(seconds), "{value:?}");
        }
        assert_eq!(good_for(&HeaderMap::new()), USUAL);
    }

    fn kept() -> Kept {
        let issuer = Issuer::new(String::new(), Jwks::parse(br#"{"keys":[]}"#).unwrap());
        let now = Instant::now();
        Kept { issuer: Arc::new(issuer), due: now + USUAL, end: now + LONGEST, asked: now }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_asked_for_when_due_or_missed_and_never_twice_in_a_minute() {
        let mut kept = kept();
        let mine = kept.issuer.clone();
        assert!(kept.serves(None));
        assert!(kept.serves(Some(&mine)), "they were asked for just now");
        tokio::time::advance(PAUSE).await;
        assert!(kept.serves(None));
        assert!(!kept.serves(Some(&mine)), "a key was missed in them");
        assert!(kept.serves(Some(&self::kept().issuer)), "it was missed in older ones");
        tokio::time::advance(USUAL).await;
        assert!(!kept.serves(None), "they are due");
        kept.asked = Instant::now();
        assert!(kept.serves(None), "the instance had none a moment ago");
        tokio::time::advance(LONGEST).await;
        kept.asked = Instant::now();
        assert!(!kept.serves(None), "they are too old whatever the instance says");
    }

    #[tokio::test]
    async fn no_more_instances_are_kept_than_the_bound() {
        let keys = Keys::new(&Roots::public());
        let url = |n: usize| format!("https://i{n}.eus.attest.azure.net/").parse::<Url>().unwrap();
        let first = keys.place(&url(0));
        for n in 1..KEPT {
            keys.place(&url(n));
        }
        assert!(Arc::ptr_eq(&first, &keys.place(&url(0))), "it is kept");
        for n in KEPT..2 * KEPT {
            keys.place(&url(n));
        }
        assert_eq!(keys.kept.lock().unwrap().len(), KEPT);
        assert!(!Arc::ptr_eq(&first, &keys.place(&url(0))), "it went");
    }

    /// An instance that gives these answers, one a connection, and counts them.
    async fn instance(answers: Vec<String>) -> (Url, Arc<std::sync::atomic::AtomicUsize>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(read > 0);
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, asked)
    }

    fn said(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }

    #[tokio::test]
    async fn many_who_wait_ask_once_and_one_who_leaves_changes_nothing() {
        let (url, asked) = instance(vec![said("200 OK", r#"{"keys":[]}"#)]).await;
        let keys = Keys::new(&Roots::public());
        let leaves = futures_util::FutureExt::now_or_never(keys.of(&url));
        assert!(leaves.is_none());
        let all = futures_util::future::join_all((0..20).map(|_| keys.of(&url))).await;
        assert!(all.iter().all(Result::is_ok));
        let known = all.into_iter().flatten().next().unwrap();
        let newer = keys.newer(&url, &known).await.unwrap();
        assert!(Arc::ptr_eq(&known, &newer), "they were asked for just now");
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn keys_at_hand_serve_on_while_the_instance_has_none() {
        let answers = [said("404 Not Found", "")];
        let (url, asked) = instance(answers.into()).await;
        let outbound = Keys::new(&Roots::public()).outbound;
        let mut none = None;
        assert!(matches!(fetched(&outbound, &url, &mut none).await, Err(KeysError::Call(_))));
        assert!(none.is_none());
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);

        let (url, _) = instance(vec![said("404 Not Found", ""), said("200 OK", "no set")]).await;
        let mut mine = Some(kept());
        let issuer = mine.as_ref().unwrap().issuer.clone();
        for _ in 0..2 {
            let served = fetched(&outbound, &url, &mut mine).await.unwrap();
            assert!(Arc::ptr_eq(&served, &issuer));
        }
    }

    /// Else those whose callers have long gone would stand in a row, and ask one after the other.
    #[tokio::test]
    async fn a_failure_is_told_to_all_who_waited_for_it_and_to_nobody_else() {
        let (url, asked) = instance(vec![said("404 Not Found", ""); 3]).await;
        let asked = || asked.load(std::sync::atomic::Ordering::Relaxed);
        let keys = Keys::new(&Roots::public());
        let all = futures_util::future::join_all((0..20).map(|_| keys.of(&url))).await;
        assert!(all.iter().all(|one| matches!(one, Err(KeysError::Call(_)))));
        assert_eq!(asked(), 1);
        assert!(keys.of(&url).await.is_err());
        assert_eq!(asked(), 2, "it is not kept");
    }
}
