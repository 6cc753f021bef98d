-- Request logs and their contents, partitioned by day.
--
-- Safe on a big table: it only creates things that were not there, so it waits for nothing and rewrites nothing.
-- Run it as the role that shall own the tables. It needs CREATE on the database, nothing else.

CREATE TABLE llmlog.spend_logs (
    trace_id              text        NOT NULL,
    span_id               text        NOT NULL,
    parent_span_id        text,
    request_id            text        NOT NULL,
    call_id               text        NOT NULL,
    session_id            text,
    previous_response_id  text,
    call_type             text        NOT NULL,
    status                text        NOT NULL CHECK (status IN ('success', 'failure')),
    start_time            timestamptz NOT NULL,
    end_time              timestamptz NOT NULL,
    completion_start_time timestamptz,
    request_duration_ms   bigint      NOT NULL,
    model                 text,
    response_model        text,
    model_group           text,
    model_id              text,
    provider              text,
    api_base              text,
    spend                 numeric,
    saved_cache_cost      numeric     NOT NULL DEFAULT 0,
    prompt_tokens         bigint      NOT NULL DEFAULT 0,
    completion_tokens     bigint      NOT NULL DEFAULT 0,
    total_tokens          bigint      NOT NULL DEFAULT 0,
    cache_read_tokens     bigint      NOT NULL DEFAULT 0,
    cache_creation_tokens bigint      NOT NULL DEFAULT 0,
    reasoning_tokens      bigint      NOT NULL DEFAULT 0,
    cost_source           text,
    price_version         text,
    cost_breakdown        jsonb,
    api_key               text,
    api_key_alias         text,
    user_id               text,
    team_id               text,
    team_alias            text,
    organization_id       text,
    end_user              text,
    requester_ip_address  text,
    user_agent            text,
    cache_hit             boolean,
    cache_key             text,
    request_tags          text[]      NOT NULL DEFAULT '{}',
    error_class           text,
    error_code            text,
    error_str             text,
    service_name          text,
    stream                boolean,
    model_parameters      jsonb,
    hidden_params         jsonb       NOT NULL DEFAULT '{}',
    metadata              jsonb       NOT NULL DEFAULT '{}',
    created_at            timestamptz NOT NULL DEFAULT now(),
    -- Serves "newest first" too, and keeps inserts at the right edge of the index.
    PRIMARY KEY (start_time, trace_id, span_id)
) PARTITION BY RANGE (start_time);

COMMENT ON TABLE llmlog.spend_logs IS 'One row for each LLM request on the wire, success or failure.';
COMMENT ON COLUMN llmlog.spend_logs.trace_id IS 'Trace of the span, 32 hex digits. With span_id and start_time it names the row: a second delivery changes nothing.';
COMMENT ON COLUMN llmlog.spend_logs.request_id IS 'The response id the provider gave, else call_id. Not unique: providers repeat ids.';
COMMENT ON COLUMN llmlog.spend_logs.call_id IS 'Names this one wire request; retries have their own.';
COMMENT ON COLUMN llmlog.spend_logs.start_time IS 'When the request went out, to the microsecond. Partition key, by day in UTC.';
COMMENT ON COLUMN llmlog.spend_logs.completion_start_time IS 'When the first token arrived; NULL when none did.';
COMMENT ON COLUMN llmlog.spend_logs.request_duration_ms IS 'end_time - start_time in milliseconds, never negative.';
COMMENT ON COLUMN llmlog.spend_logs.model IS 'Model name as the caller sent it.';
COMMENT ON COLUMN llmlog.spend_logs.response_model IS 'Model name as the provider answered it.';
COMMENT ON COLUMN llmlog.spend_logs.spend IS 'US dollars, exact. NULL: no price is known, which is not the same as 0.';
COMMENT ON COLUMN llmlog.spend_logs.saved_cache_cost IS 'US dollars that a cache hit saved.';
COMMENT ON COLUMN llmlog.spend_logs.prompt_tokens IS 'All input tokens, cache reads and writes included.';
COMMENT ON COLUMN llmlog.spend_logs.completion_tokens IS 'All output tokens, reasoning included.';
COMMENT ON COLUMN llmlog.spend_logs.cache_read_tokens IS 'Part of prompt_tokens.';
COMMENT ON COLUMN llmlog.spend_logs.cache_creation_tokens IS 'Part of prompt_tokens.';
COMMENT ON COLUMN llmlog.spend_logs.reasoning_tokens IS 'Part of completion_tokens.';
COMMENT ON COLUMN llmlog.spend_logs.cost_source IS 'Who counted and who priced, such as genai-prices or tiktoken+price_map.';
COMMENT ON COLUMN llmlog.spend_logs.api_key IS 'SHA-256 of the key, hex. Never the key.';
COMMENT ON COLUMN llmlog.spend_logs.hidden_params IS 'What the transport knew: deployment, base URL, rate limits.';
COMMENT ON COLUMN llmlog.spend_logs.metadata IS 'Every field of the payload that has no column of its own.';
COMMENT ON COLUMN llmlog.spend_logs.created_at IS 'When the transaction that wrote the row began.';

