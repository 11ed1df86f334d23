-- Every statement that the store runs. "-- name: what it does" starts one; parameters are positional.

-- conversation_state: what the writer keeps in memory of a conversation
SELECT key, last_seq FROM conversations WHERE id = ? AND erased_at IS NULL;

-- living_key: of a conversation that is not erased
SELECT key FROM conversations WHERE id = ? AND erased_at IS NULL;

-- is_member: whether a user is one
SELECT 1 FROM members WHERE conversation = ? AND user = ?;

-- member_users: the members, in the order of joining
SELECT user FROM members WHERE conversation = ? ORDER BY key;

-- member_names: the same, with what they are called, null for nothing but the id
SELECT m.user, u.name FROM members m LEFT JOIN users u ON u.id = m.user WHERE m.conversation = ? ORDER BY m.key;

-- insert_event: append; changes nothing if the sender has sent this id before
INSERT INTO events (conversation, seq, position, at, sender, type, id, body, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, sender, id) WHERE id IS NOT NULL DO NOTHING;

-- event_by_id: the message that a sender has sent under this id
SELECT seq, at, sender, type, id, body, detail, target, edited_at FROM events
WHERE conversation = ? AND sender = ? AND id = ?;

-- advance_conversation: the log's new end
UPDATE conversations SET last_seq = ?, active_at = ?, position = ? WHERE key = ?;

-- last_position: of the newest event of the store
SELECT coalesce(max(position), 0) FROM conversations;

-- insert_conversation: create one with an empty log
INSERT INTO conversations (id, subject, metadata, created_at, active_at, last_seq) VALUES (?, ?, ?, ?, ?, 0);

-- describe_conversation: its subject and metadata
SELECT subject, metadata FROM conversations WHERE key = ?;

-- update_conversation: set its subject and metadata
UPDATE conversations SET subject = ?, metadata = ? WHERE key = ?;

-- insert_member: a new member has got and read what was there
INSERT INTO members (conversation, user, read_up_to, delivered_up_to, joined_seq) VALUES (?1, ?2, ?3, ?3, ?4);

-- receive: a session's packet id of QoS 2 is taken, unless the session is gone
INSERT INTO received (session, packet_id) SELECT key, ?2 FROM sessions WHERE key = ?1 ON CONFLICT DO NOTHING;

-- own: a session is not to get this event back, as long as there is the session
INSERT INTO own_events (session, conversation, seq) SELECT key, ?2, ?3 FROM sessions WHERE key = ?1;

-- delete_member: take a member out
DELETE FROM members WHERE conversation = ? AND user = ?;

-- insert_departure: the event by which a user was removed
INSERT INTO departures (user, conversation, seq) VALUES (?, ?, ?);

-- delete_departure: the user is a member again
DELETE FROM departures WHERE user = ? AND conversation = ?;

-- delete_departures_from: of an erased conversation
DELETE FROM departures WHERE conversation = ?;

-- delete_departures_of: of an erased user
DELETE FROM departures WHERE user = ?;

-- departures_past: a user's removals past a position, each with its event
SELECT c.id, e.position, e.seq, e.at, e.sender, e.type, e.id, e.body, e.detail, e.target, e.edited_at
FROM departures d JOIN conversations c ON c.key = d.conversation
JOIN events e ON e.conversation = d.conversation AND e.seq = d.seq
WHERE d.user = ?1 AND c.position > ?2 AND e.position > ?2;

-- active_past: a user's conversations in which something happened past a position, and since when the user sees it
SELECT c.key, c.id, m.joined_seq, c.last_seq, c.position FROM members m JOIN conversations c ON c.key = m.conversation
WHERE m.user = ? AND c.position > ?;

-- newest_position: of the events of all of a user's conversations
SELECT coalesce(max(c.position), 0) FROM members m JOIN conversations c ON c.key = m.conversation WHERE m.user = ?;

-- position_of: of one event
SELECT position FROM events WHERE conversation = ? AND seq = ?;

-- events_past: the first events from a seq on, with their positions
SELECT e.position, e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM events e LEFT JOIN events t ON t.conversation = e.conversation AND t.seq = e.target
WHERE e.conversation = ? AND e.seq >= ? ORDER BY e.seq LIMIT ?;

