//! The PIN: counted durably before it is compared, one comparison at a time, locked after five failures.
//!
//! Locks run on the monotonic clock. A lock that an earlier run of the daemon left starts again in full: neither a
//! restart nor a changed wall clock shortens it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::SaltString,
};
use ota_core::{
    OtaError,
    error::PortError,
    pin::PinPolicy,
    ports::{Clock, PinTries, Settings},
};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Mutex;

use crate::{
    app::blocking,
    config::{PinOperation, PinRules},
    status::{Refusal, Transport},
};

/// Where the hash is kept: a JSON string in PHC format.
pub(crate) const HASH: &str = "pin.hash";
/// Where the tries are counted: [`PinTries`] as JSON.
pub(crate) const TRIES: &str = "pin.tries";
/// The PIN of the user's documentation, which must open no device but the simulated one.
const DOCUMENTED: &str = "7392";

/// Why a text cannot be a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPin {
    /// Shorter than 4 or longer than 64 characters.
    #[error("a PIN has 4 to 64 characters")]
    Length,
    /// Control characters or spaces at its ends.
    #[error("a PIN has no control characters and no spaces around it")]
    Characters,
    /// One that everybody tries first.
    #[error("this PIN is too easy to guess or stands in the documentation")]
    TooEasy,
    /// The hash could not be made.
    #[error("the PIN could not be hashed")]
    Hash,
}

/// Checks a new PIN and makes its argon2id hash in PHC format, as `pin.hash` keeps it (as a JSON string).
///
/// `documented`: whether the PIN of the documentation is accepted; only the simulated device does.
///
/// # Errors
/// When the text cannot be a PIN.
pub fn hash_pin(pin: &str, documented: bool) -> Result<String, BadPin> {
    check_new_pin(pin, documented)?;
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| BadPin::Hash)?;
    let salt = SaltString::encode_b64(&bytes).map_err(|_| BadPin::Hash)?;
    let hash = argon2().hash_password(pin.as_bytes(), &salt).map_err(|_| BadPin::Hash)?;
    Ok(hash.to_string())
}

/// Sets the PIN on the device itself: no request, no present PIN. `documented` as in [`hash_pin`]. Blocking.
///
/// # Errors
/// `Io` with the sentence of [`BadPin`] when the text cannot be a PIN; those of [`Settings`].
pub fn set_pin_locally(settings: &dyn Settings, pin: &str, documented: bool) -> Result<(), PortError> {
    let hash = hash_pin(pin, documented).map_err(|error| PortError::io("the PIN was not set", error))?;
    let json = serde_json::Value::String(hash).to_string();
    settings.set_value(HASH, Some(&json))?;
    unlock_pin_locally(settings)
}

/// Forgets failed tries and ends a lock, on the device itself. Blocking.
///
/// # Errors
/// Those of [`Settings`].
pub fn unlock_pin_locally(settings: &dyn Settings) -> Result<(), PortError> {
    settings.set_value(TRIES, None)
}

/// Whether the text can be a PIN; `documented` as in [`hash_pin`].
///
/// # Errors
/// [`BadPin`] says why it cannot.
pub fn check_new_pin(pin: &str, documented: bool) -> Result<(), BadPin> {
    if !(4..=64).contains(&pin.chars().count()) {
        return Err(BadPin::Length);
    }
    if pin.chars().any(char::is_control) || pin.trim() != pin {
        return Err(BadPin::Characters);
    }
    let first = pin.chars().next();
    let in_row = "01234567890 09876543210".contains(pin);
    if pin.chars().all(|c| Some(c) == first) || in_row || (pin == DOCUMENTED && !documented) {
        return Err(BadPin::TooEasy);
    }
    Ok(())
}

/// argon2id with 19 MiB, 2 passes, 1 lane. Source: `dependencies.md`.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn matches(hash: &str, pin: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| argon2().verify_password(pin.as_bytes(), &hash).is_ok())
}

/// Compares PINs.
pub(crate) struct PinGate {
    settings: Arc<dyn Settings>,
    clock: Arc<dyn Clock>,
    policy: PinPolicy,
    rules: PinRules,
    /// The running lock: which one it is, and when it ends on the monotonic clock. Held during a comparison, so that
    /// there is one at a time.
    lock: Mutex<Option<(u32, Duration)>>,
    failures: AtomicU64,
}

