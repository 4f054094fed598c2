//! The mistakes that the suite has to find: adapters of the boot environment with a wrong order in them.
//!
//! They stand here, outside everything that is shipped. Mistakes of the medium (a sync that is left out, both copies at
//! once) and the one of the store are in [`crate::world`], the one of the boot script in [`crate::board`], the one of the boot
//! id in [`crate::rig`]; those that no disk shows in [`crate::trace`] and [`crate::restart`].

use std::sync::Arc;

use ota_boot::{UbootBootControl, scheme, uboot_env::EnvStore};
use ota_core::{
    Slot,
    error::PortError,
    ports::{BootControl, BootStatus, Settings},
};

use crate::ledger::Ledger;

/// A wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wrong {
    NoSlotSync,
    NoEnvSync,
    BothCopies,
    OneCopy,
    ConfirmBeforeTrial,
    LeftBootable,
    ResetIgnoresMark,
    AnswerBeforeRecord,
    FloorBeforeConfirm,
    RestartIsReboot,
}

impl Wrong {
    pub(crate) const ALL: [Self; 10] = [
        Self::NoSlotSync,
        Self::NoEnvSync,
        Self::BothCopies,
        Self::OneCopy,
        Self::ConfirmBeforeTrial,
        Self::LeftBootable,
        Self::ResetIgnoresMark,
        Self::AnswerBeforeRecord,
        Self::FloorBeforeConfirm,
        Self::RestartIsReboot,
    ];

    /// As `threat-model.md` calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoSlotSync => "no slot sync",
            Self::NoEnvSync => "no env sync",
            Self::BothCopies => "both env copies without a sync between",
            Self::OneCopy => "one env copy",
            Self::ConfirmBeforeTrial => "confirm before the trial",
            Self::LeftBootable => "target left bootable while written",
            Self::ResetIgnoresMark => "counter reset that ignores the not-bootable mark",
            Self::AnswerBeforeRecord => "answer before the record",
            Self::FloorBeforeConfirm => "floor raised before confirm",
            Self::RestartIsReboot => "daemon restart taken for a reboot",
        }
    }

    /// The rule that has to show it, where it is made for one.
    pub(crate) const fn shown_by(self) -> Option<&'static str> {
        match self {
            Self::AnswerBeforeRecord => Some("R2: "),
            Self::RestartIsReboot => Some("R6: "),
            _ => None,
        }
    }
}

/// The boot environment with a mistake in it.
pub(crate) struct Mistaken {
    pub(crate) right: UbootBootControl,
    pub(crate) env: EnvStore,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) wrong: Wrong,
}

impl BootControl for Mistaken {
    fn booted(&self) -> Option<Slot> {
        self.right.booted()
    }

    fn boot_id(&self) -> &str {
        self.right.boot_id()
    }

    fn status(&self) -> Result<BootStatus, PortError> {
        self.right.status()
    }

    fn ready(&self) -> Result<(), PortError> {
        // One copy is what is wrong here.
        if self.wrong == Wrong::OneCopy { Ok(()) } else { self.right.ready() }
    }

    fn fence(&self, slot: Slot) -> Result<(), PortError> {
        if self.wrong == Wrong::LeftBootable { Ok(()) } else { self.right.fence(slot) }
    }

    fn arm(&self, slot: Slot, tries: u8) -> Result<(), PortError> {
        if self.wrong != Wrong::ConfirmBeforeTrial {
            return self.right.arm(slot, tries);
        }
        let done = self.env.update(|environment| {
            scheme::arm(environment, slot, tries, scheme::DEFAULT_TRIES);
            scheme::confirm(environment, slot, scheme::DEFAULT_TRIES);
            Ok(())
        });
        done.map_err(|error| error.into_port(Some(slot)))
    }

    fn go_back(&self, keep: Slot) -> Result<(), PortError> {
        self.right.go_back(keep)
    }

    fn confirm(&self, slot: Slot) -> Result<(), PortError> {
        if self.wrong == Wrong::FloorBeforeConfirm {
            let version = self.ledger_version(slot)?;
            self.ledger.set_value("floor.version", version.as_deref())?;
        }
        self.right.confirm(slot)
    }
}

impl Mistaken {
    fn ledger_version(&self, slot: Slot) -> Result<Option<String>, PortError> {
        use ota_core::ports::SlotFacts as _;
        Ok(self.ledger.slot(slot)?.version.map(|version| version.to_string()))
    }
}
