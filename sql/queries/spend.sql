-- spend --
-- Cost and tokens per model, team, …, since <= start < until. A call with several tags counts under each of them.
SELECT g.key,
       max(CASE CAST(:by AS text) WHEN 'team' THEN team_alias WHEN 'key' THEN api_key_alias END) AS name,
       count(*) AS calls,
       count(*) FILTER (WHERE status = 'failure') AS failures,
       CAST(sum(prompt_tokens) AS bigint) AS prompt_tokens,
       CAST(sum(completion_tokens) AS bigint) AS completion_tokens,
       CAST(sum(total_tokens) AS bigint) AS total_tokens,
       CAST(sum(cache_read_tokens) AS bigint) AS cache_read_tokens,
       sum(spend) AS spend,
       count(*) FILTER (WHERE status = 'success' AND spend IS NULL) AS unpriced
FROM llmlog.spend_logs
CROSS JOIN LATERAL unnest(
    CASE CAST(:by AS text)
        WHEN 'model' THEN ARRAY[model]
        WHEN 'provider' THEN ARRAY[provider]
        WHEN 'team' THEN ARRAY[team_id]
        WHEN 'user' THEN ARRAY[user_id]
        WHEN 'end_user' THEN ARRAY[end_user]
        WHEN 'key' THEN ARRAY[api_key]
        WHEN 'session' THEN ARRAY[session_id]
        WHEN 'day' THEN ARRAY[to_char(start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')]
        WHEN 'tag' THEN CASE WHEN cardinality(request_tags) = 0 THEN ARRAY[CAST(NULL AS text)] ELSE request_tags END
    END
) AS g (key)
WHERE (CAST(:since AS timestamptz) IS NULL OR start_time >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR start_time < :until)
  AND (CAST(:model AS text) IS NULL OR model = :model OR response_model = :model)
  AND (CAST(:provider AS text) IS NULL OR provider = :provider)
  AND (CAST(:status AS text) IS NULL OR status = :status)
  AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)
  AND (CAST(:team AS text) IS NULL OR team_id = :team OR team_alias = :team)
  AND (CAST(:tag AS text) IS NULL OR :tag = ANY (request_tags))
  AND (CAST(:session_id AS text) IS NULL OR session_id = :session_id)
  AND (CAST(:end_user AS text) IS NULL OR end_user = :end_user)
  AND (CAST(:api_key AS text) IS NULL OR api_key = :api_key OR api_key_alias = :api_key)
  AND (CAST(:min_cost AS numeric) IS NULL OR spend >= :min_cost)
  AND (CAST(:trace_id AS text) IS NULL OR trace_id = :trace_id)
GROUP BY g.key
ORDER BY CASE WHEN CAST(:by AS text) = 'day' THEN g.key END DESC NULLS LAST, sum(spend) DESC NULLS LAST, count(*) DESC, g.key
LIMIT :limit

-- spend_of_hours --
-- The same from the rollups. first_hour <= hour < last_hour are the whole hours, first_day <= day < last_day the whole
-- days: from spend_daily as far as that goes, else from spend_hourly. What is left of hours that are cut into, since <=
-- start < first_hour and last_hour <= start < until, comes from the rows.
WITH folded AS MATERIALIZED (
    SELECT greatest(CAST(:first_day AS timestamptz), least(CAST(:last_day AS timestamptz), folded_until)) AS until
    FROM llmlog.maintenance
    WHERE task = 'rollups'
)
SELECT coalesce(name_of, to_char(day_of, 'YYYY-MM-DD')) AS key,
       max(CASE CAST(:by AS text) WHEN 'team' THEN team_alias WHEN 'key' THEN api_key_alias END) AS name,
       CAST(sum(calls) AS bigint) AS calls,
       CAST(coalesce(sum(calls) FILTER (WHERE status = 'failure'), 0) AS bigint) AS failures,
       CAST(sum(prompt_tokens) AS bigint) AS prompt_tokens,
       CAST(sum(completion_tokens) AS bigint) AS completion_tokens,
       CAST(sum(total_tokens) AS bigint) AS total_tokens,
       CAST(sum(cache_read_tokens) AS bigint) AS cache_read_tokens,
       sum(spend) AS spend,
       CAST(sum(unpriced) AS bigint) AS unpriced
FROM (
    SELECT day AS start_time, model, response_model, provider, team_id, team_alias, user_id, api_key, api_key_alias, status,
           calls, unpriced, prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, spend
    FROM llmlog.spend_daily
    WHERE day >= CAST(:first_day AS timestamptz) AND day < (SELECT until FROM folded)
    UNION ALL
    SELECT hour AS start_time, model, response_model, provider, team_id, team_alias, user_id, api_key, api_key_alias, status,
           calls, unpriced, prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, spend
    FROM llmlog.spend_hourly
    WHERE hour >= CAST(:first_hour AS timestamptz) AND hour < CAST(:first_day AS timestamptz)
    UNION ALL
    SELECT hour AS start_time, model, response_model, provider, team_id, team_alias, user_id, api_key, api_key_alias, status,
           calls, unpriced, prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, spend
    FROM llmlog.spend_hourly
    WHERE hour >= (SELECT until FROM folded) AND hour < CAST(:last_hour AS timestamptz)
    UNION ALL
    SELECT start_time, model, response_model, provider, team_id, team_alias, user_id, api_key, api_key_alias, status,
           1 AS calls, CASE WHEN status = 'success' AND spend IS NULL THEN 1 ELSE 0 END AS unpriced,
           prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, spend
    FROM llmlog.spend_logs
    WHERE start_time >= CAST(:since AS timestamptz) AND start_time < CAST(:first_hour AS timestamptz)
    UNION ALL
    SELECT start_time, model, response_model, provider, team_id, team_alias, user_id, api_key, api_key_alias, status,
           1 AS calls, CASE WHEN status = 'success' AND spend IS NULL THEN 1 ELSE 0 END AS unpriced,
           prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, spend
    FROM llmlog.spend_logs
    WHERE start_time >= CAST(:last_hour AS timestamptz) AND start_time < CAST(:until AS timestamptz)
) AS summed,
LATERAL (
    -- A day is written out once for its group: for every line it would take as long as all the rest.
    SELECT CASE CAST(:by AS text)
               WHEN 'model' THEN model
               WHEN 'provider' THEN provider
               WHEN 'team' THEN team_id
               WHEN 'user' THEN user_id
               WHEN 'key' THEN api_key
           END AS name_of,
           CASE WHEN CAST(:by AS text) = 'day' THEN CAST(start_time AT TIME ZONE 'UTC' AS date) END AS day_of
) AS grouped
WHERE (CAST(:model AS text) IS NULL OR model = :model OR response_model = :model)
  AND (CAST(:provider AS text) IS NULL OR provider = :provider)
  AND (CAST(:status AS text) IS NULL OR status = :status)
  AND (CAST(:user_id AS text) IS NULL OR user_id = :user_id)
  AND (CAST(:team AS text) IS NULL OR team_id = :team OR team_alias = :team)
  AND (CAST(:api_key AS text) IS NULL OR api_key = :api_key OR api_key_alias = :api_key)
GROUP BY name_of, day_of
ORDER BY day_of DESC NULLS LAST, sum(spend) DESC NULLS LAST, sum(calls) DESC, 1
LIMIT :limit
