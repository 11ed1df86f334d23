-- The statements about users, their pages and their push subscriptions.

-- put_name: what a user is called
INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = excluded.name;

-- delete_name: nothing but its id
DELETE FROM users WHERE id = $1;

-- names_of: what those of the users are called who have a name
SELECT id, name FROM users WHERE id = ANY ($1::text[]);

-- set_muted: whether the user is a member, and whether that is new
WITH changed AS (
    UPDATE members AS m SET muted = $3 FROM conversations AS c
    WHERE c.id = $1 AND c.erased_at IS NULL AND m.conversation = c.key AND m.user_id = $2 AND m.muted <> $3
    RETURNING m.key
)
SELECT (SELECT count(*) FROM changed) FROM conversations AS c JOIN members AS m ON m.conversation = c.key
WHERE c.id = $1 AND c.erased_at IS NULL AND m.user_id = $2;

-- put_page: a user's page, and until when it is open; so many of anybody's that have ended are forgotten
WITH ended AS (
    DELETE FROM pages WHERE (user_id, page) IN (
        SELECT user_id, page FROM pages WHERE until <= $5 AND (user_id, page) <> ($1, $2)
        ORDER BY until LIMIT $6 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO pages (user_id, page, visible, until) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, page) DO UPDATE SET visible = excluded.visible, until = excluded.until;

-- delete_page: a user has closed it
DELETE FROM pages WHERE user_id = $1 AND page = $2;

-- delete_pages_beyond: those of a user's pages that end first, of more than so many
DELETE FROM pages WHERE user_id = $1 AND page IN (
    SELECT page FROM pages WHERE user_id = $1 ORDER BY until DESC, page OFFSET $2 FOR UPDATE SKIP LOCKED
);

-- open_pages: who of the users has a page open, and whether one is on the screen
SELECT user_id, bool_or(visible) FROM pages WHERE user_id = ANY ($1::text[]) AND until > $2 GROUP BY user_id;

-- lock_subscriptions: nobody else adds to this user's until the transaction ends
SELECT pg_advisory_xact_lock($1, hashtext($2));

-- subscription_owner: whose an endpoint is
SELECT user_id FROM push_subscriptions WHERE endpoint = $1;

-- count_subscriptions: of a user
SELECT count(*) FROM push_subscriptions WHERE user_id = $1;

-- put_subscription: an endpoint belongs to who named it last
INSERT INTO push_subscriptions (endpoint, user_id, p256dh, auth, created_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (endpoint) DO UPDATE SET user_id = excluded.user_id, p256dh = excluded.p256dh, auth = excluded.auth;

-- delete_subscription: if it is the user's, or whosever it is
DELETE FROM push_subscriptions WHERE endpoint = $1 AND ($2::text IS NULL OR user_id = $2);

-- push_targets: where those of the users are to be called who are members, want it and have not read so far
SELECT s.user_id, s.endpoint, s.p256dh, s.auth
FROM conversations AS c
JOIN members AS m ON m.conversation = c.key AND m.user_id = ANY ($3::text[])
JOIN push_subscriptions AS s ON s.user_id = m.user_id
WHERE c.id = $1 AND c.erased_at IS NULL AND NOT m.muted AND m.read_up_to < $2
ORDER BY s.user_id, s.created_at, s.endpoint;

-- delete_pages_of: of an erased user
DELETE FROM pages WHERE user_id = $1;

-- delete_subscriptions_of: of an erased user
DELETE FROM push_subscriptions WHERE user_id = $1;
