//! `settings/…`: what can be changed while the gateway runs, and stays over a restart.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body and answer of `settings/bandwidth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bandwidth {
    /// Most bytes a second that downloads take together, at least 1024; `null`: no limit. `priority: low` takes a quarter.
    #[serde(deserialize_with = "given")]
    #[schema(required = true)]
    pub bytes_per_second: Option<u64>,
}

/// `null` lifts the limit; a body that forgot the field must not.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_the_field_does_not_lift_the_limit() {
        assert!(serde_json::from_str::<Bandwidth>("{}").is_err());
        let lifted: Bandwidth = serde_json::from_str(r#"{"bytes_per_second": null}"#).unwrap();
        assert_eq!(lifted.bytes_per_second, None);
    }
}
