-- What users are called, which pages they have open, where they want to be called, and for what not.

CREATE TABLE users (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE members ADD COLUMN muted INTEGER NOT NULL DEFAULT 0;  -- not 0: the user is not called for it

CREATE TABLE pages (
    user    TEXT    NOT NULL,
    page    TEXT    NOT NULL,               -- an id that the page made up
    visible INTEGER NOT NULL,               -- 0: hidden
    until   INTEGER NOT NULL,               -- it is closed then, unless it is renewed
    PRIMARY KEY (user, page)
) STRICT, WITHOUT ROWID;

CREATE INDEX pages_by_until ON pages (until);

CREATE TABLE push_subscriptions (
    endpoint TEXT    NOT NULL PRIMARY KEY,
    user     TEXT    NOT NULL,              -- who named it last
    p256dh   TEXT    NOT NULL,              -- keys, in base64url
    auth     TEXT    NOT NULL,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX push_subscriptions_by_user ON push_subscriptions (user);
