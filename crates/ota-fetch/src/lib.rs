//! Update servers: TUF metadata, channel manifest, resumable download.
