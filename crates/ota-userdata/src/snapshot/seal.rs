//! Encryption of archives in the age format: to recipients when one is made, with identities when one is read.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    str::FromStr as _,
};

use age::{DecryptError, Decryptor, Encryptor, IdentityFile, stream::StreamWriter, x25519};

use crate::UserDataError;

/// Whom new archives are encrypted to; nobody by default.
#[derive(Clone, Default)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// `keys`: `age1…`, as `age-keygen` prints them.
    ///
    /// # Errors
    /// `Key`, with the one that is not one.
    pub fn parse(keys: &[String]) -> Result<Self, UserDataError> {
        let parse = |key: &String| {
            x25519::Recipient::from_str(key)
                .map_err(|why| UserDataError::Key(format!("{key:?} is no recipient of age: {why}")))
        };
        keys.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether archives stay readable for whoever has the file.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

/// Where an archive is written to.
pub(crate) enum Sealing<W: Write> {
    Plain(W),
    Age(StreamWriter<W>),
}

impl<W: Write> Sealing<W> {
    pub(crate) fn new(to: &Recipients, inner: W) -> Result<Self, UserDataError> {
        if to.is_empty() {
            return Ok(Self::Plain(inner));
        }
        let encryptor = Encryptor::with_recipients(to.0.iter().map(|key| key as &dyn age::Recipient))
            .map_err(|error| UserDataError::Key(error.to_string()))?;
        encryptor.wrap_output(inner).map(Self::Age).map_err(UserDataError::Read)
    }

    /// Writes what closes the archive.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(inner) => Ok(inner),
            Self::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(inner) => inner.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(inner) => inner.flush(),
            Self::Age(stream) => stream.flush(),
        }
    }
}

/// What opens an encrypted archive.
pub(crate) struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

impl Identities {
    /// `text`: a file as `age-keygen` writes it, or its one line that matters.
    pub(crate) fn parse(text: &str) -> Result<Self, UserDataError> {
        // The errors of the library may hold a part of the key; they are not passed on.
        let bad = || UserDataError::Locked("what was given is no identity of age".into());
        let file = IdentityFile::from_buffer(text.as_bytes()).map_err(|_| bad())?;
        let identities = file.into_identities().map_err(|_| bad())?;
        if identities.is_empty() { Err(bad()) } else { Ok(Self(identities)) }
    }

    /// The archive behind the encryption.
    pub(crate) fn open(&self, file: File) -> Result<impl Read + use<>, UserDataError> {
        let locked = |error: DecryptError| match error {
            DecryptError::Io(error) => UserDataError::Read(error),
            DecryptError::NoMatchingKeys => {
                UserDataError::Locked("it is encrypted to another recipient".into())
            }
            other => UserDataError::Locked(other.to_string()),
        };
        let decryptor = Decryptor::new_buffered(BufReader::new(file)).map_err(locked)?;
        decryptor.decrypt(self.0.iter().map(|key| &**key as &dyn age::Identity)).map_err(locked)
    }
}