-- member_row: a member's read cursor, and whether it is called for the conversation
SELECT read_up_to, muted FROM members WHERE conversation = ? AND user = ?;

-- cursors: how far a member is
SELECT read_up_to, delivered_up_to FROM members WHERE conversation = ? AND user = ?;

-- set_cursors: how far it is now
UPDATE members SET read_up_to = ?, delivered_up_to = ? WHERE conversation = ? AND user = ?;

-- advance_delivered_up_to: move it forward; changes nothing if it was that far
UPDATE members SET delivered_up_to = ?1 WHERE conversation = ?2 AND user = ?3 AND delivered_up_to < ?1;

-- senders_among: who sent the messages past one seq and up to another
SELECT DISTINCT sender FROM events WHERE conversation = ? AND seq > ? AND seq <= ? AND type IS NULL;

-- receipts: each member's cursors, in the order of joining; who joined later has had nothing until it has had its joining
SELECT user,
    CASE WHEN delivered_up_to < joined_seq THEN 0 ELSE delivered_up_to END,
    CASE WHEN read_up_to < joined_seq THEN 0 ELSE read_up_to END
FROM members WHERE conversation = ? ORDER BY key LIMIT ?;

-- circles_of: a user's conversations of at most so many members, newest activity first
SELECT c.key, c.id FROM members m JOIN conversations c ON c.key = m.conversation
WHERE m.user = ?1 AND (SELECT count(*) FROM (SELECT 1 FROM members WHERE conversation = c.key LIMIT ?2 + 1)) <= ?2
ORDER BY c.active_at DESC, c.key DESC LIMIT ?3;

-- unread_count: others' messages among the first so many events past a seq
SELECT count(*) FROM (
    SELECT sender, type FROM events WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?
) WHERE type IS NULL AND sender IS NOT ?;

-- conversation_row: one conversation with its last event
SELECT c.key, c.id, c.subject, c.metadata, c.created_at, c.active_at, c.last_seq,
       e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM conversations c
LEFT JOIN events e ON e.conversation = c.key AND e.seq = c.last_seq
LEFT JOIN events t ON t.conversation = c.key AND t.seq = e.target
WHERE c.id = ? AND c.erased_at IS NULL;

-- conversation_rows_of: a user's conversations that are listed after (active_at, key), newest activity first
SELECT c.key, c.id, c.subject, c.metadata, c.created_at, c.active_at, c.last_seq,
       e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at,
       m.read_up_to, m.muted
FROM members m
JOIN conversations c ON c.key = m.conversation
LEFT JOIN events e ON e.conversation = c.key AND e.seq = c.last_seq
LEFT JOIN events t ON t.conversation = c.key AND t.seq = e.target
WHERE m.user = ? AND (c.active_at, c.key) < (?, ?)
ORDER BY c.active_at DESC, c.key DESC LIMIT ?;

-- events_after: the first events past a seq and before another; a change shows the body that its message has now
SELECT e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM events e LEFT JOIN events t ON t.conversation = e.conversation AND t.seq = e.target
WHERE e.conversation = ? AND e.seq > ? AND e.seq < ? ORDER BY e.seq LIMIT ?;

-- events_before: the newest events before a seq, newest first
SELECT e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM events e LEFT JOIN events t ON t.conversation = e.conversation AND t.seq = e.target
WHERE e.conversation = ? AND e.seq < ? ORDER BY e.seq DESC LIMIT ?;

-- event_at: one entry as it is stored
SELECT seq, at, sender, type, id, body, detail, target, edited_at FROM events WHERE conversation = ? AND seq = ?;

-- insert_change: append the event that tells of a message's change
INSERT INTO events (conversation, seq, position, at, sender, type, target) VALUES (?, ?, ?, ?, ?, ?, ?);

-- edit_message: the message has another body
UPDATE events SET body = ?, edited_at = ? WHERE conversation = ? AND seq = ?;

-- delete_message: the entry stays, its body goes
UPDATE events SET type = 'deleted', body = NULL, edited_at = NULL WHERE conversation = ? AND seq = ? AND type IS NULL;

-- erased_key: of a conversation of which only the id is left
SELECT key FROM conversations WHERE id = ? AND erased_at IS NOT NULL;

-- erase_conversation: leave nothing but the id
UPDATE conversations SET subject = NULL, metadata = '{}', erased_at = ?, position = ?, last_seq = ? WHERE key = ?;

