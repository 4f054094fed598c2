//! The one crypto provider of the process: ring.

/// Makes ring the process-wide provider of rustls. Call it before the first [`crate::Client`]; more calls do nothing.
pub fn install_crypto_provider() {
    // Err means that one is there already: whoever came first chose, and the tree holds ring only.
    drop(rustls::crypto::ring::default_provider().install_default());
}
