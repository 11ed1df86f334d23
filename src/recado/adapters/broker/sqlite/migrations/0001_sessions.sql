-- The sessions that outlive their connections, what waits for them, and the retained messages.

CREATE TABLE sessions (
    key             INTEGER PRIMARY KEY AUTOINCREMENT,  -- chosen by the server; sqlite_sequence remembers the largest
    user            TEXT    NOT NULL,
    client_id       TEXT    NOT NULL,
    expiry_interval INTEGER NOT NULL,       -- seconds
    ended_at_ms     INTEGER,                -- Unix time, as all times here; null: it has a connection
    will            BLOB                    -- MessagePack
) STRICT;

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

-- A publication, once, however many sessions it is for. The triggers below delete it with the last row that points here.
CREATE TABLE messages (
    position      INTEGER PRIMARY KEY AUTOINCREMENT,    -- chosen by the server; sqlite_sequence remembers the largest
    size          INTEGER NOT NULL,         -- bytes, as the server counts them for the queues' bounds
    expires_at_ms INTEGER NOT NULL,         -- 0: never; like the size it is read without the payload
    topic_name    TEXT    NOT NULL,
    payload       BLOB    NOT NULL,
    qos           INTEGER NOT NULL,
    log_position  INTEGER,
    retain        INTEGER NOT NULL,
    properties    BLOB                      -- MessagePack; null: none
) STRICT;

-- `place` grows with every row of either table, and orders a session's queue, and its flight.
CREATE TABLE queued (
    session     INTEGER NOT NULL,
    place       INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    qos         INTEGER NOT NULL,
    retain      INTEGER NOT NULL,
    identifiers BLOB,                       -- MessagePack; null: none
    PRIMARY KEY (session, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE inflight (
    id          INTEGER PRIMARY KEY,        -- session << 16 | packet id: one b-tree, and one number to delete by
    place       INTEGER NOT NULL,
    position    INTEGER,                    -- null: released, only its packet id is left
    qos         INTEGER NOT NULL,
    retain      INTEGER NOT NULL,
    identifiers BLOB
) STRICT;

CREATE TABLE received (
    id INTEGER PRIMARY KEY                  -- session << 16 | packet id
) STRICT;

CREATE TABLE retained (
    key           INTEGER PRIMARY KEY,
    topic_name    TEXT    NOT NULL UNIQUE,
    payload       BLOB    NOT NULL,
    qos           INTEGER NOT NULL,
    log_position  INTEGER,
    retain        INTEGER NOT NULL,
    properties    BLOB,
    expires_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX queued_by_position ON queued (position);
CREATE INDEX inflight_by_position ON inflight (position) WHERE position IS NOT NULL;

CREATE TRIGGER queued_deleted AFTER DELETE ON queued BEGIN
    DELETE FROM messages WHERE position = old.position
        AND NOT EXISTS (SELECT 1 FROM inflight WHERE position = old.position)
        AND NOT EXISTS (SELECT 1 FROM queued WHERE position = old.position);
END;

CREATE TRIGGER inflight_deleted AFTER DELETE ON inflight WHEN old.position IS NOT NULL BEGIN
    DELETE FROM messages WHERE position = old.position
        AND NOT EXISTS (SELECT 1 FROM inflight WHERE position = old.position)
        AND NOT EXISTS (SELECT 1 FROM queued WHERE position = old.position);
END;

CREATE TRIGGER inflight_released AFTER UPDATE OF position ON inflight WHEN old.position IS NOT NULL BEGIN
    DELETE FROM messages WHERE position = old.position
        AND NOT EXISTS (SELECT 1 FROM inflight WHERE position = old.position)
        AND NOT EXISTS (SELECT 1 FROM queued WHERE position = old.position);
END;
