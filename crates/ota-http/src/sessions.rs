//! Browser sessions: made from a token, ended by idleness, age, log-out or the end of their token. A restart of the gateway,
//! which every update brings, does not end them: their digests are kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ota_core::{
    Sha256Digest, Timestamp,
    error::PortError,
    ports::{Clock, Settings},
};
use serde::{Deserialize, Serialize};

use crate::config::SessionLimits;

/// More sessions than that push out the one that was idle longest.
const MOST: usize = 256;
/// Where they are kept: JSON of [`Kept`], digests only.
const KEPT: &str = "http.sessions";

/// All sessions, by the digest of their cookie.
pub(crate) struct Sessions {
    limits: SessionLimits,
    settings: Arc<dyn Settings>,
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<Sha256Digest, Session>>,
    /// Held while they are written, so that an older list never replaces a newer one.
    keeping: Mutex<()>,
}

/// Times are monotonic, of this run.
#[derive(Clone, Copy)]
struct Session {
    token: Sha256Digest,
    made: Duration,
    used: Duration,
    /// How old it was when this run began.
    before: Duration,
    /// For how long it had not been used then; nothing once it is used in this run.
    unused_before: Duration,
}

impl Session {
    fn age(&self, now: Duration) -> Duration {
        self.before.saturating_add(now.saturating_sub(self.made))
    }

    fn idle(&self, now: Duration) -> Duration {
        self.unused_before.saturating_add(now.saturating_sub(self.used))
    }
}

/// What is kept of them.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    at: Timestamp,
    sessions: Vec<KeptSession>,
}

#[derive(Serialize, Deserialize)]
struct KeptSession {
    cookie: Sha256Digest,
    token: Sha256Digest,
    /// Its age at that time.
    age: Duration,
    /// For how long it had not been used at that time.
    #[serde(default)]
    idle: Duration,
}

