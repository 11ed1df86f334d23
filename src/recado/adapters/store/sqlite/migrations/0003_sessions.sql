-- The MQTT sessions that outlive their connections. A session's queue is the conversations' logs: it keeps how far its
-- client has acknowledged each, and the packet ids that must not count twice.

ALTER TABLE members ADD COLUMN joined_seq INTEGER NOT NULL DEFAULT 0;  -- of the member_added; 0: was there from the start

CREATE TABLE sessions (
    key             INTEGER PRIMARY KEY AUTOINCREMENT,  -- chosen by the server; sqlite_sequence remembers the largest
    user            TEXT    NOT NULL,
    client_id       TEXT    NOT NULL,
    expiry_interval INTEGER NOT NULL,       -- seconds
    ended_at_ms     INTEGER,                -- Unix time; null: it has a connection
    will            BLOB                    -- MessagePack
) STRICT;

CREATE INDEX sessions_by_user ON sessions (user);

CREATE TABLE subscriptions (
    session      INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    topic_filter TEXT    NOT NULL,
    qos          INTEGER NOT NULL,
    no_local     INTEGER NOT NULL,
    retain_as_published INTEGER NOT NULL,
    retain_handling     INTEGER NOT NULL,
    identifier   INTEGER NOT NULL,
    PRIMARY KEY (session, topic_filter)
) STRICT, WITHOUT ROWID;

-- How far a session is in a log; of those without a row it has had nothing since it could see them.
CREATE TABLE cursors (
    session      INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    conversation INTEGER NOT NULL REFERENCES conversations (key) ON DELETE CASCADE,
    seq          INTEGER NOT NULL,
    joined_seq   INTEGER NOT NULL DEFAULT 0,  -- of the membership in which the client asked for what is before it, too
    PRIMARY KEY (session, conversation)
) STRICT, WITHOUT ROWID;

CREATE INDEX cursors_by_conversation ON cursors (conversation);

-- What a session sent itself, and is not to get back, of what its cursor has not passed.
CREATE TABLE own_events (
    session      INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    conversation INTEGER NOT NULL REFERENCES conversations (key) ON DELETE CASCADE,
    seq          INTEGER NOT NULL,
    PRIMARY KEY (session, conversation, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX own_events_by_conversation ON own_events (conversation);

CREATE TABLE inflight (
    place        INTEGER PRIMARY KEY,       -- grows in the order of sending
    session      INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    packet_id    INTEGER NOT NULL,
    conversation INTEGER,                   -- null: released, only its packet id is left
    seq          INTEGER,
    qos          INTEGER NOT NULL,
    UNIQUE (session, packet_id)
) STRICT;

CREATE TABLE received (
    session   INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    packet_id INTEGER NOT NULL,
    PRIMARY KEY (session, packet_id)
) STRICT, WITHOUT ROWID;