-- delete_members: take all members out
DELETE FROM members WHERE conversation = ?;

-- insert_erasure: begin to erase a conversation's log, or one user's messages in it
INSERT INTO erasures (conversation, user, up_to) VALUES (?, ?, ?)
ON CONFLICT (conversation, user) DO UPDATE SET up_to = excluded.up_to;

-- erasures: those that are not over
SELECT conversation, user FROM erasures ORDER BY key;

-- end_erasure: it is over
DELETE FROM erasures WHERE conversation = ? AND user IS ?;

-- delete_cursors: how far so many sessions were in a log
DELETE FROM cursors WHERE conversation = ?1 AND session IN (
    SELECT session FROM cursors WHERE conversation = ?1 LIMIT ?2
);

-- delete_own: so much of what sessions had sent themselves to a log
DELETE FROM own_events WHERE conversation = ?1 AND (session, seq) IN (
    SELECT session, seq FROM own_events WHERE conversation = ?1 LIMIT ?2
);

-- delete_events: the first so many entries of a log
DELETE FROM events WHERE conversation = ?1 AND seq IN (
    SELECT seq FROM events WHERE conversation = ?1 ORDER BY seq LIMIT ?2
);

-- living_id: the id of a conversation that is not erased
SELECT id FROM conversations WHERE key = ? AND erased_at IS NULL;

-- messages_of: a sender's next messages in a conversation, deleted or not, in the order of their ids, as far as its erasure
-- goes
SELECT id, seq FROM events WHERE conversation = ?1 AND sender = ?2 AND id > ?3
    AND seq <= (SELECT up_to FROM erasures WHERE conversation = ?1 AND user = ?2)
ORDER BY id LIMIT ?4;

-- last_key: the newest conversation's
SELECT coalesce(max(key), 0) FROM conversations;

-- traces_of: among a range of conversations, where a user is a member or has messages
SELECT c.key FROM conversations c WHERE c.key > ?2 AND c.key <= ?3 AND c.erased_at IS NULL AND (
    EXISTS (SELECT 1 FROM members m WHERE m.conversation = c.key AND m.user = ?1)
    OR EXISTS (SELECT 1 FROM events e WHERE e.conversation = c.key AND e.sender = ?1 AND e.id > '' AND e.type IS NULL)
);

-- overdue: in which of a range of conversations the first event that retention has not seen is older than a time; CROSS
-- JOIN keeps the order, one look at one event for each
SELECT c.key FROM conversations c CROSS JOIN events e ON e.conversation = c.key AND e.seq = c.swept_up_to + 1
WHERE c.key > ?2 AND c.key <= ?3 AND e.at < ?1;

-- swept_up_to: where retention has been in a log
SELECT swept_up_to FROM conversations WHERE key = ?;

-- set_swept_up_to: retention has been there
UPDATE conversations SET swept_up_to = ? WHERE key = ?;

-- times_after: when the first events past a seq were
SELECT seq, at FROM events WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?;

-- delete_messages: the entries past one seq and up to another stay, the messages' bodies go
UPDATE events SET type = 'deleted', body = NULL, edited_at = NULL
WHERE conversation = ? AND seq > ? AND seq <= ? AND type IS NULL;

-- insert_job: what a sink has to do about an event
INSERT INTO jobs (sink, conversation, seq, created_at, due_at, is_first)
VALUES (?1, ?2, ?3, ?4, ?5, NOT EXISTS (SELECT 1 FROM jobs WHERE sink = ?1 AND conversation = ?2));

-- end_leases: this process alone has the file, and has claimed nothing yet
UPDATE jobs SET is_claimed = 0, due_at = created_at WHERE is_claimed;

-- due_lanes: the conversations in which the first job of a sink is due, or its lease has expired, and somebody is at no
-- later one
SELECT conversation FROM jobs j WHERE sink = ?1 AND is_first AND due_at <= ?2 AND NOT EXISTS (
    SELECT 1 FROM jobs taken
    WHERE taken.sink = ?1 AND taken.conversation = j.conversation AND taken.is_claimed AND taken.due_at > ?2
) ORDER BY due_at LIMIT ?3;

