//! Failures on demand: errors of one fake, and the power cut that takes all of them at once.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ota_core::error::{PortError, PortErrorKind};

/// Calls of one fake that are to fail. Counted from 1 at the time they are planned.
#[derive(Debug, Default)]
pub struct Faults {
    inner: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    planned: BTreeMap<u64, PortErrorKind>,
    always: Option<PortErrorKind>,
}

impl Faults {
    /// The `n`-th call from now on (1 is the next one) fails, once.
    pub fn fail_nth(&self, n: u64, kind: PortErrorKind) {
        self.with(|plan| plan.planned.insert(plan.calls + n.max(1), kind));
    }

    /// The next call fails, once.
    pub fn fail_next(&self, kind: PortErrorKind) {
        self.fail_nth(1, kind);
    }

    /// The next `n` calls fail.
    pub fn fail_next_times(&self, n: u64, kind: &PortErrorKind) {
        (1..=n).for_each(|i| self.fail_nth(i, kind.clone()));
    }

    /// Every call fails until [`clear`](Self::clear).
    pub fn fail_always(&self, kind: PortErrorKind) {
        self.with(|plan| plan.always = Some(kind));
    }

    /// Nothing fails any more.
    pub fn clear(&self) {
        self.with(|plan| {
            plan.planned.clear();
            plan.always = None;
        });
    }

    /// How many calls were counted.
    pub fn calls(&self) -> u64 {
        self.with(|plan| plan.calls)
    }

    /// Counts a call; the planned error, if this is the one.
    ///
    /// # Errors
    /// What was planned.
    pub fn call(&self) -> Result<(), PortError> {
        let planned = self.with(|plan| {
            plan.calls += 1;
            plan.planned.remove(&plan.calls).or_else(|| plan.always.clone())
        });
        planned.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn with<R>(&self, look: impl FnOnce(&mut Plan) -> R) -> R {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The supply that several fakes share. Each durable operation takes one step; once it is cut, every further one fails
/// without any effect, in all fakes, until [`restore`](Self::restore).
#[derive(Debug, Default)]
pub struct Power {
    inner: Mutex<Supply>,
}

#[derive(Debug, Default)]
struct Supply {
    steps: u64,
    cut_at: Option<u64>,
}

impl Power {
    /// The sentence of the error after the cut.
    pub const OFF: &'static str = "the power is off";

    /// Lets `n` more durable operations happen, then cuts.
    pub fn cut_after(&self, n: u64) {
        self.with(|supply| supply.cut_at = Some(supply.steps + n));
    }

    /// Power is back.
    pub fn restore(&self) {
        self.with(|supply| supply.cut_at = None);
    }

    /// Whether the next durable operation would fail.
    pub fn is_off(&self) -> bool {
        self.with(|supply| supply.cut_at.is_some_and(|at| supply.steps >= at))
    }

    /// How many durable operations have happened.
    pub fn steps(&self) -> u64 {
        self.with(|supply| supply.steps)
    }

    /// Takes one step.
    ///
    /// # Errors
    /// `Io` with [`OFF`](Self::OFF) once it is cut.
    pub fn step(&self) -> Result<(), PortError> {
        self.with(|supply| {
            if supply.cut_at.is_some_and(|at| supply.steps >= at) {
                return Err(PortErrorKind::Io(Self::OFF.into()).into());
            }
            supply.steps += 1;
            Ok(())
        })
    }

    /// Looks whether there is power, without taking a step: for reads.
    ///
    /// # Errors
    /// `Io` with [`OFF`](Self::OFF) once it is cut.
    pub fn check(&self) -> Result<(), PortError> {
        if self.is_off() { Err(PortErrorKind::Io(Self::OFF.into()).into()) } else { Ok(()) }
    }

    fn with<R>(&self, look: impl FnOnce(&mut Supply) -> R) -> R {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
