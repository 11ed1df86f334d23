-- Conversations, their members, and the log of each.

CREATE TABLE conversations (
    key        INTEGER PRIMARY KEY,     -- what the other tables point at: small, and never shown
    id         TEXT    NOT NULL UNIQUE,
    subject    TEXT,
    metadata   TEXT    NOT NULL,        -- the host's own JSON object
    created_at INTEGER NOT NULL,        -- ms since the epoch, as all times here
    active_at  INTEGER NOT NULL,        -- of the last event
    last_seq   INTEGER NOT NULL         -- of the last event, 0 for an empty log
) STRICT;

CREATE TABLE members (
    key          INTEGER PRIMARY KEY,   -- grows in the order of joining
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    user         TEXT    NOT NULL,
    read_up_to   INTEGER NOT NULL,      -- the seq that the user has read up to
    UNIQUE (conversation, user)
) STRICT;

CREATE INDEX members_by_user ON members (user, conversation);

CREATE TABLE events (
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    seq          INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    sender       TEXT,                  -- null: the host itself
    type         TEXT,                  -- null: a message
    id           TEXT,                  -- a message's, chosen by its sender
    body         TEXT,                  -- a message's
    detail       TEXT,                  -- the other types' own fields, as a JSON object
    PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX events_by_sender_and_id ON events (conversation, sender, id) WHERE id IS NOT NULL;
