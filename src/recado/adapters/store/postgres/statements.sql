-- Every statement that the store runs. "-- name: what it does" starts one; parameters are positional. Lists come as
-- arrays, one for each column.

-- create_conversations: those whose ids are not taken, with empty logs
INSERT INTO conversations (id, subject, metadata, created_at, active_at)
SELECT id, subject, metadata, at, at FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
    AS new (id, subject, metadata, at) ORDER BY id
ON CONFLICT (id) DO NOTHING RETURNING key, id;

-- lock_conversations: hold their rows until the transaction ends, in the order of the ids
SELECT key, id, last_seq, members_seq FROM conversations
WHERE id = ANY ($1::text[]) AND erased_at IS NULL ORDER BY id FOR NO KEY UPDATE;

-- members_of_each: the members of several conversations
SELECT conversation, array_agg(user_id) FROM members WHERE conversation = ANY ($1::bigint[]) GROUP BY conversation;

-- events_by_ids: the messages that these senders have sent under these ids
SELECT e.conversation, e.seq, e.at, e.sender, e.type, e.id, e.body, e.detail, e.target, e.edited_at
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS asked (conversation, sender, id)
JOIN events e ON e.conversation = asked.conversation AND e.sender = asked.sender AND e.id = asked.id;

-- cursors_of_each: how far these members are
SELECT m.conversation, m.user_id, m.read_up_to, m.delivered_up_to
FROM unnest($1::bigint[], $2::text[]) AS asked (conversation, user_id)
JOIN members m ON m.conversation = asked.conversation AND m.user_id = asked.user_id;

-- senders_among: the messages past one seq and up to another in each log, and who sent them
SELECT DISTINCT e.conversation, e.seq, e.sender
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS asked (conversation, after, up_to)
JOIN events e ON e.conversation = asked.conversation AND e.seq > asked.after AND e.seq <= asked.up_to
WHERE e.type IS NULL;

-- append_events: so many places at the end of everything: the events that are stored, each at its place, and the new ends
-- of their logs. Returns the position before the first place, and tells every process of the last one
WITH counted AS (
    UPDATE log_end SET position = position + $1 RETURNING position - $1 AS before
), stored AS (
    INSERT INTO events (position, conversation, seq, at, sender, type, id, body, detail, target)
    SELECT before + place, conversation, seq, at, sender, type, id, body, detail, target
    FROM counted, unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::bigint[])
        AS new (place, conversation, seq, at, sender, type, id, body, detail, target)
), advanced AS (
    UPDATE conversations c SET last_seq = log.last_seq, active_at = log.active_at,
        position = counted.before + log.place, members_seq = log.members_seq
    FROM counted, unnest($13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[])
        AS log (key, last_seq, active_at, place, members_seq)
    WHERE c.key = log.key
)
SELECT before, pg_notify($2, (before + $1)::text) FROM counted;

-- insert_jobs: what sinks have to do about events
INSERT INTO jobs (sink, conversation, seq, created_at, due_at)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]);

-- insert_members: new members have got and read what was there; who was removed before is no departed one any more
WITH new AS (
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
        WITH ORDINALITY AS new (conversation, user_id, last_seq, joined_seq, place)
), returned AS (
    DELETE FROM departures d USING new WHERE d.user_id = new.user_id AND d.conversation = new.conversation
)
INSERT INTO members (conversation, user_id, joined_seq, read_up_to, delivered_up_to)
SELECT conversation, user_id, joined_seq, last_seq, last_seq FROM new ORDER BY place;

-- delete_member: take a member out
DELETE FROM members WHERE conversation = $1 AND user_id = $2;

-- insert_departure: the event by which a user was removed
INSERT INTO departures (user_id, conversation, seq) VALUES ($1, $2, $3);

-- insert_erased_conversation: what ended it, and who was in it
INSERT INTO erased_conversations (position, conversation, seq, at, members) VALUES ($1, $2, $3, $4, $5);

-- forget_erased_conversations: those that ended before a time: who has not been told by now is not going to be
DELETE FROM erased_conversations WHERE at < $1;

-- describe_conversation: its subject and metadata
SELECT subject, metadata FROM conversations WHERE key = $1;

-- update_conversation: set its subject and metadata
UPDATE conversations SET subject = $2, metadata = $3 WHERE key = $1;

-- erased_key: of a conversation of which only the id is left
SELECT key FROM conversations WHERE id = $1 AND erased_at IS NOT NULL;

-- event_at: one entry as it is stored
SELECT seq, at, sender, type, id, body, detail, target, edited_at FROM events WHERE conversation = $1 AND seq = $2;

-- edit_message: the message has another body
UPDATE events SET body = $3, edited_at = $4 WHERE conversation = $1 AND seq = $2;

-- delete_message: the entry stays, its body goes
UPDATE events SET type = 'deleted', body = NULL, edited_at = NULL
WHERE conversation = $1 AND seq = $2 AND type IS NULL;

-- set_cursors: how far these members are now
UPDATE members m SET read_up_to = moved.read_up_to, delivered_up_to = moved.delivered_up_to
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
    AS moved (conversation, user_id, read_up_to, delivered_up_to)
