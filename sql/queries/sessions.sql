-- sessions --
-- Sessions that pass every filter given (NULL: no filter), the first ones by the order asked for. Sorted and cut before
-- models and the like are looked up, so that this happens for the lines that are shown.
WITH listed AS MATERIALIZED (
    SELECT t.session_id, row_number() OVER () AS place
    FROM (
        SELECT t.*
        FROM llmlog.session_totals t
        WHERE (CAST(:since AS timestamptz) IS NULL OR t.last_start >= :since)
          AND (CAST(:until AS timestamptz) IS NULL OR t.first_start < :until)
          AND (CAST(:session_id AS text) IS NULL OR t.session_id = :session_id)
          AND (CAST(:status AS text) IS NULL OR (t.failures > 0) = (:status = 'failure'))
          AND (CAST(:min_cost AS numeric) IS NULL OR t.spend >= :min_cost)
          AND (coalesce(:model, :provider, :user_id, :team, :tag, :end_user, :api_key, :trace_id) IS NULL OR EXISTS (
              SELECT FROM llmlog.spend_logs l
              WHERE l.session_id = t.session_id AND l.start_time >= t.first_start AND l.start_time <= t.last_start
                AND (CAST(:model AS text) IS NULL OR l.model = :model OR l.response_model = :model)
                AND (CAST(:provider AS text) IS NULL OR l.provider = :provider)
                AND (CAST(:user_id AS text) IS NULL OR l.user_id = :user_id)
                AND (CAST(:team AS text) IS NULL OR l.team_id = :team OR l.team_alias = :team)
                AND (CAST(:tag AS text) IS NULL OR :tag = ANY (l.request_tags))
                AND (CAST(:end_user AS text) IS NULL OR l.end_user = :end_user)
                AND (CAST(:api_key AS text) IS NULL OR l.api_key = :api_key OR l.api_key_alias = :api_key)
                AND (CAST(:trace_id AS text) IS NULL OR l.trace_id = :trace_id)
          ))
        ORDER BY CASE CAST(:sort AS text) WHEN 'spend' THEN t.spend WHEN 'calls' THEN t.calls END DESC NULLS LAST,
                 t.last_start DESC, t.session_id
        LIMIT :limit
    ) t
)
SELECT s.*
FROM listed
CROSS JOIN LATERAL (SELECT * FROM llmlog.sessions s WHERE s.session_id = listed.session_id) s
ORDER BY listed.place

-- session_calls --
-- The calls of a session in order, with what is kept of their contents. A first call that has not joined yet, because
-- what follows it is not stored, is found by its response.
WITH extent AS MATERIALIZED (
    SELECT first_start, last_start FROM llmlog.session_totals WHERE session_id = :id
)
SELECT l.*, c.messages, c.response
FROM (
    SELECT l.*
    FROM llmlog.spend_logs l
    WHERE l.session_id = :id
      AND l.start_time >= (SELECT first_start FROM extent) AND l.start_time <= (SELECT last_start FROM extent)
    UNION ALL
    SELECT l.*
    FROM llmlog.chain_links k
    JOIN llmlog.spend_logs l USING (start_time, trace_id, span_id)
    WHERE k.response_id = :id AND k.session_id IS NULL
) l
LEFT JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id)
ORDER BY l.start_time, l.trace_id, l.span_id

-- chain_calls --
-- The call with this response id and all calls it follows, with what is kept of their contents.
WITH RECURSIVE chain AS (
    SELECT * FROM (
        SELECT k.start_time, k.trace_id, k.span_id, k.response_id, k.previous_id
        FROM llmlog.chain_links k
        WHERE k.response_id = :id
        ORDER BY k.start_time, k.trace_id, k.span_id
        LIMIT 1
    ) last
    UNION
    SELECT k.*
    FROM chain
    CROSS JOIN LATERAL (
        SELECT k.start_time, k.trace_id, k.span_id, k.response_id, k.previous_id
        FROM llmlog.chain_links k
        WHERE k.response_id = chain.previous_id
        ORDER BY k.start_time, k.trace_id, k.span_id
        LIMIT 1
    ) k
)
SELECT l.*, c.messages, c.response
FROM chain
JOIN llmlog.spend_logs l USING (start_time, trace_id, span_id)
LEFT JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id)

-- chains_kept --
-- Whether the tables are there: before the first row of a new database they may not be.
SELECT to_regclass('llmlog.chain_links') IS NOT NULL AS kept
