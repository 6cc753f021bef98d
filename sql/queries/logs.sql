-- logs --
-- Request logs that pass every filter given (NULL: no filter), newest first, a page at a time.
SELECT *
FROM llmlog.spend_logs
WHERE (CAST(:since AS timestamptz) IS NULL OR start_time >= :since)
  AND (CAST(:until AS timestamptz) IS NULL OR start_time < :until)
  AND (CAST(:before_time AS timestamptz) IS NULL
       OR (start_time, trace_id, span_id) < (:before_time, CAST(:before_trace AS text), CAST(:before_span AS text)))
  AND (CAST(:after_time AS timestamptz) IS NULL
       OR (start_time, trace_id, span_id) > (:after_time, CAST(:after_trace AS text), CAST(:after_span AS text)))
  AND (CAST(:written_after AS timestamptz) IS NULL OR created_at > :written_after)
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
ORDER BY start_time DESC, trace_id DESC, span_id DESC
LIMIT :limit

-- log_by_request_id --
-- Calls with this response id, newest first, with what is kept of their contents. Uses an index.
SELECT l.*, c.messages, c.response
FROM llmlog.spend_logs l
LEFT JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id)
WHERE l.request_id = :id
ORDER BY l.start_time DESC, l.trace_id DESC, l.span_id DESC
LIMIT :limit

-- log_by_other_id --
-- Calls with this call, trace or span id, newest first, with contents. No index: reads from the newest row backwards.
SELECT l.*, c.messages, c.response
FROM llmlog.spend_logs l
LEFT JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id)
WHERE l.call_id = :id
   OR l.trace_id = :id
   OR l.span_id = :id
   OR l.trace_id || ':' || l.span_id = :id
ORDER BY l.start_time DESC, l.trace_id DESC, l.span_id DESC
LIMIT :limit
