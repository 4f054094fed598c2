//! TUF's canonical JSON: sorted keys, no blanks, only `\` and `"` escaped, integers only (securesystemslib's form).

use serde_json::Value;

use crate::ReleaseError;

/// The bytes that signatures cover.
///
/// # Errors
/// [`ReleaseError::NotAnInteger`] for any other number.
pub(crate) fn canonical(value: &Value) -> Result<Vec<u8>, ReleaseError> {
    let mut out = Vec::new();
    encode(value, &mut out)?;
    Ok(out)
}

fn encode(value: &Value, out: &mut Vec<u8>) -> Result<(), ReleaseError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Number(number) if number.is_f64() => {
            return Err(ReleaseError::NotAnInteger(number.to_string()));
        }
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                separate(i, out);
                encode(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (i, (name, item)) in sorted.into_iter().enumerate() {
                separate(i, out);
                string(name, out);
                out.push(b':');
                encode(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_newlines_stay_raw_and_floats_are_refused() {
        let value = json!({"b": [1, null, true], "a": "x\n\"\\ü"});
        assert_eq!(canonical(&value).unwrap(), "{\"a\":\"x\n\\\"\\\\ü\",\"b\":[1,null,true]}".as_bytes());
        assert!(canonical(&json!({"x": 1.5})).is_err());
    }
}
