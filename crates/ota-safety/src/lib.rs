//! May this happen now, and if not, why.