-- lane: the first jobs of a sink in a conversation
SELECT seq, due_at FROM jobs WHERE sink = ? AND conversation = ? ORDER BY seq LIMIT ?;

-- lane_is_taken: whether somebody is at one of them, also of those after the first
SELECT 1 FROM jobs WHERE sink = ? AND conversation = ? AND is_claimed AND due_at > ? LIMIT 1;

-- claim: until the lease expires
UPDATE jobs SET is_claimed = 1, due_at = ?, attempt = attempt + 1 WHERE sink = ? AND conversation = ? AND seq = ?
RETURNING attempt;

-- conversation_id: of a key, erased or not
SELECT id FROM conversations WHERE key = ?;

-- conversation_key: of an id, erased or not
SELECT key FROM conversations WHERE id = ?;

-- extend_claim: another end of its lease
UPDATE jobs SET due_at = ? WHERE sink = ? AND conversation = ? AND seq = ? AND attempt = ? AND is_claimed;

-- release_claim: it was not tried; the first of its conversation is found anew
UPDATE jobs SET is_claimed = 0, due_at = created_at, attempt = attempt - 1, is_first = 0
WHERE sink = ? AND conversation = ? AND seq = ? AND attempt = ? AND is_claimed;

-- put_off_job: it is due again later; the first of its conversation is found anew
UPDATE jobs SET is_claimed = 0, due_at = ?, error = ?, is_first = 0
WHERE sink = ? AND conversation = ? AND seq = ? AND attempt = ? AND is_claimed;

-- bury_job: it is a dead letter now, if it has not been claimed again since
INSERT INTO dead_letters (sink, conversation, seq, created_at, due_at, attempt, error)
SELECT sink, conversation, seq, created_at, due_at, attempt, ?1 FROM jobs
WHERE sink = ?2 AND conversation = ?3 AND seq = ?4 AND attempt = ?5 AND is_claimed;

-- delete_job: there is nothing left to do
DELETE FROM jobs WHERE sink = ? AND conversation = ? AND seq = ?;

-- delete_dead_letter: it is retried, or was done after all
DELETE FROM dead_letters WHERE sink = ? AND conversation = ? AND seq = ?;

-- make_first: the others of its conversation and sink wait for the one with the smallest seq
UPDATE jobs SET is_first = 1 WHERE sink = ?1 AND conversation = ?2 AND NOT is_first
AND seq = (SELECT min(seq) FROM jobs WHERE sink = ?1 AND conversation = ?2);

-- forget_first: as nobody is at it, another one may be the first
UPDATE jobs SET is_first = 0 WHERE sink = ? AND conversation = ? AND is_first AND NOT is_claimed;

-- first_due_at: when the first job of a sink is due, or its lease expires
SELECT min(due_at) FROM jobs WHERE sink = ? AND is_first;

-- lane_due_at: when the first job of a sink in a conversation is due, or its lease expires
SELECT j.due_at FROM conversations c JOIN jobs j ON j.conversation = c.key AND j.sink = ?
WHERE c.id = ? ORDER BY j.seq LIMIT 1;

-- log_end: how far a log went, and when it was erased, if it was
SELECT key, last_seq, erased_at FROM conversations WHERE id = ?;

-- members_since: the members, and by which event each of them became one
SELECT user, joined_seq FROM members WHERE conversation = ?;

-- list_jobs: those that a filter means, the oldest first
SELECT sink, id, seq, state, attempt, created_at, due_at, error FROM (
    SELECT j.sink, c.id, j.seq, iif(j.is_claimed, 'claimed', 'waiting') AS state, j.attempt, j.created_at, j.due_at, j.error
    FROM jobs j JOIN conversations c ON c.key = j.conversation
    UNION ALL
    SELECT d.sink, c.id, d.seq, 'dead', d.attempt, d.created_at, d.due_at, d.error
    FROM dead_letters d JOIN conversations c ON c.key = d.conversation
) WHERE (?1 IS NULL OR sink = ?1) AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR id = ?3) AND (?4 IS NULL OR seq = ?4)
ORDER BY created_at, sink, id, seq LIMIT ?5;

-- count_jobs: how many are in which state, and since when
SELECT sink, iif(is_claimed, 'claimed', 'waiting'), count(*), min(created_at) FROM jobs GROUP BY sink, is_claimed
UNION ALL
SELECT sink, 'dead', count(*), min(created_at) FROM dead_letters GROUP BY sink
ORDER BY 1, 2;

