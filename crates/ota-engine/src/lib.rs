//! Drives jobs through the ports of `ota-core`: the only crate that performs effects.
//!
//! One runner task owns the active job. Requests, outcomes of effects and safety changes reach it through one channel,
//! in order; it asks [`ota_core::job::step`], makes the result durable and performs the effects. Disk work and hashing
//! happen on blocking threads, the network on async tasks; what they find comes back through the same channel.
//!
//! Recovery after a restart happens exactly once, in [`Engine::start`], before any request is taken.

mod auto;
mod brake;
mod bus;
mod claim;
mod command;
mod device;
mod effects;
mod engine;
mod error;
mod examine;
mod explain;
mod facts;
mod guard;
mod live;
mod pace;
mod recover;
mod runner;
mod totals;
mod user_data;
mod view;
mod vouch;

pub use auto::AutoConfig;
pub use bus::{Bus, Delivery, Subscription};
pub use command::{
    Actor, CancelRequest, DeployRequest, DownloadRequest, InstallRequest, JobRef, RollbackRequest,
};
pub use engine::{Engine, EngineConfig, GatewayIdentity, Ports, SecurityFloor};
pub use error::EngineError;
pub use examine::ExamineRequest;
pub use explain::{ExplainRequest, Explanation, WindowView};
pub use totals::Totals;
pub use user_data::{PendingReset, UserData};
pub use view::{JobView, LiveProgress, SlotView, SystemView};

#[cfg(test)]
mod tests;
