-- One order over all logs, so that one number says how far a user has read in all its conversations.

ALTER TABLE events ADD COLUMN position INTEGER NOT NULL DEFAULT 0;         -- grows with every event of the store
ALTER TABLE conversations ADD COLUMN position INTEGER NOT NULL DEFAULT 0;  -- of the last event

CREATE TABLE departures (                -- who was removed, and by which event: the last one that the user gets
    user         TEXT    NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    seq          INTEGER NOT NULL,
    PRIMARY KEY (user, conversation)
) STRICT, WITHOUT ROWID;

CREATE INDEX departures_by_conversation ON departures (conversation);
