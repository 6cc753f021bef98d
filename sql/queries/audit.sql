-- audit_logs --
-- Audit logs that pass every filter given (NULL: no filter), newest in the chain first, a page at a time.
SELECT *
FROM llmlog.audit_logs
WHERE (CAST(:since AS timestamptz) IS NULL OR updated_at >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR updated_at < :until)
  AND (CAST(:before_seq AS bigint) IS NULL OR seq < :before_seq)
  AND (CAST(:actor AS text) IS NULL OR changed_by = :actor)
  AND (CAST(:api_key AS text) IS NULL OR changed_by_api_key = :api_key)
  AND (CAST(:action AS text) IS NULL OR action = :action OR operation = :action)
  AND (CAST(:table_name AS text) IS NULL OR table_name = :table_name)
  AND (CAST(:object_id AS text) IS NULL OR object_id = :object_id)
  AND (CAST(:outcome AS text) IS NULL OR outcome = :outcome)
ORDER BY seq DESC
LIMIT :limit

-- audit_log --
-- One audit log, by its id or its place in the chain.
SELECT *
FROM llmlog.audit_logs
WHERE id = :id OR CAST(seq AS text) = :id

-- audit_extent --
-- First and last place of the chain, how many rows there are, and up to where retention signed off.
SELECT min(l.seq) AS first, max(l.seq) AS last, count(*) AS rows,
       (SELECT hash FROM llmlog.audit_logs ORDER BY seq DESC LIMIT 1) AS hash,
       (SELECT max(seq) FROM llmlog.audit_checkpoints WHERE kind = 'pruned') AS pruned
FROM llmlog.audit_logs l

-- audit_links --
-- The first rows, in order, that are not what the chain says. The text is llmlog.audit_text's, written out: whoever may
-- change rows may change that function. A row's place in the chain is its seq.
WITH in_order AS (
    SELECT l.*,
           coalesce(lag(seq) OVER w, CAST(:pruned AS bigint), 0) AS before_seq,
           coalesce(lag(hash) OVER w, CAST(:pruned_hash AS bytea), decode(repeat('00', 32), 'hex')) AS before_hash
    FROM llmlog.audit_logs l
    WHERE seq > coalesce(CAST(:pruned AS bigint), 0)
    WINDOW w AS (ORDER BY seq)
), checked AS (
    SELECT seq, id, before_seq, seq <> before_seq + 1 AS gap, previous_hash <> before_hash AS unlinked,
           hash IS DISTINCT FROM sha256(previous_hash || convert_to(CAST(jsonb_build_array(
               1, seq, id, CAST(extract(epoch FROM recorded_at) * 1000000 AS bigint),
               CAST(extract(epoch FROM updated_at) * 1000000 AS bigint), changed_by, changed_by_api_key, action,
               table_name, object_id, before_value, updated_values, operation, outcome, error_class,
               status_code, source, route, requester_ip_address, trace_id, span_id, service_name, to_jsonb(notes)
           ) AS text), 'UTF8')) AS edited
    FROM in_order
)
SELECT * FROM checked WHERE gap OR unlinked OR edited ORDER BY seq LIMIT :limit

-- audit_checkpoints --
-- What was known of the chain and when, and whether the row of that place is the same today (NULL: there is none).
SELECT c.kind, c.seq, c.hash, c.made_at, c.made_by, l.hash = c.hash AS same, l.id,
       c.kind = 'pruned' AND NOT EXISTS (
           SELECT FROM llmlog.audit_logs told
           WHERE told.operation = 'audit.prune' AND told.seq > c.seq
             AND told.updated_values = jsonb_build_object('up_to_seq', c.seq, 'up_to_hash', encode(c.hash, 'hex'))
       ) AS untold
FROM llmlog.audit_checkpoints c
LEFT JOIN llmlog.audit_logs l ON l.seq = c.seq
ORDER BY c.id

-- audit_row --
-- The row at a place of the chain.
SELECT seq, id, hash FROM llmlog.audit_logs WHERE seq = :seq

-- audit_triggers --
-- The triggers that keep audit logs append-only and chained, that are there and cannot be passed by.
SELECT CAST(tgrelid AS regclass) AS table_name, tgname AS name
FROM pg_catalog.pg_trigger
WHERE tgrelid IN (CAST('llmlog.audit_logs' AS regclass), CAST('llmlog.audit_checkpoints' AS regclass)) AND tgenabled = 'A'

-- audit_save --
-- Keeps what verify has found.
INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) VALUES ('verified', :seq, :hash)