-- waiting_jobs: the next ones, past one of them, that a filter means and that nobody has
SELECT sink, conversation, seq FROM jobs WHERE (sink, conversation, seq) > (?1, ?2, ?3) AND NOT is_claimed
AND (?4 IS NULL OR sink = ?4) AND (?5 IS NULL OR conversation = ?5) AND (?6 IS NULL OR seq = ?6)
ORDER BY sink, conversation, seq LIMIT ?7;

-- dead_letters: the same of those that were given up
SELECT sink, conversation, seq FROM dead_letters WHERE (sink, conversation, seq) > (?1, ?2, ?3)
AND (?4 IS NULL OR sink = ?4) AND (?5 IS NULL OR conversation = ?5) AND (?6 IS NULL OR seq = ?6)
ORDER BY sink, conversation, seq LIMIT ?7;

-- retry_job: due at once, as if never tried
UPDATE jobs SET due_at = ?, attempt = 0, error = NULL WHERE sink = ? AND conversation = ? AND seq = ?;

-- revive_dead_letter: it is a job again, due at once
INSERT INTO jobs (sink, conversation, seq, created_at, due_at, is_first)
SELECT sink, conversation, seq, created_at, ?, 0 FROM dead_letters WHERE sink = ? AND conversation = ? AND seq = ?;

-- put_name: what a user is called
INSERT INTO users (id, name) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name;

-- delete_name: nothing but its id
DELETE FROM users WHERE id = ?;

-- names_of: of a JSON array of users, what those are called who have a name
SELECT id, name FROM users WHERE id IN (SELECT value FROM json_each(?));

-- set_muted: changes nothing if it is so already
UPDATE members SET muted = ?1 WHERE conversation = ?2 AND user = ?3 AND muted <> ?1;

-- put_page: a user's page, and until when it is open
INSERT INTO pages (user, page, visible, until) VALUES (?, ?, ?, ?)
ON CONFLICT (user, page) DO UPDATE SET visible = excluded.visible, until = excluded.until;

-- delete_page: a user has closed it
DELETE FROM pages WHERE user = ? AND page = ?;

-- delete_pages_beyond: those of a user's pages that end first, of more than so many
DELETE FROM pages WHERE user = ?1 AND page IN (
    SELECT page FROM pages WHERE user = ?1 ORDER BY until DESC, page LIMIT -1 OFFSET ?2
);

-- delete_ended_pages: so many of anybody's that have ended
DELETE FROM pages WHERE (user, page) IN (SELECT user, page FROM pages WHERE until <= ? ORDER BY until LIMIT ?);

-- open_pages: of a JSON array of users, who has a page open, and whether one is on the screen
SELECT user, max(visible) FROM pages WHERE user IN (SELECT value FROM json_each(?)) AND until > ? GROUP BY user;

-- put_subscription: an endpoint belongs to who named it last
INSERT INTO push_subscriptions (endpoint, user, p256dh, auth, at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (endpoint) DO UPDATE SET user = excluded.user, p256dh = excluded.p256dh, auth = excluded.auth;

-- subscription_owner: whose an endpoint is
SELECT user FROM push_subscriptions WHERE endpoint = ?;

-- count_subscriptions: of a user
SELECT count(*) FROM push_subscriptions WHERE user = ?;

-- delete_subscription: if it is the user's, or whosever it is
DELETE FROM push_subscriptions WHERE endpoint = ?1 AND (?2 IS NULL OR user = ?2);

-- push_targets: where those of a JSON array of users are to be called who are members, want it and have not read so far
SELECT s.user, s.endpoint, s.p256dh, s.auth
FROM json_each(?1) r CROSS JOIN push_subscriptions s ON s.user = r.value
CROSS JOIN members m ON m.user = s.user
    AND m.conversation = (SELECT key FROM conversations WHERE id = ?2 AND erased_at IS NULL)
WHERE NOT m.muted AND m.read_up_to < ?3
ORDER BY s.user, s.at, s.endpoint;

-- delete_pages_of: of an erased user
DELETE FROM pages WHERE user = ?;

-- delete_subscriptions_of: of an erased user
DELETE FROM push_subscriptions WHERE user = ?;
