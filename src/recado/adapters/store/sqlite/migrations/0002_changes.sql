-- Receipts, and what takes back what was written: edits, deletions, erasure, retention.

ALTER TABLE members ADD COLUMN delivered_up_to INTEGER NOT NULL DEFAULT 0;  -- the seq up to which a device has it
UPDATE members SET delivered_up_to = read_up_to;

ALTER TABLE events ADD COLUMN target INTEGER;       -- of edited and deleted: the message's seq; its body is there alone
ALTER TABLE events ADD COLUMN edited_at INTEGER;    -- a message's, if its body was changed

ALTER TABLE conversations ADD COLUMN erased_at INTEGER;     -- not null: only the id is left, so that it stays taken
ALTER TABLE conversations ADD COLUMN swept_up_to INTEGER NOT NULL DEFAULT 0;  -- where retention has been

CREATE TABLE erasures (                 -- begun and not over: after a crash they are finished from here
    key          INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversations (key),
    user         TEXT,                  -- whose messages; null: the whole log
    up_to        INTEGER NOT NULL,      -- the log's end when it began: what was sent since stays
    UNIQUE (conversation, user)
) STRICT;
