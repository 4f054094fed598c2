//! The job machine: what an update does next, decided without doing it.
//!
//! [`step`] takes a job, an input and the time, and gives the job as it is afterwards with the effects to perform.
//! The driver makes the job durable first ([`Effect::Persist`] always stands in front), performs the effects in order
//! and feeds each outcome back as the next [`Input`]. Every effect that changes the device is safe to ask for twice;
//! after a power cut [`situation`] says where the device woke up and [`step`] asks again.
//!
//! Source: `docs/design/durable-steps.md`. The table of all transitions is printed to `docs/job-states.md` by
//! [`table::markdown`].

mod effect;
mod input;
mod recover;
mod state;
mod step;
pub mod table;

pub use effect::Effect;
pub use input::{Input, Situation};
pub use recover::{World, situation};
pub use state::{
    Counters, End, Failure, Held, InstallOptions, Job, JobKind, JobState, JobStatus, Priority, Strategy,
};
pub use step::{MAX_CHANGES, MAX_INSTALLS, MAX_TRIALS, Refused, Transition, after_end, step};

#[cfg(test)]
mod tests;
