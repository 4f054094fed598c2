//! The engine over fakes.
