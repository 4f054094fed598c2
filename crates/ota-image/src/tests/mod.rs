//! Against the tools that make what is unpacked here: GNU tar, gzip, zstd, mkfs.ext4, mksquashfs. Slots are real files behind
//! real loop devices, written by `ota-boot`; that needs root.

mod slots;
mod tools;
mod whole;
