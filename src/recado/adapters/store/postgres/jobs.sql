-- The statements about jobs. The jobs of one sink in one conversation are a lane; the first of them is its head.
-- Whoever changes several rows locks them in the order of the primary key, or skips what is locked, and locks jobs
-- before dead letters: nobody waits in a circle.

-- lock_due_heads: of a sink, the lanes whose heads are due, found among the first so many due jobs; not those that
-- another process is at
WITH due AS MATERIALIZED (
    SELECT conversation, seq FROM jobs WHERE sink = $1 AND due_at <= $2 AND NOT is_parked
    ORDER BY due_at, conversation, seq LIMIT $3
), found AS MATERIALIZED (
    SELECT conversation, seq FROM due
    WHERE seq = (SELECT min(lane.seq) FROM jobs AS lane WHERE lane.sink = $1 AND lane.conversation = due.conversation)
)
SELECT head.conversation, head.seq
FROM found JOIN jobs AS head ON head.sink = $1 AND head.conversation = found.conversation AND head.seq = found.seq
WHERE head.due_at <= $2 AND NOT EXISTS (
    SELECT 1 FROM jobs AS taken
    WHERE taken.sink = $1 AND taken.conversation = head.conversation AND taken.is_claimed AND taken.due_at > $2
) ORDER BY head.due_at, head.conversation LIMIT $4 FOR UPDATE OF head SKIP LOCKED;

-- lock_named_heads: the same in these conversations; it waits for who is at them, which is for a moment: a queue names
-- a job while it is still being noted that the queue was given it
SELECT head.conversation, head.seq FROM conversations AS c JOIN jobs AS head ON head.conversation = c.key
WHERE head.sink = $1 AND c.id = ANY ($2::text[]) AND head.due_at <= $3
    AND head.seq = (SELECT min(seq) FROM jobs AS lane WHERE lane.sink = $1 AND lane.conversation = c.key)
ORDER BY head.conversation LIMIT $4 FOR UPDATE OF head;

-- lock_lanes: of lanes whose heads are locked, those that nobody else is claiming at the moment
SELECT lane.conversation, lane.head FROM unnest($2::bigint[], $3::bigint[]) AS lane (conversation, head)
WHERE pg_try_advisory_xact_lock(hashtextextended($1, lane.conversation));

-- claim_lanes: in the lanes that are locked, claim the first so many jobs up to one that is not due. None of a
-- lane that has another head by now, or a job with a lease
WITH first AS (
    SELECT lane.conversation, lane.head, job.seq, job.due_at
    FROM unnest($2::bigint[], $3::bigint[]) AS lane (conversation, head)
    CROSS JOIN LATERAL (
        SELECT * FROM jobs WHERE sink = $1 AND conversation = lane.conversation ORDER BY seq LIMIT $5
    ) AS job
), locked AS MATERIALIZED (
    SELECT job.conversation, job.seq FROM first JOIN jobs AS job USING (conversation, seq)
    WHERE job.sink = $1 FOR UPDATE OF job SKIP LOCKED
), judged AS (
    SELECT first.conversation, first.seq,
        bool_and(locked.seq IS NOT NULL AND first.due_at <= $4) OVER (lane ORDER BY first.seq) AS is_due,
        EXISTS (
            SELECT 1 FROM jobs AS taken
            WHERE taken.sink = $1 AND taken.conversation = first.conversation AND taken.is_claimed AND taken.due_at > $4
        ) AS is_taken,
        min(first.seq) OVER lane = first.head AS has_its_head
    FROM first LEFT JOIN locked USING (conversation, seq)
    WINDOW lane AS (PARTITION BY first.conversation)
)
UPDATE jobs AS job SET is_claimed = true, is_parked = false, due_at = $6, attempt = attempt + 1
FROM judged JOIN conversations AS c ON c.key = judged.conversation
WHERE is_due AND has_its_head AND NOT is_taken
    AND job.sink = $1 AND job.conversation = judged.conversation AND job.seq = judged.seq
RETURNING job.conversation, job.seq, c.id, job.attempt;

