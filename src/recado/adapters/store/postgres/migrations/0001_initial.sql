-- Conversations, their members, the log of each; what is behind the commit; people. All of it is in the schema `recado`.

CREATE TABLE conversations (
    key         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- what the other tables point at, and never shown
    id          text COLLATE "C" NOT NULL UNIQUE,
    subject     text,
    metadata    text   NOT NULL,            -- the host's own JSON object, as it came
    created_at  bigint NOT NULL,            -- ms since the epoch, as all times here
    active_at   bigint NOT NULL,            -- of the last event
    last_seq    bigint NOT NULL DEFAULT 0,  -- of the last event, 0 for an empty log
    position    bigint NOT NULL DEFAULT 0,  -- of the last event, in the order of everything
    members_seq bigint NOT NULL DEFAULT 0,  -- of the last event that changed who is a member
    swept_up_to bigint NOT NULL DEFAULT 0,  -- where retention has been
    erased_at   bigint                      -- not null: only the id is left, so that it stays taken
) WITH (fillfactor = 70);                   -- a row is updated with every commit in it, and stays on its page

CREATE TABLE members (
    key             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- grows in the order of joining
    conversation    bigint NOT NULL REFERENCES conversations (key),
    user_id         text COLLATE "C" NOT NULL,
    joined_seq      bigint NOT NULL,        -- of the member_added; 0: was there from the start
    read_up_to      bigint NOT NULL,        -- the seq that the user has read up to
    delivered_up_to bigint NOT NULL,        -- the seq up to which a device has it
    muted           boolean NOT NULL DEFAULT false,
    UNIQUE (conversation, user_id)
) WITH (fillfactor = 70);

CREATE INDEX members_by_user ON members (user_id, conversation);

CREATE TABLE departures (                   -- who was removed, and by which event: the last one that the user gets
    user_id      text COLLATE "C" NOT NULL,
    conversation bigint NOT NULL REFERENCES conversations (key),
    seq          bigint NOT NULL,
    PRIMARY KEY (user_id, conversation)
);

CREATE INDEX departures_by_conversation ON departures (conversation);

-- No foreign key: whoever inserts has locked the conversation's row, and a check of each event would look at it again.
CREATE TABLE events (
    conversation bigint NOT NULL,
    seq          bigint NOT NULL,
    position     bigint NOT NULL,           -- in the order of everything that was ever committed
    at           bigint NOT NULL,
    sender       text COLLATE "C",          -- null: the host itself
    type         text COLLATE "C",          -- null: a message
    id           text COLLATE "C",          -- a message's, chosen by its sender
    body         text,                      -- a message's
    detail       text,                      -- the other types' own fields, as a JSON object
    target       bigint,                    -- of edited and deleted: the message's seq; its body is there alone
    edited_at    bigint,                    -- a message's, if its body was changed
    PRIMARY KEY (conversation, seq)
);

CREATE UNIQUE INDEX events_by_position ON events (position);
CREATE UNIQUE INDEX events_by_sender_and_id ON events (conversation, sender, id) WHERE id IS NOT NULL;
CREATE INDEX events_of_membership ON events (conversation, seq) WHERE type IN ('member_added', 'member_removed');

CREATE TABLE log_end (                      -- one row: how many events were ever committed
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO log_end (position) VALUES (0);

CREATE TABLE erasures (                     -- begun and not over: after a crash they are finished from here
    key          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation bigint NOT NULL REFERENCES conversations (key),
    user_id      text COLLATE "C",          -- whose messages; null: the whole log
    up_to        bigint NOT NULL,           -- the log's end when it began: what was sent since stays
    UNIQUE (conversation, user_id)
);

CREATE TABLE erased_conversations (         -- what ends an erased log, for the other processes; deleted after a while
    position     bigint PRIMARY KEY,
    conversation bigint NOT NULL REFERENCES conversations (key),
    seq          bigint NOT NULL,
    at           bigint NOT NULL,
    members      text[] NOT NULL            -- who is told
);

-- Behind the commit

-- What the sinks have to do about events. Every row is changed and deleted soon: the dead ones are cleared away often.
CREATE TABLE jobs (
    sink         text COLLATE "C" NOT NULL,
    conversation bigint  NOT NULL,
    seq          bigint  NOT NULL,
    created_at   bigint  NOT NULL,                  -- when its event was
    due_at       bigint  NOT NULL,                  -- when it may run next, or when its lease expires
    attempt      integer NOT NULL DEFAULT 0,        -- so often it was claimed
    is_claimed   boolean NOT NULL DEFAULT false,
    is_parked    boolean NOT NULL DEFAULT false,    -- an earlier one of its conversation and sink has to go first
    queued_at    bigint  NOT NULL DEFAULT 0,        -- when a queue was given it
    error        text,                              -- of the last attempt that failed
    PRIMARY KEY (sink, conversation, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

CREATE INDEX jobs_by_due_at ON jobs (sink, due_at, conversation, seq) WHERE NOT is_parked;
CREATE INDEX jobs_claimed ON jobs (sink, conversation) WHERE is_claimed;
CREATE INDEX jobs_parked ON jobs (sink, conversation) WHERE is_parked;

CREATE INDEX jobs_to_queue ON jobs (sink, due_at, conversation, seq) WHERE queued_at < due_at;

CREATE TABLE dead_letters (                         -- jobs that were given up: nothing waits for them
    sink         text COLLATE "C" NOT NULL,
    conversation bigint  NOT NULL,
    seq          bigint  NOT NULL,
    created_at   bigint  NOT NULL,
    due_at       bigint  NOT NULL,
    attempt      integer NOT NULL,
    error        text,
    PRIMARY KEY (sink, conversation, seq)
);

-- People

CREATE TABLE users (
    id   text COLLATE "C" PRIMARY KEY,
    name text NOT NULL
);

CREATE UNLOGGED TABLE pages (               -- that users have open; after a crash they report again within half a minute
    user_id  text COLLATE "C" NOT NULL,
    page     text COLLATE "C" NOT NULL,
    visible  boolean NOT NULL,
    until    bigint NOT NULL,
    PRIMARY KEY (user_id, page)
);

CREATE INDEX pages_by_until ON pages (until);

CREATE TABLE push_subscriptions (
    endpoint   text COLLATE "C" PRIMARY KEY,
    user_id    text COLLATE "C" NOT NULL,
    p256dh     text NOT NULL,
    auth       text NOT NULL,
    created_at bigint NOT NULL
);

CREATE INDEX push_subscriptions_by_user ON push_subscriptions (user_id);
