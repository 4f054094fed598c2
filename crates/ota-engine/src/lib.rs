//! Drives jobs through the ports.
