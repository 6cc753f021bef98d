-- partitions --
-- Partitions of a day each, oldest first. Rows as the last ANALYZE saw them.
SELECT p.relname AS "table",
       c.relname AS name,
       to_date(right(c.relname, 8), 'YYYYMMDD') AS day,
       CAST(greatest(c.reltuples, 0) AS bigint) AS rows,
       pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
JOIN pg_class p ON p.oid = i.inhparent
JOIN pg_namespace n ON n.oid = p.relnamespace AND n.nspname = 'llmlog'
WHERE p.relname IN ('spend_logs', 'spend_log_contents')
  AND c.relname ~ ('^' || p.relname || '_[0-9]{8}$')
ORDER BY day, p.relname

-- check_spend_hourly --
-- Lines of spend_hourly that differ from the rows they sum up, in the hours whose rows are all kept.
WITH kept AS (
    SELECT kept_since AS since FROM llmlog.maintenance WHERE task = 'retention'
), found AS (
    SELECT h.* FROM kept CROSS JOIN LATERAL (SELECT * FROM llmlog.spend_hourly WHERE hour >= kept.since) h
), expected AS (
    SELECT r.* FROM kept CROSS JOIN LATERAL llmlog.spend_hourly_of_rows(kept.since) r
)
SELECT coalesce(f.hour, e.hour) AS hour, CAST(coalesce(f.key, e.key) AS text) AS key,
       CAST(to_jsonb(f) - '{hour,key}'::text[] AS text) AS found,
       CAST(to_jsonb(e) - '{hour,key}'::text[] AS text) AS expected
FROM found f
FULL JOIN expected e ON f.hour = e.hour AND f.key = e.key
WHERE f IS DISTINCT FROM e
ORDER BY 1, 2
LIMIT :limit

-- check_spend_daily --
-- Lines of spend_daily that differ from the hours they sum up.
WITH found AS (
    SELECT * FROM llmlog.spend_daily
), expected AS (
    SELECT d.*
    FROM llmlog.maintenance m
    CROSS JOIN LATERAL llmlog.spend_daily_of_hours('-infinity', m.folded_until) d
    WHERE m.task = 'rollups'
)
SELECT coalesce(f.day, e.day) AS day, CAST(coalesce(f.key, e.key) AS text) AS key,
       CAST(to_jsonb(f) - '{day,key}'::text[] AS text) AS found,
       CAST(to_jsonb(e) - '{day,key}'::text[] AS text) AS expected
FROM found f
FULL JOIN expected e ON f.day = e.day AND f.key = e.key
WHERE f IS DISTINCT FROM e
ORDER BY 1, 2
LIMIT :limit

-- check_session_totals --
-- Sessions whose sums differ from their rows, of those that began when rows were kept. The latest call of a session is
-- not looked at: of two that begin at once either may be it.
WITH kept AS (
    SELECT kept_since AS since FROM llmlog.maintenance WHERE task = 'retention'
), found AS (
    SELECT t.* FROM kept CROSS JOIN LATERAL (SELECT * FROM llmlog.session_totals WHERE first_start >= kept.since) t
), expected AS (
    -- Rows of a session that began before belong to sums that cannot be compared any more.
    SELECT r.*
    FROM kept
    CROSS JOIN LATERAL llmlog.session_totals_of_rows(kept.since) r
    WHERE NOT EXISTS (
        SELECT FROM llmlog.session_totals t WHERE t.session_id = r.session_id AND t.first_start < kept.since
    )
)
SELECT coalesce(f.session_id, e.session_id) AS session_id,
       CAST(to_jsonb(f) - l.names AS text) AS found, CAST(to_jsonb(e) - l.names AS text) AS expected
FROM found f
FULL JOIN expected e ON f.session_id = e.session_id
CROSS JOIN (SELECT '{session_id,last_model,last_user_id,last_team_id,last_end_user}'::text[]) AS l (names)
WHERE to_jsonb(f) - l.names IS DISTINCT FROM to_jsonb(e) - l.names
ORDER BY 1
LIMIT :limit

-- check_extent --
-- What a check compares: from when on, and how many lines of each sum there are.
SELECT nullif(m.kept_since, '-infinity') AS since,
       (SELECT count(*) FROM llmlog.spend_hourly WHERE hour >= m.kept_since) AS hours,
       (SELECT count(*) FROM llmlog.session_totals WHERE first_start >= m.kept_since) AS sessions
FROM llmlog.maintenance m
WHERE m.task = 'retention'

-- repair_lock --
-- Keeps writers out until the end of the transaction, so that no row is summed up twice or never. Readers go on.
LOCK TABLE ONLY llmlog.spend_logs IN SHARE ROW EXCLUSIVE MODE

-- repair_spend_hourly_remove --
-- Lines whose rows are all kept.
DELETE FROM llmlog.spend_hourly
WHERE hour >= (SELECT kept_since FROM llmlog.maintenance WHERE task = 'retention')

-- repair_spend_hourly_add --
-- The same lines, summed up from the rows.
INSERT INTO llmlog.spend_hourly
SELECT r.*
FROM llmlog.maintenance m
CROSS JOIN LATERAL llmlog.spend_hourly_of_rows(m.kept_since) r
WHERE m.task = 'retention'

-- repair_spend_daily_remove --
-- All of it: the hours it sums up are never removed.
DELETE FROM llmlog.spend_daily

-- repair_spend_daily_add --
-- The same days, summed up from the hours.
INSERT INTO llmlog.spend_daily
SELECT d.*
FROM llmlog.maintenance m
CROSS JOIN LATERAL llmlog.spend_daily_of_hours('-infinity', m.folded_until) d
WHERE m.task = 'rollups'

-- repair_session_totals_remove --
-- Sessions whose rows are all kept.
DELETE FROM llmlog.session_totals
WHERE first_start >= (SELECT kept_since FROM llmlog.maintenance WHERE task = 'retention')

-- repair_session_totals_add --
-- The same sessions, summed up from the rows.
INSERT INTO llmlog.session_totals
SELECT r.*
FROM llmlog.maintenance m
CROSS JOIN LATERAL llmlog.session_totals_of_rows(m.kept_since) r
WHERE m.task = 'retention'
ON CONFLICT DO NOTHING
