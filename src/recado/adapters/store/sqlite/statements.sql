-- Every statement that the store runs. "-- name: what it does" starts one; parameters are positional.

-- conversation_state: what the writer keeps in memory of a conversation
SELECT key, last_seq FROM conversations WHERE id = ?;

-- member_users: the members, in the order of joining
SELECT user FROM members WHERE conversation = ? ORDER BY key;

-- insert_event: append; changes nothing if the sender has sent this id before
INSERT INTO events (conversation, seq, at, sender, type, id, body, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, sender, id) WHERE id IS NOT NULL DO NOTHING;

-- event_by_id: the message that a sender has sent under this id
SELECT seq, at, sender, type, id, body, detail FROM events WHERE conversation = ? AND sender = ? AND id = ?;

-- advance_conversation: the log's new end
UPDATE conversations SET last_seq = ?, active_at = ? WHERE key = ?;

-- insert_conversation: create one with an empty log
INSERT INTO conversations (id, subject, metadata, created_at, active_at, last_seq) VALUES (?, ?, ?, ?, ?, 0);

-- describe_conversation: its subject and metadata
SELECT subject, metadata FROM conversations WHERE key = ?;

-- update_conversation: set its subject and metadata
UPDATE conversations SET subject = ?, metadata = ? WHERE key = ?;

-- insert_member: a new member has read what was there
INSERT INTO members (conversation, user, read_up_to) VALUES (?, ?, ?);

-- delete_member: take a member out
DELETE FROM members WHERE conversation = ? AND user = ?;

-- read_up_to: a member's read cursor
SELECT read_up_to FROM members WHERE conversation = ? AND user = ?;

-- set_read_up_to: move a member's read cursor
UPDATE members SET read_up_to = ? WHERE conversation = ? AND user = ?;

-- unread_count: others' messages among the first so many events past a seq
SELECT count(*) FROM (
    SELECT sender, type FROM events WHERE conversation = ? AND seq > ? ORDER BY seq LIMIT ?
) WHERE type IS NULL AND sender IS NOT ?;

-- conversations_among: those of a JSON array of conversation ids that a user is a member of
SELECT c.id FROM json_each(?) asked
JOIN conversations c ON c.id = asked.value
JOIN members m ON m.conversation = c.key AND m.user = ?;

-- conversation_row: one conversation with its last event
SELECT c.key, c.id, c.subject, c.metadata, c.created_at, c.active_at, c.last_seq,
       e.seq, e.at, e.sender, e.type, e.id, e.body, e.detail
FROM conversations c LEFT JOIN events e ON e.conversation = c.key AND e.seq = c.last_seq
WHERE c.id = ?;

-- conversation_rows_of: a user's conversations that are listed after (active_at, key), newest activity first
SELECT c.key, c.id, c.subject, c.metadata, c.created_at, c.active_at, c.last_seq,
       e.seq, e.at, e.sender, e.type, e.id, e.body, e.detail, m.read_up_to
FROM members m
JOIN conversations c ON c.key = m.conversation
LEFT JOIN events e ON e.conversation = c.key AND e.seq = c.last_seq
WHERE m.user = ? AND (c.active_at, c.key) < (?, ?)
ORDER BY c.active_at DESC, c.key DESC LIMIT ?;

-- events_after: the first events past a seq and before another
SELECT seq, at, sender, type, id, body, detail FROM events
WHERE conversation = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT ?;

-- events_before: the newest events before a seq, newest first
SELECT seq, at, sender, type, id, body, detail FROM events
WHERE conversation = ? AND seq < ? ORDER BY seq DESC LIMIT ?;
