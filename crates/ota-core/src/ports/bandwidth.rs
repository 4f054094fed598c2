//! The cap on the speed of downloads, as the API asks for it.

use crate::error::PortError;

/// Least cap, in bytes a second.
pub const MIN_BYTES_PER_SECOND: u64 = 1024;

/// One cap for all downloads of the gateway. Blocking.
pub trait Bandwidth: Send + Sync {
    /// The cap in bytes a second; `None` for no limit.
    fn limit(&self) -> Option<u64>;

    /// Changes the cap, also of a download that is under way. Durable on return. At least [`MIN_BYTES_PER_SECOND`].
    ///
    /// # Errors
    /// `Unavailable`, `Io`; the old cap stays then.
    fn set_limit(&self, bytes_per_second: Option<u64>) -> Result<(), PortError>;
}
