//! From the bytes that a sensor sent to a value: plain text, or a field of a JSON document.

use std::time::Duration;

use ota_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Taken;
use crate::{
    reading::{Fault, Value},
    track::FUTURE_TOLERANCE,
};

/// Largest JSON document that is taken in, in bytes.
pub(super) const MAX_DOCUMENT: usize = 64 * 1024;

/// Where the value stands in what the sensor sends. Without a pointer all of it is the value, as text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonConfig {
    /// JSON pointer (RFC 6901) to the value, `/crane/state`.
    pub value: String,
    /// JSON pointer to when it was measured: milliseconds since 1970, or RFC 3339. Without it a value is as old as its
    /// arrival. Needs clocks that agree.
    pub time: Option<String>,
}

/// The value in `bytes`; `wall` is now, to tell its age.
pub(super) fn decode(bytes: &[u8], json: Option<&JsonConfig>, wall: Timestamp) -> Result<Taken, Fault> {
    let Some(json) = json else { return text(bytes).map(Taken::from) };
    if bytes.len() > MAX_DOCUMENT {
        return Err(Fault::TooLarge);
    }
    let document: Json =
        serde_json::from_slice(bytes).map_err(|error| Fault::Malformed(error.to_string()))?;
    let value = value_at(&document, &json.value)?;
    let age = match &json.time {
        Some(pointer) => age(document.pointer(pointer), wall)?,
        None => Duration::ZERO,
    };
    Ok(Taken { value, age })
}

/// The value in plain text.
pub(super) fn text(bytes: &[u8]) -> Result<Value, Fault> {
    if bytes.len() > Value::MAX_TEXT {
        return Err(Fault::TooLarge);
    }
    match std::str::from_utf8(bytes).map(str::trim) {
        Ok("") => Err(Fault::Malformed("empty".into())),
        Ok(text) => Ok(Value::parse(text)),
        Err(_) => Err(Fault::Malformed("not UTF-8".into())),
    }
}

fn value_at(document: &Json, pointer: &str) -> Result<Value, Fault> {
    match document.pointer(pointer) {
        Some(Json::Bool(value)) => Ok(Value::Bool(*value)),
        Some(Json::Number(value)) => value.as_f64().map(Value::Number).ok_or(Fault::TooLarge),
        Some(Json::String(value)) => text(value.as_bytes()),
        Some(Json::Null) | None => Err(Fault::Absent(format!("nothing at {pointer:?}"))),
        Some(Json::Array(_) | Json::Object(_)) => {
            Err(Fault::Malformed(format!("no plain value at {pointer:?}")))
        }
    }
}

fn age(time: Option<&Json>, wall: Timestamp) -> Result<Duration, Fault> {
    let taken = match time {
        Some(Json::Number(millis)) => millis.as_i64().map(Timestamp::from_millis),
        Some(Json::String(text)) => {
            text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp::from_millis(time.as_millisecond()))
        }
        _ => None,
    };
    let taken = taken.ok_or_else(|| Fault::Malformed("no time where it should stand".into()))?;
    if taken > wall + FUTURE_TOLERANCE { Err(Fault::FutureStamped) } else { Ok(wall.since(taken)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Timestamp = Timestamp::from_secs(1_768_478_400);

    fn at(document: &str, time: Option<&str>) -> Result<(Value, u64), Fault> {
        let json = JsonConfig { value: "/crane/state".into(), time: time.map(Into::into) };
        decode(document.as_bytes(), Some(&json), WALL).map(|taken| (taken.value, taken.age.as_secs()))
    }

    #[test]
    fn a_pointer_finds_the_value_of_any_plain_type() {
        assert_eq!(at(r#"{"crane":{"state":"moving"}}"#, None), Ok((Value::Text("moving".into()), 0)));
        assert_eq!(at(r#"{"crane":{"state":12.5}}"#, None), Ok((Value::Number(12.5), 0)));
        assert_eq!(at(r#"{"crane":{"state":true}}"#, None), Ok((Value::Bool(true), 0)));
    }

    #[test]
    fn what_is_no_value_is_a_fault() {
        for document in [r#"{"crane":{"state":null}}"#, "{}"] {
            assert!(matches!(at(document, None), Err(Fault::Absent(_))), "{document}");
        }
        for document in [r#"{"crane":{"state":[1]}}"#, "not json", ""] {
            assert!(matches!(at(document, None), Err(Fault::Malformed(_))), "{document}");
        }
    }

    #[test]
    fn a_stamp_tells_the_age_and_may_not_be_of_the_future() {
        let document = |time: &str| format!(r#"{{"crane":{{"state":1}},"t":{time}}}"#);
        assert_eq!(at(&document("1768478390000"), Some("/t")), Ok((Value::Number(1.0), 10)));
        assert_eq!(at(&document(r#""2026-01-15T11:59:50Z""#), Some("/t")), Ok((Value::Number(1.0), 10)));
        assert_eq!(at(&document("1768478500000"), Some("/t")), Err(Fault::FutureStamped));
        assert!(matches!(at(&document("null"), Some("/t")), Err(Fault::Malformed(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_value_or_a_fault(bytes: Vec<u8>) {
            let json = JsonConfig::default();
            let _ = decode(&bytes, Some(&json), WALL);
            let _ = decode(&bytes, None, WALL);
        }
    }
}
