//! Trust in the wall clock.

use ota_core::ports::Clock;

use crate::reading::Value;

/// Whether it was set from a trusted source.
pub(super) fn trust(clock: &dyn Clock) -> Value {
    Value::Bool(clock.wall_is_trusted())
}
