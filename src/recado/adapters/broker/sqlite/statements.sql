-- Every statement that the storage runs. "-- name: what it does" starts one; parameters are positional.
-- What ends in one row of VALUES may be run with many.

-- save_session: new, or in the place of what was known of it
INSERT INTO sessions (key, user, client_id, expiry_interval, ended_at_ms, will) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET user = excluded.user, client_id = excluded.client_id,
    expiry_interval = excluded.expiry_interval, ended_at_ms = excluded.ended_at_ms, will = excluded.will;

-- session_keys: of all sessions
SELECT key FROM sessions;

-- delete_session: the session and its subscriptions
DELETE FROM sessions WHERE key = ?;

-- delete_queued: a session's queue
DELETE FROM queued WHERE session = ?;

-- delete_inflight: what is in flight within a range of ids
DELETE FROM inflight WHERE id BETWEEN ? AND ?;

-- delete_received: what came in QoS 2 within a range of ids
DELETE FROM received WHERE id BETWEEN ? AND ?;

-- save_subscription: new, or in the place of one with the same filter
INSERT OR REPLACE INTO subscriptions
    (session, topic_filter, qos, no_local, retain_as_published, retain_handling, identifier)
VALUES (?, ?, ?, ?, ?, ?, ?);

-- delete_subscription: one filter of a session
DELETE FROM subscriptions WHERE session = ? AND topic_filter = ?;

-- retain: new, or in the place of the topic's last one
INSERT INTO retained (topic_name, payload, qos, log_position, retain, properties, expires_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (topic_name) DO UPDATE SET payload = excluded.payload, qos = excluded.qos,
    log_position = excluded.log_position, retain = excluded.retain, properties = excluded.properties,
    expires_at_ms = excluded.expires_at_ms;

-- clear_retained: the retained message of a topic
DELETE FROM retained WHERE topic_name = ?;

-- insert_messages: publications
INSERT INTO messages (position, size, topic_name, payload, qos, log_position, retain, properties, expires_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- insert_queued: at the ends of queues
INSERT INTO queued (session, place, position, qos, retain, identifiers) VALUES (?, ?, ?, ?, ?, ?);

-- insert_inflight: under their ids
INSERT INTO inflight (id, place, position, qos, retain, identifiers) VALUES (?, ?, ?, ?, ?, ?);

-- acknowledge: what is in flight under the ids of a JSON array is over
DELETE FROM inflight WHERE id IN (SELECT value FROM json_each(?));

-- release: of what is in flight under the ids of a JSON array only the ids are left
UPDATE inflight SET position = NULL WHERE id IN (SELECT value FROM json_each(?));

-- receive: the ids of a JSON array are taken
INSERT INTO received (id) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING;

-- forget: the ids of a JSON array are free
DELETE FROM received WHERE id IN (SELECT value FROM json_each(?));

-- last_place: the largest in use
SELECT max((SELECT coalesce(max(place), 0) FROM queued), (SELECT coalesce(max(place), 0) FROM inflight));

-- queue_head: the first of a session's queue that have not expired at a time
SELECT q.place, q.position, q.qos, q.retain, q.identifiers,
       m.topic_name, m.payload, m.qos, m.log_position, m.retain, m.properties, m.expires_at_ms
FROM queued q JOIN messages m ON m.position = q.position
WHERE q.session = ? AND (m.expires_at_ms = 0 OR m.expires_at_ms > ?)
ORDER BY q.place LIMIT ?;

-- count_queued: how many and how many bytes a session's queue has up to a place
SELECT count(*), coalesce(sum(m.size), 0)
FROM queued q JOIN messages m ON m.position = q.position
WHERE q.session = ? AND q.place <= ?;

-- delete_queued_up_to: a session's queue up to a place
DELETE FROM queued WHERE session = ? AND place <= ?;

-- count_expired: how many and how many bytes of a session's queue have expired at a time
SELECT count(*), coalesce(sum(m.size), 0)
FROM queued q JOIN messages m ON m.position = q.position
WHERE q.session = ? AND m.expires_at_ms BETWEEN 1 AND ?;

-- delete_expired: what of a session's queue, named twice, has expired at a time
DELETE FROM queued WHERE session = ? AND place IN (
    SELECT q.place FROM queued q JOIN messages m ON m.position = q.position
    WHERE q.session = ? AND m.expires_at_ms BETWEEN 1 AND ?);

-- next_expiry: when the first of a session's queue expires; 0 for never
SELECT coalesce(min(m.expires_at_ms), 0)
FROM queued q JOIN messages m ON m.position = q.position
WHERE q.session = ? AND m.expires_at_ms > 0;

-- queue_has_more: whether anything is in a session's queue
SELECT EXISTS (SELECT 1 FROM queued WHERE session = ?);

-- inflight_of: what is in flight within a range of ids, in the order of its first sending
SELECT i.id, i.position, i.qos, i.retain, i.identifiers,
       m.topic_name, m.payload, m.qos, m.log_position, m.retain, m.properties, m.expires_at_ms
FROM inflight i LEFT JOIN messages m ON m.position = i.position
WHERE i.id BETWEEN ? AND ? ORDER BY i.place;

-- received_of: what came in QoS 2 within a range of ids
SELECT id FROM received WHERE id BETWEEN ? AND ? ORDER BY id;

-- all_sessions: with the length of each one's queue, in messages and bytes
SELECT s.key, s.user, s.client_id, s.expiry_interval, s.ended_at_ms, s.will,
       count(m.position), coalesce(sum(m.size), 0)
FROM sessions s LEFT JOIN queued q ON q.session = s.key LEFT JOIN messages m ON m.position = q.position
GROUP BY s.key;

-- all_subscriptions: of all sessions
SELECT session, topic_filter, qos, no_local, retain_as_published, retain_handling, identifier FROM subscriptions;

-- delete_expired_retained: those that have expired at a time
DELETE FROM retained WHERE expires_at_ms BETWEEN 1 AND ?;

-- all_retained: the retained messages
SELECT topic_name, payload, qos, log_position, retain, properties, expires_at_ms FROM retained ORDER BY key;

-- largest_ever: a table's largest key, of rows that are gone too
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?), 0);
