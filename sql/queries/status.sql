-- size --
-- Rows as the last ANALYZE saw them, bytes with indexes, number of partitions; logs and contents apart.
SELECT p.relname AS "table",
       CAST(coalesce(sum(greatest(c.reltuples, 0)), 0) AS bigint) AS rows,
       CAST(coalesce(sum(pg_total_relation_size(c.oid)), 0) AS bigint) AS bytes,
       count(c.oid) AS partitions
FROM pg_class p
JOIN pg_namespace n ON n.oid = p.relnamespace AND n.nspname = 'llmlog'
LEFT JOIN pg_inherits i ON i.inhparent = p.oid
LEFT JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relname IN ('spend_logs', 'spend_log_contents')
GROUP BY p.relname
ORDER BY p.relname DESC

-- newest --
-- When the newest call began.
SELECT start_time FROM llmlog.spend_logs ORDER BY start_time DESC LIMIT 1

-- count --
-- Exact number of calls, for tables that are small enough to be read.
SELECT count(*) FROM llmlog.spend_logs

-- now --
-- The database's clock, by which rows are stamped.
SELECT now()
