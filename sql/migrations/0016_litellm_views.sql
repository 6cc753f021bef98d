-- LiteLLM's names for the tables of spend, as its releases up to 1.110 ask for them.
--
-- Safe on a big table: it makes and replaces views, which reads and rewrites nothing. New columns stand last, so that
-- grants and views of others that build on these stay.

COMMENT ON COLUMN llmlog.spend_logs.saved_cache_cost IS 'US dollars that an answer from LiteLLM''s own response cache would have cost, as its callback and its spans tell. 0 for all other calls: a provider answered them, and billed what spend says. What a provider''s prompt cache saves is not in it.';

-- The sums of whole days and those of hours that are not folded yet, under one name: what the views below add up.
CREATE VIEW llmlog.spend_by_day AS
SELECT CAST(day AT TIME ZONE 'UTC' AS date) AS day, model, response_model, provider, team_id, team_alias, organization_id,
       user_id, api_key, api_key_alias, status, calls, unpriced, prompt_tokens, completion_tokens, total_tokens,
       cache_read_tokens, cache_creation_tokens, reasoning_tokens, spend
FROM llmlog.spend_daily
UNION ALL
SELECT CAST(hour AT TIME ZONE 'UTC' AS date), model, response_model, provider, team_id, team_alias, organization_id,
       user_id, api_key, api_key_alias, status, calls, unpriced, prompt_tokens, completion_tokens, total_tokens,
       cache_read_tokens, cache_creation_tokens, reasoning_tokens, spend
FROM llmlog.spend_hourly
WHERE hour >= (SELECT folded_until FROM llmlog.maintenance WHERE task = 'rollups');

COMMENT ON VIEW llmlog.spend_by_day IS 'spend_daily, and spend_hourly where its hours are not folded: each call is in one line. A day (UTC) has many lines; sum them up.';

-- As in 0006, and: metadata holds what LiteLLM's queries filter and count by there, under its names; the model group of a
-- call that no router sent is its model.
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
       coalesce(l.model_group, l.model, '') AS model_group,
       coalesce(l.provider, '') AS custom_llm_provider,
       coalesce(l.api_base, '') AS api_base,
       coalesce(l.user_id, '') AS "user",
       l.metadata || jsonb_build_object(
           'status', l.status,
           'litellm_call_id', l.call_id,
           'user_api_key', l.api_key,
           'user_api_key_alias', l.api_key_alias,
           'user_api_key_team_id', l.team_id,
           'user_api_key_team_alias', l.team_alias,
           'user_api_key_org_id', l.organization_id,
           'user_api_key_user_id', l.user_id,
           'requester_ip_address', l.requester_ip_address,
           'user_agent', l.user_agent,
           'cost_breakdown', l.cost_breakdown,
           'error_information', CASE WHEN l.status = 'failure' THEN
               jsonb_build_object('error_message', l.error_str)
               || CASE jsonb_typeof(l.metadata -> 'error_information') WHEN 'object' THEN l.metadata -> 'error_information' ELSE '{}' END
               || jsonb_build_object('error_code', coalesce(l.error_code, ''), 'error_class', coalesce(l.error_class, ''))
           END,
           'usage_object', CASE jsonb_typeof(coalesce(l.usage, l.metadata -> 'usage_object'))
               WHEN 'object' THEN coalesce(l.usage, l.metadata -> 'usage_object') ELSE '{}' END || jsonb_build_object(
               'prompt_tokens', l.prompt_tokens,
               'completion_tokens', l.completion_tokens,
               'total_tokens', l.total_tokens,
               'cache_read_input_tokens', l.cache_read_tokens,
               'cache_creation_input_tokens', l.cache_creation_tokens,
               'prompt_tokens_details', jsonb_build_object('cached_tokens', l.cache_read_tokens),
               'completion_tokens_details', jsonb_build_object('reasoning_tokens', l.reasoning_tokens)
           )
       ) AS metadata,
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

