//! Partitions, slots and the U-Boot environment.
//!
//! Owns everything that decides which slot boots next and everything that reaches a slot's bytes: the environment's
//! codec and its two copies ([`uboot_env`]), where they are ([`layout`]), what the variables mean ([`scheme`]), which
//! slot was booted ([`cmdline`]), and the adapters of the ports ([`boot_control`], [`slot_writer`]). The other side of
//! the contract is the boot script under `dist/u-boot/`. When to do any of it is the driver's business.

pub mod boot_control;
pub mod cmdline;
pub mod device;
pub mod error;
pub mod layout;
pub mod loader;
pub mod scheme;
pub mod slot_writer;
pub mod uboot_env;

pub use boot_control::{BootConfig, UbootBootControl};
pub use error::BootError;
pub use slot_writer::{BlockSlotWriter, Pipeline};
