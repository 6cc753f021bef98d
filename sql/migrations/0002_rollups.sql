-- Sums kept beside the rows, what could not be stored, and what maintenance has done.
--
-- Safe on a big table: no table is rewritten and readers never wait. Writers wait while the rows that are there are
-- summed up once, about a second for each 200,000 rows; what they hold is tried again, nothing is lost. Writers of the
-- version before may go on afterwards, but do not keep the sums: `llmlog db check --repair` puts those right.

-- `key` is what makes a line unique: names may be NULL, and longer than an index takes. All that `llmlog spend` groups
-- and filters by is part of it but tags, end users and sessions: those have nearly as many values as there are rows.
CREATE TABLE llmlog.spend_hourly (
    hour                  timestamptz NOT NULL,
    key                   uuid        NOT NULL,
    model                 text,
    response_model        text,
    provider              text,
    team_id               text,
    team_alias            text,
    organization_id       text,
    user_id               text,
    api_key               text,
    api_key_alias         text,
    status                text        NOT NULL,
    calls                 bigint      NOT NULL,
    unpriced              bigint      NOT NULL,
    prompt_tokens         bigint      NOT NULL,
    completion_tokens     bigint      NOT NULL,
    total_tokens          bigint      NOT NULL,
    cache_read_tokens     bigint      NOT NULL,
    cache_creation_tokens bigint      NOT NULL,
    reasoning_tokens      bigint      NOT NULL,
    spend                 numeric,
    PRIMARY KEY (hour, key)
-- Room in each page, and no index on what changes: an update stays in its page and leaves the index alone.
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE llmlog.spend_hourly IS 'Calls summed up by hour (UTC) and by who, what and how it ended. Kept in the transaction that stores the rows; outlives them.';
COMMENT ON COLUMN llmlog.spend_hourly.key IS 'The names and the status in short: see llmlog.spend_hourly_key.';
COMMENT ON COLUMN llmlog.spend_hourly.unpriced IS 'Successful calls that are not in spend because no price is known.';
COMMENT ON COLUMN llmlog.spend_hourly.spend IS 'US dollars, exact. NULL: none of the calls has a price.';

-- Hours of past days, folded: a long time is answered from a twentieth of the lines. Written once a day instead of with
-- every batch, so it costs writers nothing.
CREATE TABLE llmlog.spend_daily (LIKE llmlog.spend_hourly INCLUDING ALL) WITH (fillfactor = 90);
ALTER TABLE llmlog.spend_daily RENAME COLUMN hour TO day;

COMMENT ON TABLE llmlog.spend_daily IS 'spend_hourly summed up by day (UTC), for days before maintenance.folded_until. Outlives the rows, too.';

CREATE TABLE llmlog.session_totals (
    session_id            text        PRIMARY KEY,
    first_start           timestamptz NOT NULL,
    last_start            timestamptz NOT NULL,
    last_end              timestamptz NOT NULL,
    calls                 bigint      NOT NULL,
    failures              bigint      NOT NULL,
    unpriced              bigint      NOT NULL,
    cache_hits            bigint      NOT NULL,
    prompt_tokens         bigint      NOT NULL,
    completion_tokens     bigint      NOT NULL,
    total_tokens          bigint      NOT NULL,
    cache_read_tokens     bigint      NOT NULL,
    cache_creation_tokens bigint      NOT NULL,
    reasoning_tokens      bigint      NOT NULL,
    spend                 numeric,
    last_model            text,
    last_user_id          text,
    last_team_id          text,
    last_end_user         text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE llmlog.session_totals IS 'Calls summed up by session. Kept in the transaction that stores the rows; outlives them.';
COMMENT ON COLUMN llmlog.session_totals.last_model IS 'Model of the call that began last; so with user, team and end user.';
COMMENT ON COLUMN llmlog.session_totals.spend IS 'US dollars, exact. NULL: none of the calls has a price.';

CREATE FUNCTION llmlog.spend_hourly_key(
    model text, response_model text, provider text, team_id text, team_alias text, organization_id text,
    user_id text, api_key text, api_key_alias text, status text
) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CAST(left(encode(sha256(convert_to(CAST(array_to_json(ARRAY[
        model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key, api_key_alias, status
    ]) AS text), 'UTF8')), 'hex'), 32) AS uuid)
$$;

COMMENT ON FUNCTION llmlog.spend_hourly_key IS 'What a line of spend_hourly is found by within its hour: half a SHA-256 of the names and the status as a JSON array.';

-- SECURITY DEFINER: a role that may only insert keeps the sums too, and cannot change them in any other way.
-- One order of keys for all writers, the table before the other: they wait for each other, never in a circle.
CREATE FUNCTION llmlog.add_to_rollups(
    hour timestamptz[], key uuid[], model text[], response_model text[], provider text[], team_id text[], team_alias text[],
    organization_id text[], user_id text[], api_key text[], api_key_alias text[], status text[], calls bigint[],
    unpriced bigint[], prompt bigint[], completion bigint[], total bigint[], cache_read bigint[],
    cache_creation bigint[], reasoning bigint[], spend numeric[],
    session_id text[], first_start timestamptz[], last_start timestamptz[], last_end timestamptz[],
    session_calls bigint[], session_failures bigint[], session_unpriced bigint[], session_cache_hits bigint[],
    session_prompt bigint[], session_completion bigint[], session_total bigint[], session_cache_read bigint[],
    session_cache_creation bigint[], session_reasoning bigint[], session_spend numeric[],
    last_model text[], last_user_id text[], last_team_id text[], last_end_user text[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    folded timestamptz;
BEGIN
    INSERT INTO llmlog.spend_hourly AS kept
    SELECT *
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
        AS d (h, k)
    ORDER BY d.h, d.k
    ON CONFLICT (hour, key) DO UPDATE SET
        calls = kept.calls + excluded.calls,
        unpriced = kept.unpriced + excluded.unpriced,
        prompt_tokens = kept.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = kept.completion_tokens + excluded.completion_tokens,
        total_tokens = kept.total_tokens + excluded.total_tokens,
        cache_read_tokens = kept.cache_read_tokens + excluded.cache_read_tokens,
        cache_creation_tokens = kept.cache_creation_tokens + excluded.cache_creation_tokens,
        reasoning_tokens = kept.reasoning_tokens + excluded.reasoning_tokens,
        spend = coalesce(kept.spend + excluded.spend, kept.spend, excluded.spend);

    -- Late rows, of days that are folded. Read after the lock that the statement above took on spend_hourly: whoever
    -- folds has either committed, and is seen here, or waits for this transaction, and sees what it added.
    SELECT folded_until INTO folded FROM llmlog.maintenance WHERE task = 'rollups';
    IF (SELECT min(h) FROM unnest($1) h) < folded THEN
        INSERT INTO llmlog.spend_daily AS kept
        SELECT date_trunc('day', d.h, 'UTC'), d.k, d.m, d.rm, d.p, d.t, d.ta, d.o, d.u, d.a, d.aa, d.st, sum(d.n), sum(d.x),
               sum(d.n1), sum(d.n2), sum(d.n3), sum(d.n4), sum(d.n5), sum(d.n6), sum(d.s)
        FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
            AS d (h, k, m, rm, p, t, ta, o, u, a, aa, st, n, x, n1, n2, n3, n4, n5, n6, s)
        WHERE d.h < folded
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
        ORDER BY 1, 2
        ON CONFLICT (day, key) DO UPDATE SET
            calls = kept.calls + excluded.calls,
            unpriced = kept.unpriced + excluded.unpriced,
            prompt_tokens = kept.prompt_tokens + excluded.prompt_tokens,
            completion_tokens = kept.completion_tokens + excluded.completion_tokens,
            total_tokens = kept.total_tokens + excluded.total_tokens,
            cache_read_tokens = kept.cache_read_tokens + excluded.cache_read_tokens,
            cache_creation_tokens = kept.cache_creation_tokens + excluded.cache_creation_tokens,
            reasoning_tokens = kept.reasoning_tokens + excluded.reasoning_tokens,
            spend = coalesce(kept.spend + excluded.spend, kept.spend, excluded.spend);
    END IF;

    INSERT INTO llmlog.session_totals AS kept
    SELECT *
    FROM unnest($22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40)
        AS d (id)
    ORDER BY d.id
    ON CONFLICT (session_id) DO UPDATE SET
        first_start = least(kept.first_start, excluded.first_start),
        last_start = greatest(kept.last_start, excluded.last_start),
        last_end = greatest(kept.last_end, excluded.last_end),
        calls = kept.calls + excluded.calls,
        failures = kept.failures + excluded.failures,
        unpriced = kept.unpriced + excluded.unpriced,
        cache_hits = kept.cache_hits + excluded.cache_hits,
        prompt_tokens = kept.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = kept.completion_tokens + excluded.completion_tokens,
        total_tokens = kept.total_tokens + excluded.total_tokens,
        cache_read_tokens = kept.cache_read_tokens + excluded.cache_read_tokens,
        cache_creation_tokens = kept.cache_creation_tokens + excluded.cache_creation_tokens,
        reasoning_tokens = kept.reasoning_tokens + excluded.reasoning_tokens,
        spend = coalesce(kept.spend + excluded.spend, kept.spend, excluded.spend),
        last_model = CASE WHEN excluded.last_start >= kept.last_start THEN excluded.last_model ELSE kept.last_model END,
        last_user_id = CASE WHEN excluded.last_start >= kept.last_start THEN excluded.last_user_id ELSE kept.last_user_id END,
        last_team_id = CASE WHEN excluded.last_start >= kept.last_start THEN excluded.last_team_id ELSE kept.last_team_id END,
        last_end_user = CASE WHEN excluded.last_start >= kept.last_start THEN excluded.last_end_user ELSE kept.last_end_user END;
END;
$$;

COMMENT ON FUNCTION llmlog.add_to_rollups IS 'Adds the sums of newly stored rows to spend_hourly and session_totals. Each key at most once in a call.';

-- What the rows say the sums should be. The parameter is the start of the first hour that is summed up.
CREATE FUNCTION llmlog.spend_hourly_of_rows(since timestamptz) RETURNS SETOF llmlog.spend_hourly
LANGUAGE sql STABLE AS $$
    SELECT date_trunc('hour', start_time, 'UTC'),
           llmlog.spend_hourly_key(model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key, api_key_alias, status),
           model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key, api_key_alias, status,
           count(*), count(*) FILTER (WHERE status = 'success' AND spend IS NULL),
           CAST(sum(prompt_tokens) AS bigint), CAST(sum(completion_tokens) AS bigint), CAST(sum(total_tokens) AS bigint),
           CAST(sum(cache_read_tokens) AS bigint), CAST(sum(cache_creation_tokens) AS bigint),
           CAST(sum(reasoning_tokens) AS bigint), sum(spend)
    FROM llmlog.spend_logs
    WHERE start_time >= since
    GROUP BY 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    -- In the order in which they are read.
    ORDER BY 1
$$;

CREATE FUNCTION llmlog.spend_daily_of_hours(since timestamptz, until timestamptz) RETURNS SETOF llmlog.spend_daily
LANGUAGE sql STABLE AS $$
    SELECT date_trunc('day', hour, 'UTC'), key,
           model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key, api_key_alias, status,
           CAST(sum(calls) AS bigint), CAST(sum(unpriced) AS bigint),
           CAST(sum(prompt_tokens) AS bigint), CAST(sum(completion_tokens) AS bigint), CAST(sum(total_tokens) AS bigint),
           CAST(sum(cache_read_tokens) AS bigint), CAST(sum(cache_creation_tokens) AS bigint),
           CAST(sum(reasoning_tokens) AS bigint), sum(spend)
    FROM llmlog.spend_hourly
    WHERE hour >= since AND hour < until
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    ORDER BY 1
$$;

CREATE FUNCTION llmlog.session_totals_of_rows(since timestamptz) RETURNS SETOF llmlog.session_totals
LANGUAGE sql STABLE AS $$
    SELECT session_id, min(start_time), max(start_time), max(end_time),
           count(*), count(*) FILTER (WHERE status = 'failure'), count(*) FILTER (WHERE status = 'success' AND spend IS NULL),
           count(*) FILTER (WHERE cache_hit),
           CAST(sum(prompt_tokens) AS bigint), CAST(sum(completion_tokens) AS bigint), CAST(sum(total_tokens) AS bigint),
           CAST(sum(cache_read_tokens) AS bigint), CAST(sum(cache_creation_tokens) AS bigint),
           CAST(sum(reasoning_tokens) AS bigint), sum(spend),
           (array_agg(model ORDER BY start_time DESC))[1], (array_agg(user_id ORDER BY start_time DESC))[1],
           (array_agg(team_id ORDER BY start_time DESC))[1], (array_agg(end_user ORDER BY start_time DESC))[1]
    FROM llmlog.spend_logs
    WHERE session_id IS NOT NULL AND start_time >= since
    GROUP BY session_id
$$;

COMMENT ON FUNCTION llmlog.spend_hourly_of_rows IS 'What spend_hourly should hold from this hour on, summed up from the rows.';
COMMENT ON FUNCTION llmlog.spend_daily_of_hours IS 'What spend_daily should hold of these days, summed up from spend_hourly.';
COMMENT ON FUNCTION llmlog.session_totals_of_rows IS 'What session_totals should hold of sessions that began then or later, summed up from the rows.';

-- Records that the tables refuse, for people to look at and to try again.
CREATE TABLE llmlog.dead_letters (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    trace_id   text,
    span_id    text,
    start_time timestamptz,
    reason     text        NOT NULL,
    record     jsonb       NOT NULL,
    -- A batch may be delivered twice; its dead letters are kept once.
    digest     bytea       NOT NULL UNIQUE,
    retried_at timestamptz
);

COMMENT ON TABLE llmlog.dead_letters IS 'Records that could not be stored, each with the reason. `llmlog dead-letters` lists and retries them.';
COMMENT ON COLUMN llmlog.dead_letters.record IS 'The record as it arrived, made fit for JSON. Holds content only where content is kept.';
COMMENT ON COLUMN llmlog.dead_letters.digest IS 'SHA-256 of the record.';

CREATE TABLE llmlog.maintenance (
    task         text        PRIMARY KEY,
    last_run     timestamptz,
    kept_since   timestamptz NOT NULL DEFAULT '-infinity',
    folded_until timestamptz NOT NULL DEFAULT '-infinity'
);

COMMENT ON TABLE llmlog.maintenance IS 'When a task of retention or rollups last ran to its end, whichever process did it.';
COMMENT ON COLUMN llmlog.maintenance.folded_until IS 'Days before it are in spend_daily, and whatever is added to their hours is added there.';
COMMENT ON COLUMN llmlog.maintenance.kept_since IS 'Rows that began earlier may be gone. The sums are compared with the rows from here on.';

INSERT INTO llmlog.maintenance (task) VALUES ('retention'), ('rollups');

-- SECURITY DEFINER: whichever writer is first on a new day does it.
CREATE FUNCTION llmlog.fold_rollups() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Yesterday stays open: calls of the last minutes before midnight come late.
    until timestamptz := date_trunc('day', now() - interval '1 day', 'UTC');
    since timestamptz;
BEGIN
    IF until <= (SELECT folded_until FROM llmlog.maintenance WHERE task = 'rollups') THEN
        RETURN false;
    END IF;
    -- Writers hold their lock on it from their sums to their COMMIT, a few milliseconds.
    LOCK TABLE llmlog.spend_hourly IN SHARE ROW EXCLUSIVE MODE;
    SELECT folded_until INTO since FROM llmlog.maintenance WHERE task = 'rollups';
    INSERT INTO llmlog.spend_daily SELECT * FROM llmlog.spend_daily_of_hours(since, until);
    UPDATE llmlog.maintenance SET folded_until = until, last_run = clock_timestamp()
    WHERE task = 'rollups' AND folded_until < until;
    RETURN true;
END;
$$;

COMMENT ON FUNCTION llmlog.fold_rollups() IS 'Sums spend_hourly up into spend_daily, up to the day before yesterday. False: that was done before.';

-- The rows that are there already. Nobody stores any meanwhile, or they would be summed up twice or never.
LOCK TABLE ONLY llmlog.spend_logs IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO llmlog.spend_hourly SELECT * FROM llmlog.spend_hourly_of_rows('-infinity');
INSERT INTO llmlog.session_totals SELECT * FROM llmlog.session_totals_of_rows('-infinity');
SELECT llmlog.fold_rollups();
