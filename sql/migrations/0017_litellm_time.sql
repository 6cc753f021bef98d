-- The newest rows by LiteLLM's "startTime" are found as fast as by our own start_time; so are audit events.
--
-- It builds an index on each partition; meanwhile writers wait, some two seconds for a million rows, readers never. Where
-- that is too long, build the same index CONCURRENTLY on each partition first, under any name: it is then taken as it is. Run ANALYZE llmlog.spend_logs afterwards, when it suits: partitions that get no
-- more rows are not looked at by themselves, and some plans for "startTime" are better for it.

-- Postgres knows no order of an expression but by an index on just that: without it the newest fifty of two million rows
-- took seconds. It grows at its right edge, eight bytes a row.
CREATE INDEX spend_logs_litellm_time ON llmlog.spend_logs (CAST(start_time AT TIME ZONE 'UTC' AS timestamp(3)));

-- The same for the list of audit events.
CREATE INDEX audit_logs_litellm_time ON llmlog.audit_logs (CAST(updated_at AT TIME ZONE 'UTC' AS timestamp(3)));

COMMENT ON VIEW llmlog."LiteLLM_SpendLogs" IS 'spend_logs under the names and types of LiteLLM. An index on "startTime" keeps filters and order by time as fast as on the table.';
