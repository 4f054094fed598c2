-- What survives a power cut. Records are JSON of ota-core's types; columns beside them only for what is searched.
PRAGMA application_id = 1330921831;  -- OTAg

-- Numbers that are never given twice.
CREATE TABLE counters (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('jobs', 0), ('events', 0);

CREATE TABLE jobs (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of the first save
    id      TEXT    NOT NULL UNIQUE,
    state   TEXT    NOT NULL,
    created INTEGER NOT NULL,                   -- milliseconds since the epoch
    ended   INTEGER NOT NULL CHECK (ended IN (0, 1)),
    record  TEXT    NOT NULL
) STRICT;
CREATE INDEX jobs_active ON jobs (ordinal) WHERE ended = 0;

CREATE TABLE slots (
    slot   TEXT NOT NULL PRIMARY KEY CHECK (slot IN ('A', 'B')),
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE last_update (
    only   INTEGER PRIMARY KEY CHECK (only = 1),
    record TEXT NOT NULL
) STRICT;

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    name      TEXT    NOT NULL PRIMARY KEY,     -- never used again: the audit names actors by it
    digest    BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    role      TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created   INTEGER NOT NULL,
    expires   INTEGER,
    last_used INTEGER,
    revoked   INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY,
    record TEXT NOT NULL,                       -- JSON of seq, at, entry: exactly these bytes are hashed
    hash   BLOB NOT NULL CHECK (length(hash) = 32),
    mac    BLOB NOT NULL CHECK (length(mac) = 32)
) STRICT;

-- Records that could not be read any more, as they were found.
CREATE TABLE set_aside (
    number INTEGER PRIMARY KEY,
    place  TEXT    NOT NULL,                    -- the table
    key    TEXT    NOT NULL,
    record TEXT    NOT NULL,
    at     INTEGER NOT NULL
) STRICT;
