//! JSON bodies: duplicate keys and deep nesting are refused, errors name the place.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::status::{Refusal, Transport};

/// Parses a body into `T`.
///
/// # Errors
/// `INVALID_REQUEST` with the JSON path.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], depth: usize) -> Result<T, Refusal> {
    check_shape(body, depth)?;
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json)
        .map_err(|error| invalid(&error.path().to_string(), &error.into_inner()))
}

fn check_shape(body: &[u8], depth: usize) -> Result<(), Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let walked = Walk { depth }.deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track));
    walked.map_err(|error| invalid(&track.path().to_string(), &error))?;
    json.end().map_err(|error| invalid(".", &error))
}

fn invalid(path: &str, error: &serde_json::Error) -> Refusal {
    let path = if path == "." { "$".into() } else { format!("$.{path}") };
    Transport::InvalidRequest { path: Some(path), what: error.to_string() }.into()
}

/// Takes any value and keeps nothing but the keys of the objects that are open.
#[derive(Clone, Copy)]
struct Walk {
    depth: usize,
}

impl Walk {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        self.depth.checked_sub(1).map(|depth| Self { depth }).ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            seen.insert(key);
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ota_api::updates::DownloadRequest;
    use proptest::prelude::*;

    fn refused(body: &str) -> String {
        parse::<DownloadRequest>(body.as_bytes(), 32).unwrap_err().to_string()
    }

    #[test]
    fn the_place_of_a_mistake_is_named() {
        assert!(refused(r#"{"update_id": 5}"#).starts_with("$.update_id: invalid type"));
        assert!(refused(r#"{"update_id": "x", "priority": "urgent"}"#).starts_with("$.priority: "));
        assert!(refused("{}").contains("missing field `update_id`"));
        assert!(refused(r#"{"update_id": "x""#).contains("EOF"));
        assert!(refused(r#"{"update_id": "x"} y"#).contains("trailing"));
    }

    #[test]
    fn duplicate_keys_are_refused_also_in_fields_nobody_reads() {
        assert!(refused(r#"{"update_id": "x", "extra": {"a": 1, "a": 2}}"#).contains("duplicate key"));
        assert!(refused(r#"{"update_id": "x", "update_id": "y"}"#).contains("duplicate key"));
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested =
            |n: usize| format!(r#"{{"update_id": "x", "extra": {}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(parse::<DownloadRequest>(nested(31).as_bytes(), 32).is_ok());
        assert!(refused(&nested(32)).contains("nested too deeply"));
        assert!(refused(&nested(20_000)).contains("nested too deeply"));
    }

    #[test]
    fn unknown_fields_are_accepted() {
        assert!(parse::<DownloadRequest>(br#"{"update_id": "x", "colour": null, "n": -1.5e3}"#, 32).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused_and_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<DownloadRequest>(&body, 32);
        }
        #[test]
        fn a_mutated_body_parses_or_is_refused(at in 0usize..60, with in any::<u8>()) {
            let mut body = br#"{"update_id": "update_12345", "priority": "high", "x": [1,2]}"#.to_vec();
            let at = at % body.len();
            body[at] = with;
            let _ = parse::<DownloadRequest>(&body, 32);
        }
    }
}
