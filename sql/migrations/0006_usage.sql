-- What a call used has a column of its own: every count there is, and what its price depends on.
--
-- Safe on a big table: it adds a column without a default, which rewrites nothing; the lock for that is held for a
-- moment. Rows that are there stay as they are, with their usage in metadata under usage_object; those of writers of the
-- version before look the same. The view shows both alike.

ALTER TABLE llmlog.spend_logs ADD COLUMN usage jsonb;

COMMENT ON COLUMN llmlog.spend_logs.usage IS 'What was counted, zeros left out, and by whom: tokens of each kind, searches, characters, milliseconds, pages, images; service tier. NULL: nothing was.';

-- LiteLLM keeps the usage in its metadata.
CREATE OR REPLACE VIEW llmlog."LiteLLM_SpendLogs" AS
SELECT l.request_id,
       l.call_type,
       coalesce(l.api_key, '') AS api_key,
       CAST(coalesce(l.spend, 0) AS double precision) AS spend,
       CAST(least(l.total_tokens, 2147483647) AS integer) AS total_tokens,
       CAST(least(l.prompt_tokens, 2147483647) AS integer) AS prompt_tokens,
       CAST(least(l.completion_tokens, 2147483647) AS integer) AS completion_tokens,
       CAST(l.start_time AT TIME ZONE 'UTC' AS timestamp(3)) AS "startTime",
       CAST(l.end_time AT TIME ZONE 'UTC' AS timestamp(3)) AS "endTime",
       CAST(least(l.request_duration_ms, 2147483647) AS integer) AS request_duration_ms,
       CAST(l.completion_start_time AT TIME ZONE 'UTC' AS timestamp(3)) AS "completionStartTime",
       coalesce(l.model, '') AS model,
       coalesce(l.model_id, '') AS model_id,
       coalesce(l.model_group, '') AS model_group,
       coalesce(l.provider, '') AS custom_llm_provider,
       coalesce(l.api_base, '') AS api_base,
       coalesce(l.user_id, '') AS "user",
       CASE WHEN l.usage IS NULL THEN l.metadata ELSE l.metadata || jsonb_build_object('usage_object', l.usage) END AS metadata,
       CASE l.cache_hit WHEN true THEN 'True' WHEN false THEN 'False' ELSE '' END AS cache_hit,
       coalesce(l.cache_key, '') AS cache_key,
       to_jsonb(l.request_tags) AS request_tags,
       l.team_id,
       l.organization_id,
       l.end_user,
       l.requester_ip_address,
       coalesce(c.messages, '{}') AS messages,
       coalesce(c.response, '{}') AS response,
       l.session_id,
       l.status,
       CAST(NULL AS text) AS mcp_namespaced_tool_name,
       CAST(NULL AS text) AS billing_agent_id,
       CAST(NULL AS text) AS agent_id,
       CAST('{}' AS jsonb) AS proxy_server_request,
       l.call_id AS litellm_call_id,
       CAST(l.created_at AT TIME ZONE 'UTC' AS timestamp(3)) AS created_at,
       CAST(l.created_at AT TIME ZONE 'UTC' AS timestamp(3)) AS updated_at
FROM llmlog.spend_logs l
LEFT JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id);
