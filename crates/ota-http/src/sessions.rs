//! Browser sessions: made from a token, kept in memory, ended by idleness, age, log-out or the end of their token.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ota_core::Sha256Digest;

use crate::config::SessionLimits;

/// More sessions than that push out the one that was idle longest.
const MOST: usize = 256;

/// All sessions, by the digest of their cookie. Times are monotonic.
pub(crate) struct Sessions {
    limits: SessionLimits,
    open: Mutex<HashMap<Sha256Digest, Session>>,
}

#[derive(Clone, Copy)]
struct Session {
    token: Sha256Digest,
    made: Duration,
    used: Duration,
}

impl Sessions {
    pub(crate) fn new(limits: SessionLimits) -> Self {
        Self { limits, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Sha256Digest, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one under the text of its cookie.
    pub(crate) fn add(&self, cookie: &str, token: Sha256Digest, now: Duration) {
        let mut open = self.open();
        open.retain(|_, session| self.holds(session, now));
        if open.len() >= MOST
            && let Some(oldest) =
                open.iter().min_by_key(|(_, session)| session.used).map(|(digest, _)| *digest)
        {
            open.remove(&oldest);
        }
        open.insert(Sha256Digest::of(cookie.as_bytes()), Session { token, made: now, used: now });
    }

    /// The token that opened it, if it holds; counts as use.
    pub(crate) fn token(&self, cookie: &str, now: Duration) -> Option<Sha256Digest> {
        let digest = Sha256Digest::of(cookie.as_bytes());
        let mut open = self.open();
        let session = open.get_mut(&digest)?;
        if !self.holds(session, now) {
            open.remove(&digest);
            return None;
        }
        session.used = now;
        Some(session.token)
    }

    /// Ends one.
    pub(crate) fn end(&self, cookie: &str) {
        self.open().remove(&Sha256Digest::of(cookie.as_bytes()));
    }

    fn holds(&self, session: &Session, now: Duration) -> bool {
        now.saturating_sub(session.used) < self.limits.idle
            && now.saturating_sub(session.made) < self.limits.absolute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_ends_by_idleness_by_age_and_by_log_out() {
        let sessions = Sessions::new(SessionLimits { idle: MINUTE * 10, absolute: MINUTE * 25 });
        let token = Sha256Digest::of(b"t");
        sessions.add("idle", token, Duration::ZERO);
        assert_eq!(sessions.token("idle", MINUTE * 9), Some(token));
        assert_eq!(sessions.token("idle", MINUTE * 19), None);
        sessions.add("old", token, Duration::ZERO);
        for minute in [9, 18, 24] {
            assert!(sessions.token("old", MINUTE * minute).is_some());
        }
        assert_eq!(sessions.token("old", MINUTE * 25), None);
        sessions.add("out", token, Duration::ZERO);
        sessions.end("out");
        assert_eq!(sessions.token("out", Duration::ZERO), None);
    }

    #[test]
    fn sessions_do_not_grow_without_bound() {
        let sessions = Sessions::new(SessionLimits::default());
        for n in 0..MOST + 10 {
            sessions.add(&n.to_string(), Sha256Digest::of(b"t"), Duration::from_millis(n as u64));
        }
        assert_eq!(sessions.open().len(), MOST);
        assert!(sessions.token("0", MINUTE).is_none());
    }
}
