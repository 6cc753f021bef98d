-- reprice_page --
-- Calls whose cost we worked out, or could not, by key: not those that the provider or LiteLLM stated, nor cache hits.
-- After (after_time, after_trace, after_span) and before `until`.
SELECT l.start_time, l.trace_id, l.span_id, l.provider, l.model, l.response_model, l.call_type, l.cache_hit,
       coalesce(l.usage, l.metadata -> 'usage_object') AS usage,
       CAST(l.spend AS text) AS spend, l.cost_source, l.price_version, l.cost_breakdown,
       extract(epoch FROM l.start_time) AS at
FROM llmlog.spend_logs l
WHERE l.start_time >= CAST(:after_time AS timestamptz) AND l.start_time < CAST(:until AS timestamptz)
  AND (l.start_time, l.trace_id, l.span_id) > (CAST(:after_time AS timestamptz), CAST(:after_trace AS text), CAST(:after_span AS text))
  AND (l.cost_source IS NULL AND l.spend IS NULL
       OR l.cost_source IN ('genai-prices', 'price_map', 'tiktoken+genai-prices', 'tiktoken+price_map'))
  AND l.cache_hit IS NOT TRUE
  AND coalesce(l.usage, l.metadata -> 'usage_object') IS NOT NULL
ORDER BY l.start_time, l.trace_id, l.span_id
LIMIT :limit

-- reprice_order --
-- Keeps writers from moving rows until COMMIT, be it to another session or out of the table: all the locks that they
-- take before their rows, in their order. Descriptions by others come before chains.
SELECT llmlog.take_locks(n.name, ARRAY(SELECT generate_series(0, 63)))
FROM (SELECT * FROM (VALUES (1, 'described_calls'), (2, 'chains')) n (place, name) ORDER BY place) n

-- reprice_lock --
-- These calls as they are now, nobody else to change them until COMMIT.
SELECT l.start_time, l.trace_id, l.span_id, l.session_id, l.status, CAST(l.spend AS text) AS spend, l.cost_source,
       l.price_version, l.cost_breakdown
FROM unnest(CAST(:start_times AS timestamptz[]), CAST(:trace_ids AS text[]), CAST(:span_ids AS text[])) AS k (start_time, trace_id, span_id)
JOIN llmlog.spend_logs l USING (start_time, trace_id, span_id)
WHERE l.start_time >= CAST(:first AS timestamptz) AND l.start_time <= CAST(:last AS timestamptz)
ORDER BY l.start_time, l.trace_id, l.span_id
FOR UPDATE OF l

-- reprice_write --
-- Their new costs, and what that adds to the sums, in one statement: no call and no token more.
WITH given AS MATERIALIZED (
    SELECT *
    FROM unnest(
        CAST(:start_times AS timestamptz[]), CAST(:trace_ids AS text[]), CAST(:span_ids AS text[]),
        CAST(:spends AS numeric[]), CAST(:sources AS text[]), CAST(:versions AS text[]), CAST(:breakdowns AS text[]),
        CAST(:informations AS text[]), CAST(:before AS numeric[])
    ) AS g (start_time, trace_id, span_id, spend, source, version, breakdown, information, before)
), written AS (
    UPDATE llmlog.spend_logs l
    SET spend = g.spend, cost_source = g.source, price_version = g.version, cost_breakdown = CAST(g.breakdown AS jsonb),
        metadata = l.metadata - '{response_cost,response_cost_failure_debug_info}'::text[]
                   || jsonb_build_object('model_map_information', CAST(g.information AS jsonb))
    FROM given g
    WHERE l.start_time >= CAST(:first AS timestamptz) AND l.start_time <= CAST(:last AS timestamptz)
      AND l.start_time = g.start_time AND l.trace_id = g.trace_id AND l.span_id = g.span_id
    RETURNING l.*, g.before
), changed AS MATERIALIZED (
    SELECT w.*, w.spend - coalesce(w.before, 0) AS more,
           CASE WHEN w.status = 'success' AND w.before IS NULL THEN -1 ELSE 0 END AS unpriced
    FROM written w
), hours AS (
    SELECT date_trunc('hour', start_time, 'UTC') AS hour,
           llmlog.spend_hourly_key(model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key, api_key_alias, status) AS key,
           model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key, api_key_alias, status,
           CAST(sum(unpriced) AS bigint) AS unpriced, sum(more) AS more
    FROM changed
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
), sessions AS (
    SELECT session_id, CAST(sum(unpriced) AS bigint) AS unpriced, sum(more) AS more
    FROM changed
    WHERE session_id IS NOT NULL
    GROUP BY session_id
)
SELECT (SELECT count(*) FROM changed) AS rows,
       llmlog.sum_up(
           array_agg(CAST(ROW(
               hour, key, model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key,
               api_key_alias, status, 0, unpriced, 0, 0, 0, 0, 0, 0, more
           ) AS llmlog.hour_sums)),
           (SELECT array_agg(CAST(ROW(
               session_id, 'infinity', '-infinity', '-infinity', 0, 0, unpriced, 0, 0, 0, 0, 0, 0, 0, more,
               NULL, NULL, NULL, NULL
           ) AS llmlog.session_sums)) FROM sessions)
       )
