//! Packed images: what is in them, and how that gets into a slot.
//!
//! Owns decompression, the rules for archives, and making a fresh file system of one. Nothing here is called before trusted
//! keys have vouched for the bytes. Which slot may be written, and how plain bytes get into it, is the inner
//! [`ota_core::ports::SlotWriter`]'s; what a file system image is, the inner [`ota_core::ports::ImageInspector`]'s.

pub mod archive;
mod error;
mod filesystem;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod inspector;
mod packing;
mod tree;
mod writer;

pub use archive::ArchivePolicy;
pub use error::ImageError;
pub use filesystem::FileSystemSpec;
pub use inspector::PackedInspector;
pub use writer::UnpackingWriter;

#[cfg(test)]
mod tests;