-- One view for each kind of LiteLLM's daily tables, as in 0003, and: names that are missing are '', as LiteLLM writes
-- them; a call without a user counts for the user ''; a tag that a call has twice counts once. What only a gateway can
-- save is 0. Durations are known where the rows are read: elsewhere no request is timed, and sums of times are 0.
DO $$
DECLARE
    from_sums text := $source$
        SELECT to_char(day, 'YYYY-MM-DD') AS date, %s AS who, coalesce(api_key, '') AS api_key, coalesce(model, '') AS model,
               coalesce(provider, '') AS provider, status, calls, prompt_tokens, completion_tokens, cache_read_tokens,
               cache_creation_tokens, spend, 0 AS duration_ms, 0 AS timed, CAST(NULL AS text) AS request_id
        FROM llmlog.spend_by_day
    $source$;
    from_rows text := $source$
        SELECT to_char(start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS date, %s AS who, coalesce(api_key, '') AS api_key,
               coalesce(model, '') AS model, coalesce(provider, '') AS provider, status, 1 AS calls, prompt_tokens,
               completion_tokens, cache_read_tokens, cache_creation_tokens, spend,
               CASE status WHEN 'success' THEN request_duration_ms ELSE 0 END AS duration_ms,
               CASE status WHEN 'success' THEN 1 ELSE 0 END AS timed, request_id
        FROM llmlog.spend_logs %s
    $source$;
    tags_of_row text := 'CROSS JOIN LATERAL (SELECT DISTINCT t.tag FROM unnest(request_tags) t (tag)) g';
    kind record;
BEGIN
    FOR kind IN
        SELECT * FROM (VALUES
            ('LiteLLM_DailyUserSpend', 'who AS user_id', '', format(from_sums, 'coalesce(user_id, '''')'), ''),
            ('LiteLLM_DailyTeamSpend', 'who AS team_id', '', format(from_sums, 'team_id'),
             ', CAST(0 AS double precision) AS ptu_flat_cost'),
            ('LiteLLM_DailyOrganizationSpend', 'who AS organization_id', '', format(from_sums, 'organization_id'), ''),
            ('LiteLLM_DailyEndUserSpend', 'who AS end_user_id', '', format(from_rows, 'nullif(end_user, '''')', ''), ''),
            ('LiteLLM_DailyTagSpend', 'who AS tag', 'min(request_id) AS request_id,', format(from_rows, 'tag', tags_of_row), '')
        ) k (name, who, before, source, after)
    LOOP
        EXECUTE format($view$
            CREATE OR REPLACE VIEW llmlog.%1$I AS
            SELECT md5(CAST(array_to_json(ARRAY[who, date, api_key, model, provider]) AS text)) AS id, %3$s %2$s, date, api_key,
                   model, model AS model_group, provider AS custom_llm_provider, CAST('' AS text) AS mcp_namespaced_tool_name,
                   CAST('' AS text) AS endpoint,
                   CAST(sum(prompt_tokens) AS bigint) AS prompt_tokens,
                   CAST(sum(completion_tokens) AS bigint) AS completion_tokens,
                   CAST(sum(cache_read_tokens) AS bigint) AS cache_read_input_tokens,
                   CAST(sum(cache_creation_tokens) AS bigint) AS cache_creation_input_tokens,
                   CAST(coalesce(sum(spend), 0) AS double precision) AS spend,
                   CAST(sum(calls) AS bigint) AS api_requests,
                   CAST(coalesce(sum(calls) FILTER (WHERE status = 'success'), 0) AS bigint) AS successful_requests,
                   CAST(coalesce(sum(calls) FILTER (WHERE status = 'failure'), 0) AS bigint) AS failed_requests,
                   CAST(date AS timestamp(3)) AS created_at,
                   CAST(date AS timestamp(3)) AS updated_at,
                   CAST(0 AS bigint) AS compression_saved_tokens,
                   CAST(0 AS double precision) AS compression_savings_spend,
                   CAST(0 AS double precision) AS prompt_caching_savings_spend,
                   CAST(0 AS double precision) AS gateway_injected_caching_savings_spend,
                   CAST(0 AS double precision) AS autorouter_savings_spend,
                   CAST(sum(duration_ms) AS bigint) AS total_response_time_ms,
                   CAST(sum(timed) AS bigint) AS timed_requests
                   %5$s
            FROM (%4$s) s
            WHERE who IS NOT NULL
            GROUP BY who, date, api_key, model, provider
        $view$, kind.name, kind.who, kind.before, kind.source, kind.after);
    END LOOP;
END;
$$;

CREATE VIEW llmlog."LiteLLM_DailyGlobalSpend" AS
SELECT md5(CAST(array_to_json(ARRAY[date, model, custom_llm_provider]) AS text)) AS id, date, model, model_group,
       custom_llm_provider, mcp_namespaced_tool_name, endpoint,
       CAST(sum(prompt_tokens) AS bigint) AS prompt_tokens,
       CAST(sum(completion_tokens) AS bigint) AS completion_tokens,
       CAST(sum(cache_read_input_tokens) AS bigint) AS cache_read_input_tokens,
       CAST(sum(cache_creation_input_tokens) AS bigint) AS cache_creation_input_tokens,
       CAST(sum(compression_saved_tokens) AS bigint) AS compression_saved_tokens,
       sum(compression_savings_spend) AS compression_savings_spend,
       sum(prompt_caching_savings_spend) AS prompt_caching_savings_spend,
       sum(gateway_injected_caching_savings_spend) AS gateway_injected_caching_savings_spend,
       sum(autorouter_savings_spend) AS autorouter_savings_spend,
       sum(spend) AS spend,
       CAST(sum(api_requests) AS bigint) AS api_requests,
       CAST(sum(successful_requests) AS bigint) AS successful_requests,
       CAST(sum(failed_requests) AS bigint) AS failed_requests,
       CAST(sum(total_response_time_ms) AS bigint) AS total_response_time_ms,
       CAST(sum(timed_requests) AS bigint) AS timed_requests,
       CAST(date AS timestamp(3)) AS created_at,
       CAST(date AS timestamp(3)) AS updated_at
FROM llmlog."LiteLLM_DailyUserSpend"
GROUP BY date, model, model_group, custom_llm_provider, mcp_namespaced_tool_name, endpoint;

COMMENT ON VIEW llmlog."LiteLLM_DailyGlobalSpend" IS 'Spend by day (UTC) under the names and types of LiteLLM.';

-- The views that LiteLLM makes for itself. Its tables of keys are not there: aliases are those that calls came with.
-- "The last 30 days" begin at midnight UTC, as there, so that the sums by day answer them.
CREATE VIEW llmlog."MonthlyGlobalSpend" AS
SELECT day AS date, CAST(coalesce(sum(spend), 0) AS double precision) AS spend
FROM llmlog.spend_by_day WHERE day >= CURRENT_DATE - 30
GROUP BY day;

CREATE VIEW llmlog."MonthlyGlobalSpendPerKey" AS
SELECT day AS date, CAST(coalesce(sum(spend), 0) AS double precision) AS spend, coalesce(api_key, '') AS api_key
FROM llmlog.spend_by_day WHERE day >= CURRENT_DATE - 30
GROUP BY day, coalesce(api_key, '');

CREATE VIEW llmlog."MonthlyGlobalSpendPerUserPerKey" AS
SELECT day AS date, CAST(coalesce(sum(spend), 0) AS double precision) AS spend, coalesce(api_key, '') AS api_key,
       coalesce(user_id, '') AS "user"
FROM llmlog.spend_by_day WHERE day >= CURRENT_DATE - 30
GROUP BY day, coalesce(user_id, ''), coalesce(api_key, '');

CREATE VIEW llmlog."Last30dKeysBySpend" AS
SELECT coalesce(api_key, '') AS api_key, max(api_key_alias) AS key_alias, CAST(NULL AS text) AS key_name,
       CAST(coalesce(sum(spend), 0) AS double precision) AS total_spend
FROM llmlog.spend_by_day WHERE day >= CURRENT_DATE - 30
GROUP BY coalesce(api_key, '')
ORDER BY total_spend DESC;

CREATE VIEW llmlog."Last30dModelsBySpend" AS
SELECT model, CAST(coalesce(sum(spend), 0) AS double precision) AS total_spend
FROM llmlog.spend_by_day WHERE day >= CURRENT_DATE - 30 AND model <> ''
GROUP BY model
ORDER BY total_spend DESC;

CREATE VIEW llmlog."Last30dTopEndUsersSpend" AS
SELECT end_user, count(*) AS total_events, CAST(coalesce(sum(spend), 0) AS double precision) AS total_spend
FROM llmlog.spend_logs
WHERE end_user <> '' AND start_time >= CAST(CURRENT_DATE - 30 AS timestamp) AT TIME ZONE 'UTC'
GROUP BY end_user
ORDER BY total_spend DESC
LIMIT 100;

CREATE VIEW llmlog."DailyTagSpend" AS
SELECT t.tag AS individual_request_tag, CAST(l.start_time AT TIME ZONE 'UTC' AS date) AS spend_date, count(*) AS log_count,
       CAST(coalesce(sum(l.spend), 0) AS double precision) AS total_spend
FROM llmlog.spend_logs l CROSS JOIN LATERAL unnest(l.request_tags) t (tag)
GROUP BY t.tag, CAST(l.start_time AT TIME ZONE 'UTC' AS date);

COMMENT ON VIEW llmlog."MonthlyGlobalSpend" IS 'LiteLLM''s view: spend of the last 30 days by day (UTC).';
COMMENT ON VIEW llmlog."MonthlyGlobalSpendPerKey" IS 'LiteLLM''s view: spend of the last 30 days by day (UTC) and key.';
COMMENT ON VIEW llmlog."MonthlyGlobalSpendPerUserPerKey" IS 'LiteLLM''s view: spend of the last 30 days by day (UTC), user and key.';
COMMENT ON VIEW llmlog."Last30dKeysBySpend" IS 'LiteLLM''s view: keys of the last 30 days. The alias is one that calls came with.';
COMMENT ON VIEW llmlog."Last30dModelsBySpend" IS 'LiteLLM''s view: models of the last 30 days.';
COMMENT ON VIEW llmlog."Last30dTopEndUsersSpend" IS 'LiteLLM''s view: the hundred end users of the last 30 days who cost most. From the rows.';
COMMENT ON VIEW llmlog."DailyTagSpend" IS 'LiteLLM''s view: tags by day (UTC). From the rows, all of them.';
