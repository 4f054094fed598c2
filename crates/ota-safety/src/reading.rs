//! What a sensor says: a value or why there is none, and when that was so. How to get it is left to [`crate::sources`].

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A value as a sensor gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no: a coil, a flag.
    Bool(bool),
    /// A measurement. Not a number or infinite counts as no usable sample.
    Number(f64),
    /// A word, `moving`.
    Text(String),
}

impl Value {
    /// Longest text that is kept, in bytes; a longer one is a fault of its source.
    pub const MAX_TEXT: usize = 256;

    /// From plain text: a number, `true` or `false`, else the text without the white space around it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        match text {
            "true" => Self::Bool(true),
            "false" => Self::Bool(false),
            _ => text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Number),
        }
    }

    /// The same value as [`Value::parse`] would give it, so that `"1"` in a rule meets a file that holds `1`.
    #[must_use]
    pub fn normalised(self) -> Self {
        match self {
            Self::Text(text) => Self::parse(&text),
            other => other,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            // At most three digits behind the point, no trailing zeros: people read this.
            Self::Number(value) => ((value * 1000.0).round() / 1000.0).fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// Why there is no value. `Display` is the short word that stands in the status; the text inside goes to the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The source has not delivered anything yet.
    #[error("no sample")]
    NoSample,
    /// What is to be read is not there.
    #[error("absent")]
    Absent(String),
    /// No connection to the sensor.
    #[error("disconnected")]
    Disconnected(String),
    /// The sensor did not answer in time.
    #[error("no answer")]
    TimedOut,
    /// The sensor answered with an error, or reading failed.
    #[error("unreadable")]
    Unreadable(String),
    /// The answer is not what the configuration expects.
    #[error("malformed")]
    Malformed(String),
    /// The answer is larger than a reading can be.
    #[error("too large")]
    TooLarge,
    /// The sample claims to be from the future.
    #[error("future-stamped")]
    FutureStamped,
    /// The sample is too old for its rule by itself, or from before the monotonic clock began.
    #[error("stale")]
    Old,
}

impl Fault {
    /// What the log says beside the word.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Absent(detail)
            | Self::Disconnected(detail)
            | Self::Unreadable(detail)
            | Self::Malformed(detail) => detail,
            Self::NoSample | Self::TimedOut | Self::TooLarge | Self::FutureStamped | Self::Old => "",
        }
    }
}

/// A value or a fault, and when it was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What the sensor said.
    pub outcome: Result<Value, Fault>,
    /// When it was so, on the monotonic clock ([`ota_core::ports::Clock::monotonic`]).
    pub taken_at: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_the_value_it_looks_like() {
        assert_eq!(Value::parse(" moving\n"), Value::Text("moving".into()));
        assert_eq!(Value::parse("78.50"), Value::Number(78.5));
        assert_eq!(Value::parse("true"), Value::Bool(true));
        assert_eq!(Value::Text("1".into()).normalised(), Value::Number(1.0));
    }

    #[test]
    fn a_number_is_shown_as_people_write_it() {
        assert_eq!(Value::Number(78.5).to_string(), "78.5");
        assert_eq!(Value::Number(0.1 + 0.2).to_string(), "0.3");
        assert_eq!(Value::Number(80.0).to_string(), "80");
    }
}
