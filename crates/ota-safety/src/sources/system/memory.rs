//! Room in memory.

use ota_core::safety::Resources;

use crate::reading::Value;

/// Available bytes.
pub(super) const fn free(resources: &Resources) -> Value {
    super::bytes(resources.memory_free)
}
