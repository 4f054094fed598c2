//! Signatures, digests and image formats.
