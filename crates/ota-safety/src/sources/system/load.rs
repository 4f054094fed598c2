//! How busy the processors are.

use ota_core::safety::Resources;

use crate::reading::Value;

/// One-minute load average divided by their number.
pub(super) const fn of(resources: &Resources) -> Value {
    Value::Number(resources.cpu_load)
}
