//! What survives a power cut: jobs, slots, audit, settings in SQLite.