-- park_blocked: if there are at least so many due jobs, take those of the first so many out of the way that are no
-- heads. The heads are locked: whoever removes one sees what is parked behind it
WITH due AS MATERIALIZED (
    SELECT conversation, seq FROM jobs WHERE sink = $1 AND due_at <= $2 AND NOT is_parked
    ORDER BY due_at, conversation, seq LIMIT $4
), lanes AS MATERIALIZED (
    SELECT conversation, (
        SELECT min(lane.seq) FROM jobs AS lane WHERE lane.sink = $1 AND lane.conversation = found.conversation
    ) AS head, seqs
    FROM (
        SELECT conversation, array_agg(seq) AS seqs FROM due WHERE (SELECT count(*) FROM due) >= $3
        GROUP BY conversation
    ) AS found
), wanted AS MATERIALIZED (
    SELECT conversation, head, head AS seq FROM lanes
    UNION ALL
    SELECT conversation, head, seq FROM lanes CROSS JOIN LATERAL unnest(seqs) AS job (seq) WHERE seq > head
), locked AS MATERIALIZED (
    SELECT job.conversation, job.seq, wanted.head FROM wanted
    JOIN jobs AS job ON job.sink = $1 AND job.conversation = wanted.conversation AND job.seq = wanted.seq
    ORDER BY job.conversation, job.seq FOR UPDATE OF job SKIP LOCKED
), judged AS (
    SELECT conversation, seq, head, min(seq) OVER (PARTITION BY conversation) = head AS has_its_head FROM locked
)
UPDATE jobs AS job SET is_parked = true FROM judged
WHERE has_its_head AND judged.seq > head
    AND job.sink = $1 AND job.conversation = judged.conversation AND job.seq = judged.seq;

-- unpark_heads: in these lanes. Run once the removal of what was there is committed: of several who remove something,
-- the last one to commit sees what all of them have left
WITH locked AS (
    SELECT head.sink, head.conversation, head.seq FROM unnest($1::text[], $2::bigint[]) AS lane (sink, conversation)
    JOIN jobs AS head ON head.sink = lane.sink AND head.conversation = lane.conversation AND head.is_parked
        AND head.seq = (
            SELECT min(seq) FROM jobs AS job WHERE job.sink = lane.sink AND job.conversation = lane.conversation
        )
    ORDER BY head.sink, head.conversation, head.seq FOR UPDATE OF head
)
UPDATE jobs AS head SET is_parked = false FROM locked
WHERE head.sink = locked.sink AND head.conversation = locked.conversation AND head.seq = locked.seq;

-- stranded_lanes: of these sinks, those whose heads are parked. It steps from lane to lane among the parked jobs
SELECT asked.sink, stranded.conversation FROM unnest($1::text[]) AS asked (sink) CROSS JOIN LATERAL (
    WITH RECURSIVE lane AS (
        (
            SELECT conversation FROM jobs WHERE jobs.sink = asked.sink AND is_parked ORDER BY conversation LIMIT 1
        ) UNION ALL (
            SELECT next.conversation FROM lane CROSS JOIN LATERAL (
                SELECT conversation FROM jobs
                WHERE jobs.sink = asked.sink AND is_parked AND jobs.conversation > lane.conversation
                ORDER BY conversation LIMIT 1
            ) AS next
        )
    )
    SELECT conversation FROM lane WHERE (
        SELECT is_parked FROM jobs WHERE jobs.sink = asked.sink AND jobs.conversation = lane.conversation
        ORDER BY seq LIMIT 1
    )
) AS stranded;

-- extend_claims: another end of their leases, of those that have not been claimed again since
WITH locked AS (
    SELECT job.sink, job.conversation, job.seq
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[]) AS claim (sink, id, seq, attempt)
    JOIN conversations AS c ON c.id = claim.id
    JOIN jobs AS job ON job.sink = claim.sink AND job.conversation = c.key AND job.seq = claim.seq
        AND job.attempt = claim.attempt AND job.is_claimed
    ORDER BY job.sink, job.conversation, job.seq FOR UPDATE OF job
)
UPDATE jobs AS job SET due_at = $5 FROM locked
WHERE job.sink = locked.sink AND job.conversation = locked.conversation AND job.seq = locked.seq;