WHERE m.conversation = moved.conversation AND m.user_id = moved.user_id;

-- check_writable: a write would be tried now
SELECT position FROM log_end FOR NO KEY UPDATE;

-- log_end: the position of the newest event of all
SELECT position FROM log_end;

-- conversation_row: one conversation with its members and last event, and a member's cursor and unread messages
SELECT c.key, c.id, c.subject, c.metadata, c.created_at, c.active_at, c.last_seq, v.read_up_to, v.muted,
    ARRAY (SELECT m.user_id FROM members m WHERE m.conversation = c.key ORDER BY m.key),
    ARRAY (SELECT u.name FROM members m LEFT JOIN users u ON u.id = m.user_id WHERE m.conversation = c.key ORDER BY m.key),
    CASE WHEN v.read_up_to < c.last_seq THEN (
        SELECT count(*) FROM (
            SELECT u.sender, u.type FROM events u
            WHERE u.conversation = c.key AND u.seq > v.read_up_to ORDER BY u.seq LIMIT $3
        ) AS newer WHERE newer.type IS NULL AND newer.sender IS DISTINCT FROM $2
    ) ELSE 0 END,
    e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM conversations c
LEFT JOIN members v ON v.conversation = c.key AND v.user_id = $2
LEFT JOIN events e ON e.conversation = c.key AND e.seq = c.last_seq
LEFT JOIN events t ON t.conversation = c.key AND t.seq = e.target
WHERE c.id = $1 AND c.erased_at IS NULL;

-- conversation_rows_of: the same of a user's conversations that are listed after (active_at, key), newest activity first
SELECT c.key, c.id, c.subject, c.metadata, c.created_at, c.active_at, c.last_seq, v.read_up_to, v.muted,
    ARRAY (SELECT m.user_id FROM members m WHERE m.conversation = c.key ORDER BY m.key),
    ARRAY (SELECT u.name FROM members m LEFT JOIN users u ON u.id = m.user_id WHERE m.conversation = c.key ORDER BY m.key),
    CASE WHEN v.read_up_to < c.last_seq THEN (
        SELECT count(*) FROM (
            SELECT u.sender, u.type FROM events u
            WHERE u.conversation = c.key AND u.seq > v.read_up_to ORDER BY u.seq LIMIT $2
        ) AS newer WHERE newer.type IS NULL AND newer.sender IS DISTINCT FROM $1
    ) ELSE 0 END,
    e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM (
    SELECT m.read_up_to, m.muted, mine.* FROM members m JOIN conversations mine ON mine.key = m.conversation
    WHERE m.user_id = $1 AND (mine.active_at, mine.key) < ($3::bigint, $4::bigint)
    ORDER BY mine.active_at DESC, mine.key DESC LIMIT $5
) AS c
CROSS JOIN LATERAL (SELECT c.read_up_to, c.muted) AS v
LEFT JOIN events e ON e.conversation = c.key AND e.seq = c.last_seq
LEFT JOIN events t ON t.conversation = c.key AND t.seq = e.target
ORDER BY c.active_at DESC, c.key DESC;

-- unread_count: others' messages among the first so many events past a seq
SELECT (
    SELECT count(*) FROM (
        SELECT e.sender, e.type FROM events e
        WHERE e.conversation = c.key AND e.seq > $2 ORDER BY e.seq LIMIT $3
    ) AS newer WHERE newer.type IS NULL AND newer.sender IS DISTINCT FROM $4
) FROM conversations c WHERE c.id = $1 AND c.erased_at IS NULL;

-- events_after: the first events past a seq and before another; a change shows the body that its message has now
SELECT c.last_seq, e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM conversations c LEFT JOIN LATERAL (
    SELECT * FROM events WHERE conversation = c.key AND seq > $3 AND seq < $4 ORDER BY seq LIMIT $5
) AS e ON true
LEFT JOIN events t ON t.conversation = c.key AND t.seq = e.target
WHERE c.id = $1 AND c.erased_at IS NULL
    AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM members m WHERE m.conversation = c.key AND m.user_id = $2))
ORDER BY e.seq;

-- events_before: the newest events before a seq, in order
SELECT c.last_seq, e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM conversations c LEFT JOIN LATERAL (
    SELECT * FROM events WHERE conversation = c.key AND seq < $3 ORDER BY seq DESC LIMIT $4
) AS e ON true
LEFT JOIN events t ON t.conversation = c.key AND t.seq = e.target
WHERE c.id = $1 AND c.erased_at IS NULL
    AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM members m WHERE m.conversation = c.key AND m.user_id = $2))
ORDER BY e.seq;

-- membership: who is a member, and where the log ends
SELECT c.last_seq, ARRAY (SELECT user_id FROM members m WHERE m.conversation = c.key)
FROM conversations c WHERE c.id = $1 AND c.erased_at IS NULL;

-- receipts: each member's cursors, in the order of joining; who joined later has had nothing until it has had its joining
SELECT m.user_id,
    CASE WHEN m.delivered_up_to < m.joined_seq THEN 0 ELSE m.delivered_up_to END,
    CASE WHEN m.read_up_to < m.joined_seq THEN 0 ELSE m.read_up_to END
