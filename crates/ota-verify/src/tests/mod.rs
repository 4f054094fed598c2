//! Signatures made at test time by the real `openssl` and `gpg`, checked through the port.

mod cms;
mod gpg;
mod limbo;
mod mutations;
mod one_file;
mod openpgp;
mod openssl;
mod port;
mod retired;
mod sizes;
mod sums;
pub(crate) mod world;