-- release_claims: they were not tried, those that have not been claimed again since
WITH locked AS (
    SELECT job.sink, job.conversation, job.seq
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[]) AS claim (sink, id, seq, attempt)
    JOIN conversations AS c ON c.id = claim.id
    JOIN jobs AS job ON job.sink = claim.sink AND job.conversation = c.key AND job.seq = claim.seq
        AND job.attempt = claim.attempt AND job.is_claimed
    ORDER BY job.sink, job.conversation, job.seq FOR UPDATE OF job
)
UPDATE jobs AS job SET is_claimed = false, due_at = created_at, attempt = attempt - 1 FROM locked
WHERE job.sink = locked.sink AND job.conversation = locked.conversation AND job.seq = locked.seq;

-- settle_jobs: nothing is left of them
WITH named AS (
    SELECT job.sink, c.key, job.seq FROM unnest($1::text[], $2::text[], $3::bigint[]) AS job (sink, id, seq)
    JOIN conversations AS c ON c.id = job.id
), locked AS (
    SELECT job.sink, job.conversation, job.seq FROM named
    JOIN jobs AS job ON job.sink = named.sink AND job.conversation = named.key AND job.seq = named.seq
    ORDER BY job.sink, job.conversation, job.seq FOR UPDATE OF job
), dead AS (
    SELECT letter.sink, letter.conversation, letter.seq FROM named
    JOIN dead_letters AS letter
        ON letter.sink = named.sink AND letter.conversation = named.key AND letter.seq = named.seq
    ORDER BY letter.sink, letter.conversation, letter.seq FOR UPDATE OF letter
), forgotten AS (
    DELETE FROM dead_letters AS letter USING dead
    WHERE letter.sink = dead.sink AND letter.conversation = dead.conversation AND letter.seq = dead.seq
)
DELETE FROM jobs AS job USING locked
WHERE job.sink = locked.sink AND job.conversation = locked.conversation AND job.seq = locked.seq
RETURNING job.sink, job.conversation;

-- put_off_job: it is due again later, unless it has been claimed again since
UPDATE jobs AS job SET is_claimed = false, due_at = $5, error = $6 FROM conversations AS c
WHERE c.id = $2 AND job.sink = $1 AND job.conversation = c.key AND job.seq = $3 AND job.attempt = $4 AND job.is_claimed;

-- bury_job: it is a dead letter now, unless it has been claimed again since
WITH given_up AS (
    DELETE FROM jobs AS job USING conversations AS c
    WHERE c.id = $2 AND job.sink = $1 AND job.conversation = c.key AND job.seq = $3 AND job.attempt = $4
        AND job.is_claimed
    RETURNING job.sink, job.conversation, job.seq, job.created_at, job.due_at, job.attempt
)
INSERT INTO dead_letters (sink, conversation, seq, created_at, due_at, attempt, error)
SELECT sink, conversation, seq, created_at, due_at, attempt, $5 FROM given_up RETURNING sink, conversation;

-- lane_due_at: when a lane's head is due, or its lease expires
SELECT job.due_at FROM conversations AS c JOIN jobs AS job ON job.conversation = c.key AND job.sink = $1
WHERE c.id = $2 ORDER BY job.seq LIMIT 1;

-- next_job_at: when the first head of these sinks is due, or its lease expires. A head that waits for others' leases in
-- its lane does not count
SELECT min(first.due_at) FROM unnest($1::text[]) AS asked (sink) CROSS JOIN LATERAL (
    SELECT head.due_at FROM jobs AS head
    WHERE head.sink = asked.sink AND NOT head.is_parked AND (head.is_claimed OR NOT (
        EXISTS (
            SELECT 1 FROM jobs AS lane
            WHERE lane.sink = head.sink AND lane.conversation = head.conversation AND lane.seq < head.seq
        ) OR EXISTS (
            SELECT 1 FROM jobs AS lane
            WHERE lane.sink = head.sink AND lane.conversation = head.conversation AND lane.is_claimed
        )
    ))
    ORDER BY head.due_at LIMIT 1
) AS first;