FROM conversations c LEFT JOIN members m ON m.conversation = c.key
WHERE c.id = $1 AND c.erased_at IS NULL
    AND ($2::text IS NULL OR EXISTS (SELECT 1 FROM members v WHERE v.conversation = c.key AND v.user_id = $2))
ORDER BY m.key LIMIT $3;

-- circles_of: a user's conversations of at most so many members, newest activity first, each with its members
SELECT c.id, ARRAY (SELECT user_id FROM members o WHERE o.conversation = c.key)
FROM members m JOIN conversations c ON c.key = m.conversation
WHERE m.user_id = $1
    AND (SELECT count(*) FROM (SELECT 1 FROM members o WHERE o.conversation = c.key LIMIT $2 + 1) AS first) <= $2
ORDER BY c.active_at DESC, c.key DESC LIMIT $3;

-- log_past: the first entries past one position and up to another, with what ended the logs that were erased
SELECT e.position, c.key, c.id, c.members_seq,
    e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM (
    (SELECT position, conversation, seq, at, sender, type, id, body, detail, target, edited_at FROM events
        WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3)
    UNION ALL
    (SELECT position, conversation, seq, at, NULL, 'conversation_erased', NULL, NULL, NULL, NULL, NULL
        FROM erased_conversations WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3)
) AS e
JOIN conversations c ON c.key = e.conversation
LEFT JOIN events t ON t.conversation = e.conversation AND t.seq = e.target
ORDER BY e.position LIMIT $3;

-- last_members_of_each: the members of several conversations; of an erased one, those who were in it last
SELECT c.key, CASE WHEN c.erased_at IS NULL THEN ARRAY (SELECT user_id FROM members m WHERE m.conversation = c.key)
    ELSE (SELECT x.members FROM erased_conversations x WHERE x.conversation = c.key) END
FROM conversations c WHERE c.key = ANY ($1::bigint[]);

-- membership_events_from: who was added and removed from a seq on, in several logs
SELECT e.conversation, e.seq, e.at, e.sender, e.type, e.id, e.body, e.detail, e.target, e.edited_at
FROM unnest($1::bigint[], $2::bigint[]) AS asked (conversation, seq)
JOIN events e ON e.conversation = asked.conversation AND e.seq >= asked.seq
WHERE e.type IN ('member_added', 'member_removed');

-- feed: the first entries past a position in all of a user's conversations, from its joining on, and its removals from
-- others; each with the newest position of all of those. Where each log goes on is found by halving, as the positions of
-- a log grow with its seq; and of so many entries none is in a log that begins after so many others
WITH RECURSIVE active AS MATERIALIZED (
    SELECT c.key, c.id, c.last_seq, c.position, greatest(m.joined_seq, 1) - 1 AS before
    FROM members m JOIN conversations c ON c.key = m.conversation WHERE m.user_id = $1 AND c.position > $2
), search (key, low, high) AS (
    SELECT key, before, last_seq FROM active
    UNION ALL
    SELECT s.key, CASE WHEN e.position > $2 THEN s.low ELSE e.seq END, CASE WHEN e.position > $2 THEN e.seq ELSE s.high END
    FROM search s JOIN events e ON e.conversation = s.key AND e.seq = (s.low + s.high) / 2
    WHERE s.high - s.low > 1
), begins AS MATERIALIZED (
    SELECT a.key, a.id, e.seq FROM active a
    CROSS JOIN LATERAL (SELECT min(high) AS seq FROM search s WHERE s.key = a.key) AS first
    JOIN events e ON e.conversation = a.key AND e.seq = first.seq
    ORDER BY e.position LIMIT $3
), removals AS MATERIALIZED (
    SELECT c.id, e.conversation, e.seq, e.position FROM departures d
    JOIN conversations c ON c.key = d.conversation
    JOIN events e ON e.conversation = d.conversation AND e.seq = d.seq
    WHERE d.user_id = $1 AND c.position > $2 AND e.position > $2
), places AS (
    (SELECT b.id, e.conversation, e.seq, e.position FROM begins b CROSS JOIN LATERAL (
        SELECT conversation, seq, position FROM events WHERE conversation = b.key AND seq >= b.seq ORDER BY seq LIMIT $3
    ) AS e)
    UNION ALL
    SELECT id, conversation, seq, position FROM removals
    ORDER BY position LIMIT $3
), newest AS (
    SELECT greatest($2, (SELECT max(position) FROM active), (SELECT max(position) FROM removals)) AS position
)
SELECT newest.position, p.id, p.position,
    e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM newest LEFT JOIN places p ON true
LEFT JOIN events e ON e.conversation = p.conversation AND e.seq = p.seq
LEFT JOIN events t ON t.conversation = e.conversation AND t.seq = e.target
ORDER BY p.position;

-- newest_position: of the events of all of a user's conversations
SELECT coalesce(max(c.position), 0) FROM members m JOIN conversations c ON c.key = m.conversation WHERE m.user_id = $1;
