//! Room for images.

use ota_core::safety::Resources;

use crate::reading::Value;

/// Free bytes where they are staged.
pub(super) const fn free(resources: &Resources) -> Value {
    super::bytes(resources.disk_free)
}