-- job_events: the entries of a range, each with the members who had joined by then; of an erased conversation the row
-- without an entry. A change shows the body that its message has now
SELECT c.last_seq, c.erased_at, ARRAY (
        SELECT m.user_id FROM members m WHERE m.conversation = c.key AND m.joined_seq <= e.seq
    ), e.seq, e.at, e.sender, e.type, e.id, coalesce(e.body, t.body), e.detail, e.target, e.edited_at
FROM conversations AS c
LEFT JOIN events AS e ON e.conversation = c.key AND e.seq BETWEEN $2 AND $3 AND c.erased_at IS NULL
LEFT JOIN events AS t ON t.conversation = c.key AND t.seq = e.target
WHERE c.id = $1 ORDER BY e.seq;

-- unqueued_jobs: the oldest that are due, or whose lease has expired, and that no queue has been given since; which an
-- index has
SELECT oldest.sink, c.id, oldest.seq FROM (
    SELECT first.* FROM unnest($1::text[]) AS asked (sink) CROSS JOIN LATERAL (
        SELECT sink, conversation, seq, created_at FROM jobs
        WHERE jobs.sink = asked.sink AND due_at <= $2 AND queued_at < due_at
        ORDER BY due_at, conversation, seq LIMIT $3
    ) AS first
    ORDER BY created_at, sink, conversation, seq LIMIT $3
) AS oldest JOIN conversations AS c ON c.key = oldest.conversation
ORDER BY oldest.created_at, oldest.sink, oldest.conversation, oldest.seq;

-- jobs_queued_before: a page of the walk over those that are due, and that a queue was last given before a time
SELECT page.sink, c.id, page.seq FROM (
    SELECT sink, conversation, seq FROM jobs
    WHERE sink = ANY ($1::text[]) AND due_at <= $2 AND queued_at >= due_at AND queued_at < $3
        AND (sink, conversation, seq) > ($4::text, (SELECT key FROM conversations WHERE id = $5), $6::bigint)
    ORDER BY sink, conversation, seq LIMIT $7
) AS page JOIN conversations AS c ON c.key = page.conversation
ORDER BY page.sink, page.conversation, page.seq;

-- note_queued: a queue has been given them
WITH locked AS (
    SELECT job.sink, job.conversation, job.seq
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS queued (sink, id, seq)
    JOIN conversations AS c ON c.id = queued.id
    JOIN jobs AS job ON job.sink = queued.sink AND job.conversation = c.key AND job.seq = queued.seq
    ORDER BY job.sink, job.conversation, job.seq FOR UPDATE OF job
)
UPDATE jobs AS job SET queued_at = $4 FROM locked
WHERE job.sink = locked.sink AND job.conversation = locked.conversation AND job.seq = locked.seq;

-- list_jobs: those that a filter means, the oldest first
WITH found AS MATERIALIZED (
    SELECT * FROM (
        SELECT sink, conversation, seq, CASE WHEN is_claimed THEN 'claimed' ELSE 'waiting' END AS state, attempt,
            created_at, due_at, error
        FROM jobs
        UNION ALL
        SELECT sink, conversation, seq, 'dead', attempt, created_at, due_at, error FROM dead_letters
    ) AS job
    WHERE ($1::text IS NULL OR sink = $1) AND ($2::text IS NULL OR state = $2) AND ($4::bigint IS NULL OR seq = $4)
        AND ($3::text IS NULL OR conversation = (SELECT key FROM conversations WHERE id = $3))
    ORDER BY created_at, sink, conversation, seq LIMIT $5
)
SELECT sink, c.id, seq, state, attempt, found.created_at, due_at, error
FROM found JOIN conversations AS c ON c.key = found.conversation
ORDER BY found.created_at, sink, conversation, seq;

