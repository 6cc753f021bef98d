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
       (SELECT recorded_at FROM llmlog.audit_logs ORDER BY seq DESC LIMIT 1) AS recorded_at,
       (SELECT max(seq) FROM llmlog.audit_checkpoints WHERE kind = 'pruned') AS pruned
FROM llmlog.audit_logs l

-- audit_links --
-- The first rows, in order, that are not what the chain says. The text is llmlog.audit_text's, written out: whoever may
-- change rows may change that function. A row's place in the chain is its seq. Rows that are signed off may go one by
-- one; those that are left say still what they said.
WITH in_order AS (
    SELECT l.*,
           CASE seq WHEN CAST(:pruned AS bigint) + 1 THEN CAST(:pruned AS bigint)
                    ELSE coalesce(lag(seq) OVER w, CAST(:pruned AS bigint), 0) END AS before_seq,
           CASE seq WHEN CAST(:pruned AS bigint) + 1 THEN CAST(:pruned_hash AS bytea)
                    ELSE coalesce(lag(hash) OVER w, CAST(:pruned_hash AS bytea), decode(repeat('00', 32), 'hex')) END AS before_hash
    FROM llmlog.audit_logs l
    WINDOW w AS (ORDER BY seq)
), checked AS (
    SELECT seq, id, before_seq,
           seq <> before_seq + 1 AND seq > coalesce(CAST(:pruned AS bigint), 0) AS gap,
           previous_hash <> before_hash AND (seq = before_seq + 1 OR seq > coalesce(CAST(:pruned AS bigint), 0)) AS unlinked,
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
-- What was known of the chain and when; the row of that place as it is today (NULL: there is none); and of a sign-off what
-- the chain tells of it.
WITH told AS MATERIALIZED (
    SELECT updated_values ->> 'up_to_seq' AS seq, updated_values ->> 'up_to_hash' AS hash,
           CAST(updated_values ->> 'up_to_recorded_at' AS timestamptz) AS recorded_at
    FROM llmlog.audit_logs
    WHERE operation = 'audit.prune' AND source = 'llmlog'
)
SELECT c.id, c.kind, c.seq, c.hash, c.made_at, c.made_by, coalesce(c.recorded_at, l.recorded_at) AS recorded_at,
       l.hash AS hash_now, l.id AS row_id, t.seq IS NOT NULL AS told, t.recorded_at AS told_recorded_at, clock_timestamp() AS now
FROM llmlog.audit_checkpoints c
LEFT JOIN llmlog.audit_logs l ON l.seq = c.seq
LEFT JOIN told t ON c.kind = 'pruned' AND t.seq = CAST(c.seq AS text) AND t.hash = encode(c.hash, 'hex')
ORDER BY c.id

-- audit_row --
-- The row at a place of the chain.
SELECT seq, id, hash FROM llmlog.audit_logs WHERE seq = :seq

-- audit_revision --
-- Which version the tables are of.
SELECT version_num FROM llmlog.alembic_version

-- audit_event_triggers --
-- Code that runs at commands that change tables, or when somebody connects. None of it is ours.
SELECT evtname AS name, evtevent AS event, CAST(evtfoid AS regproc) AS function
FROM pg_catalog.pg_event_trigger
WHERE evtenabled <> 'D'
ORDER BY 1

-- audit_shape --
-- All that makes the chain, and all that could pass it by: a name and how it is. Indexes are anybody's own, unless they
-- refuse rows or run somebody's code. What depends on functions of Postgres itself is not in pg_depend.
WITH tables AS (
    SELECT c.oid, c.relname AS name, c.relkind, c.relpersistence, c.relam, c.relowner, c.relrowsecurity, c.relforcerowsecurity,
           c.relispartition
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'llmlog' AND c.relname = ANY (CAST(:tables AS text[]))
)
SELECT concat('table ', t.name) AS name,
       concat('kind ', t.relkind, ', persistence ', t.relpersistence, ', method ', coalesce(a.amname, 'none'),
              CASE WHEN t.relrowsecurity OR t.relforcerowsecurity THEN ', with row level security' END,
              CASE WHEN t.relispartition THEN ', a partition' END) AS says
FROM tables t LEFT JOIN pg_catalog.pg_am a ON a.oid = t.relam
UNION ALL
SELECT concat('column ', a.attname, ' of ', t.name),
       concat(pg_catalog.format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attcollation <> y.typcollation THEN concat(' COLLATE ', k.collname) END,
              CASE WHEN a.attnotnull THEN ' NOT NULL' END,
              CASE WHEN a.attidentity <> '' THEN concat(' IDENTITY ', a.attidentity) END,
              CASE WHEN a.attgenerated <> '' THEN ' GENERATED' END,
              ' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid))
FROM tables t
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation k ON k.oid = a.attcollation
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
UNION ALL
SELECT concat('constraint ', c.conname, ' of ', t.name),
       pg_catalog.pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' (not validated)' END
FROM tables t JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid AND c.contype <> 'n'
UNION ALL
SELECT concat('index ', c.relname, ' of ', t.name), pg_catalog.pg_get_indexdef(i.indexrelid)
FROM tables t
JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indisunique OR EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = CAST('pg_catalog.pg_class' AS regclass) AND d.objid = i.indexrelid
      AND d.refclassid IN (CAST('pg_catalog.pg_proc' AS regclass), CAST('pg_catalog.pg_operator' AS regclass))
)
UNION ALL
SELECT concat('index ', c.relname, ' of ', t.name),
       pg_catalog.pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid AND i.indisready AND i.indimmediate THEN '' ELSE ' (off)' END
FROM tables t
JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
UNION ALL
SELECT concat('trigger ', g.tgname, ' of ', t.name), pg_catalog.pg_get_triggerdef(g.oid)
FROM tables t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid
-- Ours fire always; of others one that is off may be on tomorrow.
WHERE g.tgenabled = 'A' OR NOT (concat('trigger ', g.tgname, ' of ', t.name) = ANY (CAST(:triggers AS text[])))
UNION ALL
SELECT concat('rule ', r.rulename, ' of ', t.name), pg_catalog.pg_get_ruledef(r.oid)
FROM tables t JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid
UNION ALL
SELECT concat('policy ', p.polname, ' of ', t.name), ''
FROM tables t JOIN pg_catalog.pg_policy p ON p.polrelid = t.oid
UNION ALL
SELECT concat('table ', CAST(i.inhrelid AS regclass), ' below ', t.name), 'its rows show in it, and no trigger watches them'
FROM tables t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
UNION ALL
SELECT concat('table ', CAST(i.inhparent AS regclass), ' above ', t.name), 'what is done to it is done to the rows'
FROM tables t JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.oid
UNION ALL
SELECT concat('function llmlog.', p.proname),
       string_agg(concat_ws(', ',
           CASE WHEN p.prosecdef THEN 'security definer' ELSE 'security invoker' END,
           nullif(array_to_string(p.proconfig, ', '), ''),
           left(encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'), 16),
           CASE WHEN p.proowner <> ALL (SELECT t.relowner FROM tables t) THEN 'not owned by who owns the tables' END
       ), ' and ')
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'llmlog' AND p.proname = ANY (CAST(:functions AS text[]))
GROUP BY p.proname

-- audit_save --
-- Keeps what verify has found.
INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) VALUES ('verified', :seq, :hash)
