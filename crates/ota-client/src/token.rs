//! A bearer token that cannot be printed by accident.

use std::fmt;

use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};

/// A bearer token: 1 to 512 visible ASCII characters. `Debug` and `Display` say `***`; wiped from memory when dropped.
#[derive(Clone)]
pub struct Token(SecretString);

/// The text cannot be a bearer token. Does not hold the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token: a token is one word of 1 to 512 visible ASCII characters")]
pub struct BadToken;

impl Token {
    /// Takes the text of a token file or variable; white space around it is dropped.
    ///
    /// # Errors
    /// [`BadToken`] when the rest is empty, too long, or holds anything but visible ASCII.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        let fits = (1..=512).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(BadToken) }
    }

    /// The value of the `Authorization` header, marked as sensitive so that no layer below prints it.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = format!("Bearer {}", self.0.expose_secret());
        let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows_itself() {
        let token = Token::parse(" s3cret\n").unwrap();
        assert_eq!(format!("{token} {token:?} {:?}", token.header()), "*** *** Sensitive");
    }

    #[test]
    fn only_one_word_of_visible_ascii_is_a_token() {
        for bad in ["", " \n", "two words", "new\nline", "ümlaut", &"x".repeat(513)] {
            assert_eq!(Token::parse(bad).err(), Some(BadToken), "{bad:?}");
        }
    }
}