FROM hours
HAVING count(*) > 0

-- unpriced_models --
-- Models whose successful calls were counted and have no cost, with the reason of the newest of them.
SELECT l.provider, coalesce(l.response_model, l.model) AS model, count(*) AS calls,
       min(l.start_time) AS first_call, max(l.start_time) AS last_call,
       CAST(sum(l.prompt_tokens) AS bigint) AS prompt_tokens, CAST(sum(l.completion_tokens) AS bigint) AS completion_tokens,
       (array_agg(l.metadata #>> '{response_cost_failure_debug_info,error_str}' ORDER BY l.start_time DESC))[1] AS reason
FROM llmlog.spend_logs l
WHERE l.spend IS NULL AND l.status = 'success'
  AND coalesce(l.usage, l.metadata -> 'usage_object') IS NOT NULL
  AND (CAST(:since AS timestamptz) IS NULL OR l.start_time >= :since)
GROUP BY 1, 2
ORDER BY calls DESC, 1, 2

-- reconcile_days --
-- Calls, tokens and cost by day (UTC) and model as the provider names it, since <= day < until, from the sums.
-- Failed calls that were counted are in the tokens and in the cost, as they are at the provider; not in the calls.
SELECT CAST(day AT TIME ZONE 'UTC' AS date) AS day, coalesce(response_model, model) AS model,
       CAST(coalesce(sum(calls) FILTER (WHERE status = 'success'), 0) AS bigint) AS requests,
       CAST(sum(prompt_tokens) AS bigint) AS input_tokens,
       CAST(sum(cache_read_tokens) AS bigint) AS cached_tokens,
       CAST(sum(completion_tokens) AS bigint) AS output_tokens,
       CAST(sum(spend) AS text) AS cost, CAST(sum(unpriced) AS bigint) AS unpriced
FROM (
    SELECT day, model, response_model, status, calls, prompt_tokens, cache_read_tokens, completion_tokens, spend, unpriced
    FROM llmlog.spend_daily
    WHERE day >= CAST(:since AS timestamptz) AND day < CAST(:until AS timestamptz) AND provider = ANY (CAST(:providers AS text[]))
    UNION ALL
    SELECT date_trunc('day', hour, 'UTC'), model, response_model, status, calls, prompt_tokens, cache_read_tokens,
           completion_tokens, spend, unpriced
    FROM llmlog.spend_hourly
    WHERE hour >= greatest(CAST(:since AS timestamptz), (SELECT folded_until FROM llmlog.maintenance WHERE task = 'rollups'))
      AND hour < CAST(:until AS timestamptz) AND provider = ANY (CAST(:providers AS text[]))
) d
GROUP BY 1, 2
ORDER BY 1, 2
