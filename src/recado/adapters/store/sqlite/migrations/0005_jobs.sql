-- What the sinks have to do about events, written with the events. Without sinks there are no rows.

CREATE TABLE jobs (
    sink         TEXT    NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    seq          INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,              -- when its event was
    due_at       INTEGER NOT NULL,              -- when it may run next, or when its lease expires
    attempt      INTEGER NOT NULL DEFAULT 0,    -- so often it was claimed
    is_claimed   INTEGER NOT NULL DEFAULT 0,
    is_first     INTEGER NOT NULL,              -- the others of its conversation and sink wait for it
    error        TEXT,                          -- of the last attempt that failed
    PRIMARY KEY (sink, conversation, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX jobs_by_due_at ON jobs (sink, due_at) WHERE is_first;
CREATE INDEX jobs_claimed ON jobs (sink, conversation) WHERE is_claimed;

CREATE TABLE dead_letters (                     -- jobs that were given up: nothing waits for them
    sink         TEXT    NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    seq          INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    error        TEXT,
    PRIMARY KEY (sink, conversation, seq)
) STRICT, WITHOUT ROWID;
