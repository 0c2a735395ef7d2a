//! Who is logged in: tokens of 256 random bits, kept by their digests only (`proxy.md` cases 95 and 98).
//!
//! A session is good for a day, from the address that began it, and ends with the process. Times are monotonic: the wall
//! clock is the host's. Must not know how somebody proves who they are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use attestation::crypto::sha256;
use attestation::encoding::to_b64u;
use zeroize::Zeroizing;

use super::bound::Bound;
use super::csrf::random;

/// How long a session lasts.
pub(super) const LIFETIME: Duration = Duration::from_secs(86_400);

/// Sessions at once. One more ends the oldest.
const SESSIONS: usize = 1_000;

/// The digest of a session's token: who knows it cannot make the token from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; 32]);

impl SessionId {
    /// Of this token.
    pub(super) fn of(token: &[u8]) -> Self {
        Self(sha256(token))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Enough of it to tell sessions apart in the audit log.
    pub(super) fn short(self) -> String {
        hex::encode(self.0).chars().take(8).collect()
    }
}

/// What is known of a session that goes on.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) id: SessionId,
    /// Where it began and has to stay.
    pub(super) address: IpAddr,
    /// Unix seconds, for people to read.
    pub(super) began: u64,
    /// The evidence of the moment it began.
    pub(super) bound: Option<Arc<Bound>>,
}

struct Session {
    open: Open,
    begin: Instant,
    /// What the next page has to say about the last form.
    said: Option<String>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<SessionId, Session>>);

impl Sessions {
    /// Begins one, and returns its token.
    pub(super) fn begin(
        &self,
        address: IpAddr,
        bound: Option<Bound>,
        now: Instant,
    ) -> (Zeroizing<String>, Open) {
        let mut bytes = Zeroizing::new([0; 32]);
        random(&mut *bytes);
        let token = Zeroizing::new(to_b64u(&*bytes));
        let id = SessionId::of(token.as_bytes());
        let began = service::clock::unix_now();
        let open = Open { id, address, began, bound: bound.map(Arc::new) };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| session.lasts(now));
        if all.len() >= SESSIONS
            && let Some(oldest) = all.values().min_by_key(|session| session.begin)
        {
            let oldest = oldest.open.id;
            all.remove(&oldest);
        }
        all.insert(id, Session { open: open.clone(), begin: now, said: None });
        (token, open)
    }

    /// The session of a token that comes from this address.
    pub(super) fn find(&self, token: &str, address: IpAddr, now: Instant) -> Option<Open> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = all.get(&SessionId::of(token.as_bytes()))?;
        let holds = session.lasts(now) && session.open.address == address;
        holds.then(|| session.open.clone())
    }

    /// Whether it goes on.
    pub(super) fn is_open(&self, id: SessionId, now: Instant) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&id).is_some_and(|session| session.lasts(now))
    }

    /// Ends one.
    pub(super) fn end(&self, id: SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Ends all of them.
    pub(super) fn end_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Leaves something for the session's next page to say.
    pub(super) fn say(&self, id: SessionId, text: impl Into<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = all.get_mut(&id) {
            session.said = Some(text.into());
        }
    }

    /// What there is to say, once.
    pub(super) fn said(&self, id: SessionId) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(&id)?.said.take()
    }
}

impl Session {
    fn lasts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begin) < LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn case_98_a_session_is_for_its_address_and_lasts_a_day() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let (token, open) = sessions.begin(HERE, None, begin);
        assert!(sessions.find(&token, HERE, begin).is_some_and(|found| found.id == open.id));
        assert!(sessions.find(&token, [127, 0, 0, 2].into(), begin).is_none());
        assert!(sessions.find("", HERE, begin).is_none());
        assert!(sessions.find(&token, HERE, begin + LIFETIME - Duration::from_secs(1)).is_some());
        assert!(sessions.find(&token, HERE, begin + LIFETIME).is_none());
        assert!(sessions.is_open(open.id, begin) && !sessions.is_open(open.id, begin + LIFETIME));
        sessions.end(open.id);
        sessions.end(open.id);
        assert!(sessions.find(&token, HERE, begin).is_none() && !sessions.is_open(open.id, begin));
        let (token, _) = sessions.begin(HERE, None, begin);
        sessions.end_all();
        assert!(sessions.find(&token, HERE, begin).is_none());
    }

    #[test]
    fn sessions_have_a_bound_and_the_oldest_ends() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let (first, _) = sessions.begin(HERE, None, begin);
        let (second, _) = sessions.begin(HERE, None, begin + Duration::from_secs(1));
        for n in 0..SESSIONS - 1 {
            sessions.begin(HERE, None, begin + Duration::from_secs(2 + n as u64));
        }
        let now = begin + Duration::from_secs(5);
        assert!(sessions.find(&first, HERE, now).is_none());
        assert!(sessions.find(&second, HERE, now).is_some());
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS);
    }

    #[test]
    fn what_is_said_is_said_once() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (_, open) = sessions.begin(HERE, None, now);
        sessions.say(open.id, "saved");
        assert_eq!(sessions.said(open.id).as_deref(), Some("saved"));
        assert_eq!(sessions.said(open.id), None);
    }
}
