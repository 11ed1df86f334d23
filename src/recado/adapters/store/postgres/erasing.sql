-- The statements about erasing.

-- erase_conversation: leave nothing but the id
UPDATE conversations SET subject = NULL, metadata = '{}', erased_at = $2 WHERE key = $1;

-- delete_members: take all members out
DELETE FROM members WHERE conversation = $1;

-- delete_departures_from: of an erased conversation
DELETE FROM departures WHERE conversation = $1;

-- delete_departures_of: of an erased user
DELETE FROM departures WHERE user_id = $1;

-- insert_erasure: begin to erase a conversation's log, or one user's messages in it
INSERT INTO erasures (conversation, user_id, up_to) VALUES ($1, $2, $3)
ON CONFLICT (conversation, user_id) DO UPDATE SET up_to = excluded.up_to;

-- erasures: those that are not over, with the ids of their conversations
SELECT e.conversation, c.id, e.user_id FROM erasures AS e JOIN conversations AS c ON c.key = e.conversation
ORDER BY e.key;

-- end_erasure: it is over
DELETE FROM erasures WHERE conversation = $1 AND user_id IS NOT DISTINCT FROM $2;

-- delete_events: the first so many entries of a log; what another process deletes at the moment is left to it
DELETE FROM events WHERE conversation = $1 AND seq IN (
    SELECT seq FROM events WHERE conversation = $1 ORDER BY seq LIMIT $2 FOR UPDATE SKIP LOCKED
);

-- has_events: whether there is anything left of a log
SELECT EXISTS (SELECT 1 FROM events WHERE conversation = $1);

-- messages_of: a sender's next messages in a conversation, deleted or not, in the order of their ids, as far as its
-- erasure goes
SELECT id, seq FROM events WHERE conversation = $1 AND sender = $2 AND id > $3
    AND seq <= (SELECT up_to FROM erasures WHERE conversation = $1 AND user_id = $2)
ORDER BY id LIMIT $4;

-- delete_messages_at: these entries stay, their bodies go
UPDATE events SET type = 'deleted', body = NULL, edited_at = NULL
WHERE conversation = $1 AND seq = ANY ($2::bigint[]) AND type IS NULL;

-- last_key: the newest conversation's
SELECT coalesce(max(key), 0) FROM conversations;

-- traces_of: among a range of conversations, where a user is a member or has messages
SELECT c.key, c.id FROM conversations AS c WHERE c.key > $2 AND c.key <= $3 AND c.erased_at IS NULL AND (
    EXISTS (SELECT 1 FROM members m WHERE m.conversation = c.key AND m.user_id = $1)
    OR EXISTS (SELECT 1 FROM events e WHERE e.conversation = c.key AND e.sender = $1 AND e.id > '' AND e.type IS NULL)
) ORDER BY c.key;

-- has_messages: of a user in a conversation
SELECT EXISTS (SELECT 1 FROM events WHERE conversation = $1 AND sender = $2 AND id > '' AND type IS NULL);

-- overdue: in which of a range of conversations the first event that retention has not seen is older than a time
SELECT c.key, c.id FROM conversations AS c
WHERE c.key > $2 AND c.key <= $3 AND c.erased_at IS NULL
    AND (SELECT at FROM events e WHERE e.conversation = c.key AND e.seq = c.swept_up_to + 1) < $1
ORDER BY c.key;

-- swept_up_to: where retention has been in a log
SELECT swept_up_to FROM conversations WHERE key = $1;

-- set_swept_up_to: retention has been there
UPDATE conversations SET swept_up_to = $2 WHERE key = $1;

-- times_after: when the first events past a seq were
SELECT seq, at FROM events WHERE conversation = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- delete_messages: the entries past one seq and up to another stay, the messages' bodies go
UPDATE events SET type = 'deleted', body = NULL, edited_at = NULL
WHERE conversation = $1 AND seq > $2 AND seq <= $3 AND type IS NULL;
