//! What was done through the admin pages and their API, and by whom: an event of the log for each, which is sealed like every
//! log, and the newest ones in memory for the page that shows them.
//!
//! Sessions are named by the beginning of their digest. Nothing here is a credential, and no text that somebody typed is
//! kept, so that none can be.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use super::session::SessionId;

/// Actions that are kept for the page, and as many logins beside them: whoever fails to log in often cannot push the
/// actions out.
const KEPT: usize = 500;

/// What was done: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    LoggedIn,
    WrongPassword,
    LockedOut,
    LoggedOut,
    KeyCreated,
    KeyRevoked,
    KeyEnabled,
    KeyChanged,
    KeyRotated,
    KeyDeleted,
    SettingsChanged,
    UsageExported,
    LiveViewOpened,
    LiveViewEnded,
}

impl Action {
    /// Its name in the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LoggedIn => "login",
            Self::WrongPassword => "login.wrong_password",
            Self::LockedOut => "login.locked_out",
            Self::LoggedOut => "logout",
            Self::KeyCreated => "key.create",
            Self::KeyRevoked => "key.revoke",
            Self::KeyEnabled => "key.enable",
            Self::KeyChanged => "key.change",
            Self::KeyRotated => "key.rotate",
            Self::KeyDeleted => "key.delete",
            Self::SettingsChanged => "settings.change",
            Self::UsageExported => "usage.export",
            Self::LiveViewOpened => "logs.watch",
            Self::LiveViewEnded => "logs.watch_end",
        }
    }

    /// For people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::LoggedIn => "Logged in",
            Self::WrongPassword => "Wrong password",
            Self::LockedOut => "Locked out after too many wrong passwords",
            Self::LoggedOut => "Logged out",
            Self::KeyCreated => "Key made",
            Self::KeyRevoked => "Key revoked",
            Self::KeyEnabled => "Key enabled",
            Self::KeyChanged => "Key changed",
            Self::KeyRotated => "Key rotated",
            Self::KeyDeleted => "Key deleted",
            Self::SettingsChanged => "Rate limits changed",
            Self::UsageExported => "Usage downloaded",
            Self::LiveViewOpened => "Live log opened",
            Self::LiveViewEnded => "Live log ended",
        }
    }

    fn is_of_a_login(self) -> bool {
        matches!(self, Self::LoggedIn | Self::WrongPassword | Self::LockedOut | Self::LoggedOut)
    }
}

/// Something that was done.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Unix seconds.
    pub(super) at: u64,
    pub(super) action: Action,
    /// The beginning of the session's digest; empty before there is one.
    pub(super) session: String,
    pub(super) address: IpAddr,
    /// The key that it was done to; empty for none.
    pub(super) key_id: String,
    /// What was changed or asked for: names of fields, and values of ours; never what somebody typed.
    pub(super) fields: String,
}

/// The newest entries.
#[derive(Default)]
pub(super) struct Audit(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    actions: VecDeque<(u64, Entry)>,
    logins: VecDeque<(u64, Entry)>,
    count: u64,
}

impl Audit {
    /// Writes down what was done.
    pub(super) fn record(
        &self,
        action: Action,
        session: Option<SessionId>,
        address: IpAddr,
        key_id: &str,
        fields: &str,
    ) {
        let entry = Entry {
            at: service::clock::unix_now(),
            action,
            session: session.map(SessionId::short).unwrap_or_default(),
            address,
            key_id: key_id.to_owned(),
            fields: fields.to_owned(),
        };
        tracing::info!(
            action = action.name(),
            session = entry.session,
            %address,
            key_id,
            fields,
            "an admin action"
        );
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.count += 1;
        let number = kept.count;
        let queue = if action.is_of_a_login() { &mut kept.logins } else { &mut kept.actions };
        if queue.len() >= KEPT {
            queue.pop_front();
        }
        queue.push_back((number, entry));
    }

    /// The newest first.
    pub(super) fn newest(&self) -> Vec<Entry> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = kept.actions.iter().chain(&kept.logins).cloned().collect();
        all.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        all.into_iter().take(KEPT).map(|(_, entry)| entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_newest_come_first_and_logins_cannot_push_actions_out() {
        let audit = Audit::default();
        let session = Some(SessionId::of(b"x"));
        audit.record(Action::KeyCreated, session, HERE, "key_1", "");
        for _ in 0..KEPT * 2 {
            audit.record(Action::WrongPassword, None, HERE, "", "");
        }
        audit.record(Action::KeyRevoked, session, HERE, "key_1", "");
        let newest = audit.newest();
        assert_eq!(newest.len(), KEPT);
        assert_eq!(newest[0].action, Action::KeyRevoked);
        assert_eq!(newest[0].session.len(), 8);
        let kept = audit.0.lock().unwrap();
        assert_eq!((kept.actions.len(), kept.logins.len()), (2, KEPT));
    }
}