CREATE TABLE llmlog.spend_log_contents (
    trace_id   text        NOT NULL,
    span_id    text        NOT NULL,
    start_time timestamptz NOT NULL,
    messages   jsonb,
    response   jsonb,
    PRIMARY KEY (start_time, trace_id, span_id)
) PARTITION BY RANGE (start_time);

COMMENT ON TABLE llmlog.spend_log_contents IS 'What was asked and answered, for calls whose content is kept. Same key as spend_logs, own retention.';

-- The key and these four are all: each further index costs every insert. NULLs are left out where most rows have them.
CREATE INDEX spend_logs_request_id ON llmlog.spend_logs (request_id);
CREATE INDEX spend_logs_session_id ON llmlog.spend_logs (session_id, start_time) WHERE session_id IS NOT NULL;
CREATE INDEX spend_logs_user_id ON llmlog.spend_logs (user_id, start_time) WHERE user_id IS NOT NULL;
CREATE INDEX spend_logs_team_id ON llmlog.spend_logs (team_id, start_time) WHERE team_id IS NOT NULL;

-- Rows of days without a partition of their own: no time a caller sends can make an insert fail.
CREATE TABLE llmlog.spend_logs_default PARTITION OF llmlog.spend_logs DEFAULT;
CREATE TABLE llmlog.spend_log_contents_default PARTITION OF llmlog.spend_log_contents DEFAULT;

-- SECURITY DEFINER: a role that may only insert still gets today's partition.
CREATE FUNCTION llmlog.ensure_partition(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    child  text;
    since  timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until  timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    taken  boolean;
    ready  boolean := true;
BEGIN
    -- Writers that meet a new day together make its partition once.
    PERFORM pg_advisory_xact_lock(hashtextextended('llmlog.ensure_partition', 0));
    FOREACH parent IN ARRAY ARRAY['spend_logs', 'spend_log_contents'] LOOP
        child := parent || to_char(day, '"_"YYYYMMDD');
        CONTINUE WHEN to_regclass(format('llmlog.%I', child)) IS NOT NULL;
        EXECUTE format('SELECT EXISTS (SELECT FROM llmlog.%I WHERE start_time >= $1 AND start_time < $2)', parent || '_default')
            INTO taken USING since, until;
        IF taken THEN
            ready := false;
            CONTINUE;
        END IF;
        BEGIN
            -- Created apart and attached: PARTITION OF would lock the parent against every reader and writer.
            EXECUTE format('CREATE TABLE llmlog.%I (LIKE llmlog.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', child, parent);
            EXECUTE format('ALTER TABLE llmlog.%I ATTACH PARTITION llmlog.%I FOR VALUES FROM (%L) TO (%L)', parent, child, since, until);
        EXCEPTION WHEN check_violation THEN
            -- A row of that day reached the default partition between the look and the lock.
            ready := false;
        END;
    END LOOP;
    RETURN ready;
END;
$$;

COMMENT ON FUNCTION llmlog.ensure_partition(date) IS 'Makes the partitions of a day (UTC) in both tables. False: rows of that day are in the default partition already, and go on there.';
