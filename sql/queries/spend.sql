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
GROUP BY g.key
ORDER BY CASE WHEN CAST(:by AS text) = 'day' THEN g.key END DESC NULLS LAST, sum(spend) DESC NULLS LAST, count(*) DESC, g.key
LIMIT :limit