-- count_jobs: how many are in which state, and since when
SELECT sink, CASE WHEN is_claimed THEN 'claimed' ELSE 'waiting' END, count(*), min(created_at)
FROM jobs GROUP BY sink, is_claimed
UNION ALL
SELECT sink, 'dead', count(*), min(created_at) FROM dead_letters GROUP BY sink
ORDER BY 1, 2;

-- retry_waiting: of those past one of them, the next so many that a filter means and nobody has are due now
WITH found AS MATERIALIZED (
    SELECT job.sink, job.conversation, job.seq FROM jobs AS job
    WHERE (job.sink, job.conversation, job.seq) > ($1, $2::bigint, $3::bigint) AND NOT job.is_claimed
        AND ($4::text IS NULL OR job.sink = $4) AND ($6::bigint IS NULL OR job.seq = $6)
        AND ($5::text IS NULL OR job.conversation = (SELECT key FROM conversations WHERE id = $5))
    ORDER BY job.sink, job.conversation, job.seq LIMIT $7 FOR UPDATE
)
UPDATE jobs AS job SET due_at = $8, attempt = 0, error = NULL FROM found
WHERE job.sink = found.sink AND job.conversation = found.conversation AND job.seq = found.seq
RETURNING job.sink, job.conversation, job.seq;

-- retry_dead: of the dead letters past one of them, the next so many that a filter means are jobs again, due now
WITH found AS MATERIALIZED (
    SELECT dead.* FROM dead_letters AS dead
    WHERE (dead.sink, dead.conversation, dead.seq) > ($1, $2::bigint, $3::bigint)
        AND ($4::text IS NULL OR dead.sink = $4) AND ($6::bigint IS NULL OR dead.seq = $6)
        AND ($5::text IS NULL OR dead.conversation = (SELECT key FROM conversations WHERE id = $5))
    ORDER BY dead.sink, dead.conversation, dead.seq LIMIT $7 FOR UPDATE
), revived AS (
    DELETE FROM dead_letters AS dead USING found
    WHERE dead.sink = found.sink AND dead.conversation = found.conversation AND dead.seq = found.seq
)
INSERT INTO jobs (sink, conversation, seq, created_at, due_at)
SELECT sink, conversation, seq, created_at, $8 FROM found ORDER BY sink, conversation, seq
RETURNING sink, conversation, seq;

-- drop_waiting: of those past one of them, forget the next so many that a filter means and nobody has
WITH found AS MATERIALIZED (
    SELECT job.sink, job.conversation, job.seq FROM jobs AS job
    WHERE (job.sink, job.conversation, job.seq) > ($1, $2::bigint, $3::bigint) AND NOT job.is_claimed
        AND ($4::text IS NULL OR job.sink = $4) AND ($6::bigint IS NULL OR job.seq = $6)
        AND ($5::text IS NULL OR job.conversation = (SELECT key FROM conversations WHERE id = $5))
    ORDER BY job.sink, job.conversation, job.seq LIMIT $7 FOR UPDATE
)
DELETE FROM jobs AS job USING found
WHERE job.sink = found.sink AND job.conversation = found.conversation AND job.seq = found.seq
RETURNING job.sink, job.conversation, job.seq;

-- drop_dead: of the dead letters past one of them, forget the next so many that a filter means
WITH found AS MATERIALIZED (
    SELECT dead.sink, dead.conversation, dead.seq FROM dead_letters AS dead
    WHERE (dead.sink, dead.conversation, dead.seq) > ($1, $2::bigint, $3::bigint)
        AND ($4::text IS NULL OR dead.sink = $4) AND ($6::bigint IS NULL OR dead.seq = $6)
        AND ($5::text IS NULL OR dead.conversation = (SELECT key FROM conversations WHERE id = $5))
    ORDER BY dead.sink, dead.conversation, dead.seq LIMIT $7 FOR UPDATE
)
DELETE FROM dead_letters AS dead USING found
WHERE dead.sink = found.sink AND dead.conversation = found.conversation AND dead.seq = found.seq
RETURNING dead.sink, dead.conversation, dead.seq;