/// What `/metrics` tells of the PIN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PinFigures {
    /// Refusals since the daemon started, those while it is locked included.
    pub(crate) failures: u64,
    /// Whether it is locked.
    pub(crate) locked: bool,
}

impl PinGate {
    pub(crate) fn new(settings: Arc<dyn Settings>, clock: Arc<dyn Clock>, rules: PinRules) -> Self {
        Self {
            settings,
            clock,
            policy: PinPolicy::default(),
            rules,
            lock: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Checks the PIN of a request for one of `operations`: one that is given always, a missing one where any of them
    /// needs it.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub(crate) async fn demand(
        &self,
        operations: &[PinOperation],
        pin: Option<&ota_api::auth::Secret>,
    ) -> Result<(), Refusal> {
        let needed = operations.iter().any(|operation| self.rules.require_for.contains(operation));
        if pin.is_none() && !needed {
            return Ok(());
        }
        self.check(pin.map(ota_api::auth::Secret::expose)).await
    }

    /// Whether a PIN is set.
    pub(crate) async fn is_set(&self) -> Result<bool, Refusal> {
        Ok(self.read::<String>(HASH).await?.is_some())
    }

    /// Checks a PIN that is needed.
    ///
    /// # Errors
    /// `InvalidPin` (OTA_010) when it is missing, wrong or none is set; `TOO_MANY_REQUESTS` while locked.
    pub(crate) async fn check(&self, pin: Option<&str>) -> Result<(), Refusal> {
        let checked = self.compare(pin).await;
        // A store that cannot be read is no wrong PIN: who watches the number looks for somebody who guesses.
        if let Err(
            Refusal::Ota(OtaError::InvalidPin { .. }) | Refusal::Transport(Transport::TooManyRequests { .. }),
        ) = &checked
        {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        checked
    }

    /// For `/metrics`.
    pub(crate) async fn figures(&self) -> Result<PinFigures, Refusal> {
        // Without waiting: a comparison may be under way.
        let lock = self.lock.try_lock();
        let tries = self.read::<PinTries>(TRIES).await?.unwrap_or_default();
        let locked = match lock {
            // Whoever looks first after a restart sets the lock running that was left, so that it ends also where nobody tries.
            Ok(mut lock) => self.locked_for(&mut lock, &tries).is_some(),
            Err(_) => tries.locked_until.is_some(),
        };
        Ok(PinFigures { failures: self.failures.load(Ordering::Relaxed), locked })
    }

    async fn compare(&self, pin: Option<&str>) -> Result<(), Refusal> {
        let mut lock = self.lock.lock().await;
        let tries = self.read::<PinTries>(TRIES).await?.unwrap_or_default();
        if let Some(retry_after) = self.locked_for(&mut lock, &tries) {
            return Err(Transport::TooManyRequests { what: "too many wrong PINs", retry_after }.into());
        }
        let (Some(pin), Some(hash)) = (pin, self.read::<String>(HASH).await?) else {
            return Err(OtaError::InvalidPin { attempts_left: self.left(&tries) }.into());
        };
        let counted = self.policy.count(tries, self.clock.wall());
        self.write(TRIES, Some(&counted)).await?;
        let pin = pin.to_owned();
        if blocking(move || matches(&hash, &pin)).await? {
            *lock = None;
            return self.write::<PinTries>(TRIES, None).await;
        }
        if counted.locked_until.is_some() {
            *lock = Some((counted.locks, self.clock.monotonic() + self.policy.lock_length(counted.locks)));
        }
        Err(OtaError::InvalidPin { attempts_left: self.policy.attempts_left(&counted) }.into())
    }

    /// Stores the hash of a new PIN and forgives earlier failures.
    pub(crate) async fn set(&self, hash: String) -> Result<(), Refusal> {
        let mut lock = self.lock.lock().await;
        self.write(HASH, Some(&hash)).await?;
        self.write::<PinTries>(TRIES, None).await?;
        *lock = None;
        Ok(())
    }

    /// After a lock that has run out there is one try.
    fn left(&self, tries: &PinTries) -> u32 {
        if tries.locked_until.is_some() { 1 } else { self.policy.attempts_left(tries) }
    }

    /// How long it is locked from now on. A lock that is not running yet begins now.
    fn locked_for(&self, lock: &mut Option<(u32, Duration)>, tries: &PinTries) -> Option<Duration> {
        if tries.locked_until.is_none() {
            // Also when somebody unlocked it on the device.
            *lock = None;
            return None;
        }
        let now = self.clock.monotonic();
        let until = match *lock {
            Some((locks, until)) if locks == tries.locks => until,
            _ => now + self.policy.lock_length(tries.locks),
        };
        *lock = Some((tries.locks, until));
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    async fn read<T: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Refusal> {
        let settings = Arc::clone(&self.settings);
        let text = blocking(move || settings.value(name)).await??;
        // What cannot be read is not forgiven.
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| Refusal::internal(format!("setting {name} is damaged: {error}")))
    }

    async fn write<T: serde::Serialize>(&self, name: &'static str, value: Option<&T>) -> Result<(), Refusal> {
        let text = value
            .map(serde_json::to_string)
            .transpose()
            .map_err(|error| Refusal::internal(format!("setting {name}: {error}")))?;
        let settings = Arc::clone(&self.settings);
        let written: Result<(), PortError> =
            blocking(move || settings.set_value(name, text.as_deref())).await?;
        Ok(written?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ota_core::Timestamp;
    use ota_testkit::{FakeClock, MemJournal};

    struct Device {
        store: Arc<MemJournal>,
        clock: Arc<FakeClock>,
    }

    impl Device {
        fn with_pin(pin: &str) -> Self {
            let device = Self { store: Arc::default(), clock: Arc::default() };
            let hash = serde_json::to_string(&hash_pin(pin, false).unwrap()).unwrap();
            device.store.set_value(HASH, Some(&hash)).unwrap();
            device
        }

        fn gate(&self) -> PinGate {
            PinGate::new(Arc::clone(&self.store) as _, Arc::clone(&self.clock) as _, PinRules::default())
        }
    }

    async fn answer(gate: &PinGate, pin: Option<&str>) -> String {
        match gate.check(pin).await {
            Ok(()) => "ok".into(),
            Err(Refusal::Ota(OtaError::InvalidPin { attempts_left })) => format!("{attempts_left} left"),
            Err(Refusal::Transport(Transport::TooManyRequests { retry_after, .. })) => {
                format!("locked {}", retry_after.as_secs())
            }
            Err(other) => panic!("{other}"),
        }
    }

    async fn locked(gate: &PinGate) -> bool {
        gate.figures().await.unwrap().locked
    }

    #[tokio::test]
    async fn five_wrong_pins_lock_and_neither_restart_nor_clock_unlocks() {
        let device = Device::with_pin("4711");
        let gate = device.gate();
        for left in [4, 3, 2, 1, 0] {
            assert_eq!(answer(&gate, Some("0000")).await, format!("{left} left"));
        }
        assert_eq!(answer(&gate, Some("4711")).await, "locked 300");
        device.clock.set_wall(Timestamp::from_secs(4_000_000_000));
        device.clock.advance(Duration::from_secs(299));
        assert_eq!(answer(&gate, Some("4711")).await, "locked 1");
        let restarted = device.gate();
        assert_eq!(answer(&restarted, Some("4711")).await, "locked 300");
        device.clock.advance(Duration::from_secs(300));
        assert_eq!(answer(&restarted, Some("0000")).await, "0 left");
        assert_eq!(answer(&restarted, Some("4711")).await, "locked 600");
        device.clock.advance(Duration::from_secs(600));
        assert_eq!(answer(&restarted, Some("4711")).await, "ok");
        assert_eq!(answer(&restarted, Some("0000")).await, "4 left");
    }

    #[tokio::test]
    async fn a_lock_that_a_restart_left_is_over_in_the_figures_when_it_is_and_the_gate_refuses_until_then() {
        let device = Device::with_pin("4711");
        let gate = device.gate();
        for _ in 0..5 {
            answer(&gate, Some("0000")).await;
        }
        assert!(locked(&gate).await);
        device.clock.advance(Duration::from_secs(200));
        let restarted = device.gate();
        assert!(locked(&restarted).await);
        device.clock.advance(Duration::from_secs(299));
        assert!(locked(&restarted).await);
        assert_eq!(answer(&restarted, Some("4711")).await, "locked 1", "in full, whoever looked meanwhile");
        device.clock.advance(Duration::from_secs(1));
        assert!(!locked(&restarted).await);
        assert_eq!(answer(&restarted, Some("0000")).await, "0 left", "one try, and the next lock");
        assert!(locked(&restarted).await);
        assert_eq!(answer(&restarted, Some("4711")).await, "locked 600");
    }

    #[tokio::test]
    async fn only_refused_pins_count_as_failures_and_not_a_store_that_cannot_be_read() {
        let device = Device::with_pin("4711");
        let gate = device.gate();
        device.store.write_faults.fail_next(ota_core::error::PortErrorKind::Io("full".into()));
        assert!(matches!(
            gate.check(Some("0000")).await,
            Err(Refusal::Transport(Transport::Internal { .. }))
        ));
        assert_eq!(gate.figures().await.unwrap().failures, 0);
        for given in [Some("0000"), None, Some("4711")] {
            answer(&gate, given).await;
        }
        assert_eq!(gate.figures().await.unwrap().failures, 2);
    }

    #[tokio::test]
    async fn a_try_is_counted_durably_before_the_comparison() {
        let device = Device::with_pin("4711");
        device.store.write_faults.fail_next(ota_core::error::PortErrorKind::Io("power".into()));
        assert!(matches!(
            device.gate().check(Some("4711")).await,
            Err(Refusal::Transport(Transport::Internal { .. }))
        ));
        assert_eq!(answer(&device.gate(), Some("4711")).await, "ok");
    }

    /// The wrong order: tries become durable after the comparison, and the power is cut before that.
    struct CountedTooLate(Arc<MemJournal>);

    impl Settings for CountedTooLate {
        fn value(&self, name: &str) -> Result<Option<String>, PortError> {
            self.0.value(name)
        }
        fn set_value(&self, name: &str, value: Option<&str>) -> Result<(), PortError> {
            if name == TRIES { Ok(()) } else { self.0.set_value(name, value) }
        }
    }

    /// How many wrong PINs are compared when the power is cut right after each answer; `None`: there is no end.
    async fn guesses(device: &Device, settings: Arc<dyn Settings>) -> Option<usize> {
        for guess in 0..12 {
            let gate =
                PinGate::new(Arc::clone(&settings), Arc::clone(&device.clock) as _, PinRules::default());
            if answer(&gate, Some("0815")).await.starts_with("locked") {
                return Some(guess);
            }
        }
        None
    }

    #[tokio::test]
    async fn a_power_cut_after_each_answer_gives_no_more_than_five_guesses_and_counting_too_late_would() {
        let device = Device::with_pin("4711");
        assert_eq!(guesses(&device, Arc::clone(&device.store) as _).await, Some(5));
        let device = Device::with_pin("4711");
        assert_eq!(guesses(&device, Arc::new(CountedTooLate(Arc::clone(&device.store)))).await, None);
    }

    #[tokio::test]
    async fn a_missing_pin_is_refused_and_not_counted() {
        let device = Device::with_pin("4711");
        for _ in 0..10 {
            assert_eq!(answer(&device.gate(), None).await, "5 left");
        }
    }

    #[tokio::test]
    async fn without_a_pin_set_none_is_right() {
        let device = Device { store: Arc::default(), clock: Arc::default() };
        assert_eq!(answer(&device.gate(), Some("7392")).await, "5 left");
        assert!(!device.gate().is_set().await.unwrap());
    }

    #[test]
    fn easy_and_documented_pins_cannot_be_set() {
        for (pin, error) in [
            ("123", BadPin::Length),
            ("1234", BadPin::TooEasy),
            ("4321", BadPin::TooEasy),
            ("0000", BadPin::TooEasy),
            ("7392", BadPin::TooEasy),
            (" 4711", BadPin::Characters),
        ] {
            assert_eq!(hash_pin(pin, false).unwrap_err(), error, "{pin}");
        }
        assert!(hash_pin("7392", true).is_ok());
    }
}
