-- Every statement that the sessions run in the conversations' database. "-- name: what it does" starts one.

-- save_session: new, or in the place of what was known of it
INSERT INTO sessions (key, user, client_id, expiry_interval, ended_at_ms, will) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET user = excluded.user, client_id = excluded.client_id,
    expiry_interval = excluded.expiry_interval, ended_at_ms = excluded.ended_at_ms, will = excluded.will;

-- end_session: the session with all that refers to it
DELETE FROM sessions WHERE key = ?;

-- save_subscription: new, or in the place of one with the same filter
INSERT OR REPLACE INTO subscriptions
    (session, topic_filter, qos, no_local, retain_as_published, retain_handling, identifier)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- delete_subscription: one filter of a session
DELETE FROM subscriptions WHERE session = ? AND topic_filter = ?;

-- acknowledging_filters: a session's filters of QoS 1 and 2
SELECT topic_filter FROM subscriptions WHERE session = ? AND qos > 0;

-- start_in_all: from now on, in every log of the session's user but those of a JSON array of conversation ids
INSERT INTO cursors (session, conversation, seq)
SELECT s.key, c.key, c.last_seq
FROM sessions s JOIN members m ON m.user = s.user JOIN conversations c ON c.key = m.conversation
WHERE s.key = ?1 AND c.id NOT IN (SELECT value FROM json_each(?2))
ON CONFLICT (session, conversation) DO UPDATE SET seq = excluded.seq;

-- start_in_one: from now on, in one log
INSERT INTO cursors (session, conversation, seq)
SELECT s.key, c.key, c.last_seq FROM sessions s JOIN conversations c ON c.id = ?2 WHERE s.key = ?1
ON CONFLICT (session, conversation) DO UPDATE SET seq = excluded.seq;

-- start_after: from a seq on, at most from the end, whatever was before; a member may ask for what is older than its
-- membership
INSERT INTO cursors (session, conversation, seq, joined_seq)
SELECT s.key, c.key, min(?3, c.last_seq), m.joined_seq
FROM sessions s JOIN conversations c ON c.id = ?2 JOIN members m ON m.conversation = c.key AND m.user = s.user
WHERE s.key = ?1
ON CONFLICT (session, conversation) DO UPDATE SET seq = excluded.seq, joined_seq = excluded.joined_seq;

-- save_cursor: the session is that far in a log; it does not go back
INSERT INTO cursors (session, conversation, seq)
SELECT s.key, c.key, ?3 FROM sessions s JOIN conversations c ON c.id = ?2 WHERE s.key = ?1 AND c.erased_at IS NULL
ON CONFLICT (session, conversation) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq;

-- has_had: whether a session is that far in a log
SELECT 1 FROM cursors k JOIN conversations c ON c.key = k.conversation WHERE k.session = ? AND c.id = ? AND k.seq >= ?;

-- save_inflight: a packet id of a session is in use; what used it before is over
INSERT OR REPLACE INTO inflight (session, packet_id, conversation, seq, qos)
SELECT s.key, ?2, c.key, ?4, ?5 FROM sessions s JOIN conversations c ON c.id = ?3 WHERE s.key = ?1;

-- acknowledge: a packet id is free
DELETE FROM inflight WHERE session = ? AND packet_id = ?;

-- release: only the packet id is left of what is in flight under it
UPDATE inflight SET conversation = NULL, seq = NULL WHERE session = ? AND packet_id = ?;

-- receive: a packet id of QoS 2 is taken
INSERT INTO received (session, packet_id) SELECT key, ?2 FROM sessions WHERE key = ?1 ON CONFLICT DO NOTHING;

-- forget: a packet id of QoS 2 is free
DELETE FROM received WHERE session = ? AND packet_id = ?;

-- all_sessions: those that there are
SELECT key, user, client_id, expiry_interval, ended_at_ms, will FROM sessions;

-- all_subscriptions: of all sessions
SELECT session, topic_filter, qos, no_local, retain_as_published, retain_handling, identifier FROM subscriptions;

-- last_key: the largest ever, of sessions that are gone too
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'sessions'), 0);

-- inflight_of: what a session may still read of what is in flight, and the packet ids of what was released, in order; a
-- change shows the body that its message has now
SELECT i.packet_id, i.qos, c.id,
    e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM inflight i
JOIN sessions s ON s.key = i.session
LEFT JOIN conversations c ON c.key = i.conversation
LEFT JOIN members m ON m.conversation = i.conversation AND m.user = s.user
LEFT JOIN events e ON e.conversation = i.conversation AND e.seq = i.seq
LEFT JOIN events t ON t.conversation = e.conversation AND t.seq = e.target
WHERE i.session = ? AND (i.conversation IS NULL OR (m.key IS NOT NULL AND e.seq IS NOT NULL))
ORDER BY i.place;

-- release_closed: at QoS 2 the client may have what it may not read any more, and know it by its packet id
UPDATE inflight SET conversation = NULL, seq = NULL WHERE session = ? AND qos = 2 AND NOT EXISTS (
    SELECT 1 FROM sessions s JOIN members m ON m.user = s.user AND m.conversation = inflight.conversation
    WHERE s.key = inflight.session);

-- delete_taken_up: what a session keeps in memory from now on, or may not read any more
DELETE FROM inflight WHERE session = ? AND qos = 1;

-- received_of: the packet ids of QoS 2 that a session's client has not released
SELECT packet_id FROM received WHERE session = ?;

-- behind: the logs that have more than a session has had: how far it is, and their ends
SELECT c.id,
    CASE WHEN k.joined_seq = m.joined_seq THEN k.seq ELSE max(coalesce(k.seq, 0), m.joined_seq - 1) END AS had,
    c.last_seq
FROM sessions s
JOIN members m ON m.user = s.user
JOIN conversations c ON c.key = m.conversation
LEFT JOIN cursors k ON k.session = s.key AND k.conversation = c.key
WHERE s.key = ?1 AND c.last_seq > had;

-- behind_in: the same of one log
SELECT c.id,
    CASE WHEN k.joined_seq = m.joined_seq THEN k.seq ELSE max(coalesce(k.seq, 0), m.joined_seq - 1) END AS had,
    c.last_seq
FROM sessions s
JOIN conversations c ON c.id = ?2
JOIN members m ON m.conversation = c.key AND m.user = s.user
LEFT JOIN cursors k ON k.session = s.key AND k.conversation = c.key
WHERE s.key = ?1 AND c.last_seq > had;

-- forget_all: how far a session was, but for a JSON array of conversation ids
DELETE FROM cursors WHERE session = ?1 AND conversation NOT IN (
    SELECT c.key FROM conversations c JOIN json_each(?2) kept ON c.id = kept.value);

-- forget_one: how far a session was in one log
DELETE FROM cursors WHERE session = ?1 AND conversation = (SELECT key FROM conversations WHERE id = ?2);

-- forget_own: what a session sent itself of a log up to a seq
DELETE FROM own_events
WHERE session = ?1 AND conversation = (SELECT key FROM conversations WHERE id = ?2) AND seq <= ?3;

-- own_of: what a session sent itself, and is not to get back: so many at most
SELECT c.id, o.seq FROM own_events o JOIN conversations c ON c.key = o.conversation WHERE o.session = ? LIMIT ?;