impl Sessions {
    /// Those that were kept and are neither too old nor idle for too long: a restart is no use of them. A wall clock that went
    /// back cannot tell their age: they are over. Blocking.
    pub(crate) fn restore(limits: SessionLimits, settings: Arc<dyn Settings>, clock: Arc<dyn Clock>) -> Self {
        let (wall, now) = (clock.wall(), clock.monotonic());
        let text = settings.value(KEPT).unwrap_or_else(|error| {
            tracing::warn!(error = error.chain(), "sessions of the last run cannot be read");
            None
        });
        let kept: Kept = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let sessions = Self { limits, settings, clock, open: Mutex::default(), keeping: Mutex::default() };
        let since = wall.since(kept.at);
        let known = kept.sessions.into_iter().filter(|_| kept.at <= wall).map(|one| {
            let (before, unused_before) = (one.age.saturating_add(since), one.idle.saturating_add(since));
            (one.cookie, Session { token: one.token, made: now, used: now, before, unused_before })
        });
        sessions.open().extend(known.filter(|(_, session)| sessions.holds(session, now)).take(MOST));
        sessions
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Sha256Digest, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one under the text of its cookie. Blocking. One that cannot be kept ends with this run.
    pub(crate) fn add(&self, cookie: &str, token: Sha256Digest) {
        let now = self.clock.monotonic();
        let mut open = self.open();
        open.retain(|_, session| self.holds(session, now));
        if open.len() >= MOST
            && let Some(oldest) =
                open.iter().max_by_key(|(_, session)| session.idle(now)).map(|(digest, _)| *digest)
        {
            open.remove(&oldest);
        }
        let (before, unused_before) = (Duration::ZERO, Duration::ZERO);
        let session = Session { token, made: now, used: now, before, unused_before };
        open.insert(Sha256Digest::of(cookie.as_bytes()), session);
        drop(open);
        if let Err(error) = self.keep() {
            tracing::warn!(error = error.chain(), "a session is not kept over a restart");
        }
    }

    /// The token that opened it, if it holds; counts as use.
    pub(crate) fn token(&self, cookie: &str) -> Option<Sha256Digest> {
        let (digest, now) = (Sha256Digest::of(cookie.as_bytes()), self.clock.monotonic());
        let mut open = self.open();
        let session = open.get_mut(&digest)?;
        if !self.holds(session, now) {
            open.remove(&digest);
            return None;
        }
        (session.used, session.unused_before) = (now, Duration::ZERO);
        Some(session.token)
    }

    /// Whether the one with a cookie of this digest holds. To be asked is no use of it.
    pub(crate) fn lives(&self, cookie: &Sha256Digest) -> bool {
        let now = self.clock.monotonic();
        self.open().get(cookie).is_some_and(|session| self.holds(session, now))
    }

    /// How long the one with a cookie of this digest holds at most, however much it is used.
    pub(crate) fn left(&self, cookie: &Sha256Digest) -> Option<Duration> {
        let now = self.clock.monotonic();
        self.open().get(cookie).map(|session| self.limits.absolute.saturating_sub(session.age(now)))
    }

    /// Ends one, for good once it returns. Blocking.
    ///
    /// # Errors
    /// Those of [`Settings`]: it has ended, but a restart would open it again.
    pub(crate) fn end(&self, cookie: &str) -> Result<(), PortError> {
        self.open().remove(&Sha256Digest::of(cookie.as_bytes()));
        self.keep()
    }

    /// Writes all of them down as they are now: whenever one comes or goes, and when the server stops. Blocking.
    ///
    /// # Errors
    /// Those of [`Settings`].
    pub(crate) fn keep(&self) -> Result<(), PortError> {
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let open = self.open();
        let sessions = open.iter().map(|(cookie, session)| KeptSession {
            cookie: *cookie,
            token: session.token,
            age: session.age(now),
            idle: session.idle(now),
        });
        let kept = Kept { at: self.clock.wall(), sessions: sessions.collect() };
        drop(open);
        let text = serde_json::to_string(&kept).ok().filter(|_| !kept.sessions.is_empty());
        self.settings.set_value(KEPT, text.as_deref())
    }

    fn holds(&self, session: &Session, now: Duration) -> bool {
        session.idle(now) < self.limits.idle && session.age(now) < self.limits.absolute
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ota_testkit::{FakeClock, MemJournal};

    const MINUTE: Duration = Duration::from_secs(60);

    struct Bench {
        clock: Arc<FakeClock>,
        store: Arc<MemJournal>,
    }

    impl Bench {
        fn new() -> Self {
            Self { clock: Arc::default(), store: Arc::default() }
        }

        /// As after a start of the daemon.
        fn start(&self, limits: SessionLimits) -> Sessions {
            Sessions::restore(
                limits,
                Arc::<MemJournal>::clone(&self.store),
                Arc::<FakeClock>::clone(&self.clock),
            )
        }
    }

    const LIMITS: SessionLimits =
        SessionLimits { idle: Duration::from_secs(600), absolute: Duration::from_secs(1500) };

    #[test]
    fn a_session_ends_by_idleness_by_age_and_by_log_out() {
        let bench = Bench::new();
        let sessions = bench.start(LIMITS);
        let token = Sha256Digest::of(b"t");
        sessions.add("idle", token);
        bench.clock.advance(MINUTE * 9);
        assert_eq!(sessions.token("idle"), Some(token));
        bench.clock.advance(MINUTE * 10);
        assert_eq!(sessions.token("idle"), None);
        sessions.add("old", token);
        for minutes in [9, 9, 6] {
            bench.clock.advance(MINUTE * minutes);
            assert!(sessions.token("old").is_some());
        }
        bench.clock.advance(MINUTE);
        assert_eq!(sessions.token("old"), None);
        let watched = Sha256Digest::of(b"watched");
        sessions.add("watched", token);
        bench.clock.advance(MINUTE * 9);
        assert!(sessions.lives(&watched));
        bench.clock.advance(MINUTE);
        assert!(!sessions.lives(&watched), "to be asked is no use");
        sessions.add("out", token);
        sessions.end("out").unwrap();
        assert_eq!(sessions.token("out"), None);
    }

    #[test]
    fn a_restart_ends_no_session_and_makes_none_younger_and_only_digests_are_kept() {
        let bench = Bench::new();
        let token = Sha256Digest::of(b"t");
        let sessions = bench.start(LIMITS);
        sessions.add("out", token);
        sessions.add("cookie", token);
        sessions.end("out").unwrap();
        for minutes in [9, 9, 6] {
            bench.clock.advance(MINUTE * minutes);
            let again = bench.start(LIMITS);
            assert_eq!((again.token("cookie"), again.token("out")), (Some(token), None));
            again.keep().unwrap();
        }
        bench.clock.advance(MINUTE);
        assert_eq!(bench.start(LIMITS).token("cookie"), None);
        let kept = bench.store.value(KEPT).unwrap().unwrap();
        assert!(kept.contains(&Sha256Digest::of(b"cookie").to_string()), "{kept}");
    }

    #[test]
    fn a_restart_is_no_use_of_a_session() {
        let bench = Bench::new();
        let token = Sha256Digest::of(b"t");
        let sessions = bench.start(LIMITS);
        sessions.add("used", token);
        sessions.add("left alone", token);
        bench.clock.advance(MINUTE * 6);
        assert!(sessions.token("used").is_some());
        sessions.keep().unwrap();
        bench.clock.advance(MINUTE * 3);
        let again = bench.start(LIMITS);
        assert_eq!(again.left(&Sha256Digest::of(b"used")), Some(MINUTE * 16));
        bench.clock.advance(MINUTE);
        assert_eq!((again.token("left alone"), again.token("used")), (None, Some(token)));
    }

    #[test]
    fn sessions_do_not_grow_without_bound() {
        let bench = Bench::new();
        let sessions = bench.start(SessionLimits::default());
        for n in 0..MOST + 10 {
            sessions.add(&n.to_string(), Sha256Digest::of(b"t"));
            bench.clock.advance(Duration::from_millis(1));
        }
        assert_eq!(sessions.open().len(), MOST);
        assert!(sessions.token("0").is_none());
    }
}
