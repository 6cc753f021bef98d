-- Sums come to the database as lines, not as columns.
--
-- Safe on a big table: no table is touched; it creates two types and functions beside those that are there. Writers of the
-- version before go on with theirs, which take an array for each column, and now hand them over as lines.

-- Beside the tables, which may get columns one day: what writers send then stays as it is.
CREATE TYPE llmlog.hour_sums AS (
    hour timestamptz, key uuid, model text, response_model text, provider text, team_id text, team_alias text,
    organization_id text, user_id text, api_key text, api_key_alias text, status text, calls bigint, unpriced bigint,
    prompt_tokens bigint, completion_tokens bigint, total_tokens bigint, cache_read_tokens bigint,
    cache_creation_tokens bigint, reasoning_tokens bigint, spend numeric
);

CREATE TYPE llmlog.session_sums AS (
    session_id text, first_start timestamptz, last_start timestamptz, last_end timestamptz, calls bigint, failures bigint,
    unpriced bigint, cache_hits bigint, prompt_tokens bigint, completion_tokens bigint, total_tokens bigint,
    cache_read_tokens bigint, cache_creation_tokens bigint, reasoning_tokens bigint, spend numeric,
    last_model text, last_user_id text, last_team_id text, last_end_user text
);

COMMENT ON TYPE llmlog.hour_sums IS 'What newly stored rows add to a line of spend_hourly.';
COMMENT ON TYPE llmlog.session_sums IS 'What newly stored rows add to a line of session_totals.';

-- One array to read and to expand instead of forty: half of what adding a line costs. Else as in 0002.
CREATE FUNCTION llmlog.add_to_rollups(
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    folded timestamptz;
BEGIN
    INSERT INTO llmlog.spend_hourly AS kept
    SELECT * FROM unnest($1) d ORDER BY d.hour, d.key
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
    IF (SELECT min(d.hour) FROM unnest($1) d) < folded THEN
        INSERT INTO llmlog.spend_daily AS kept
        SELECT date_trunc('day', d.hour, 'UTC'), d.key, d.model, d.response_model, d.provider, d.team_id, d.team_alias,
               d.organization_id, d.user_id, d.api_key, d.api_key_alias, d.status, sum(d.calls), sum(d.unpriced),
               sum(d.prompt_tokens), sum(d.completion_tokens), sum(d.total_tokens), sum(d.cache_read_tokens),
               sum(d.cache_creation_tokens), sum(d.reasoning_tokens), sum(d.spend)
        FROM unnest($1) d
        WHERE d.hour < folded
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
    SELECT * FROM unnest($2) d ORDER BY d.session_id
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

COMMENT ON FUNCTION llmlog.add_to_rollups(llmlog.hour_sums[], llmlog.session_sums[]) IS 'Adds the sums of newly stored rows to spend_hourly and session_totals. Each key at most once in a call.';

-- Sessions that calls have left: as in 0003 and 0005, once for both. Their lines are locked by who calls it.
CREATE FUNCTION llmlog.correct_deserted(deserted text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF deserted IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM llmlog.session_totals WHERE session_id = ANY (deserted) AND calls <= 0;
    -- Times and names cannot be subtracted. Where rows are gone they stay as they were.
    UPDATE llmlog.session_totals t
    SET first_start = r.first_start, last_start = r.last_start, last_end = r.last_end, spend = r.spend,
        last_model = r.model, last_user_id = r.user_id, last_team_id = r.team_id, last_end_user = r.end_user
    FROM (
        SELECT l.session_id, min(l.start_time) AS first_start, max(l.start_time) AS last_start, max(l.end_time) AS last_end,
               sum(l.spend) AS spend, (array_agg(l.model ORDER BY l.start_time DESC))[1] AS model,
               (array_agg(l.user_id ORDER BY l.start_time DESC))[1] AS user_id,
               (array_agg(l.team_id ORDER BY l.start_time DESC))[1] AS team_id,
               (array_agg(l.end_user ORDER BY l.start_time DESC))[1] AS end_user
        FROM llmlog.spend_logs l
        WHERE l.session_id = ANY (deserted)
        GROUP BY l.session_id
    ) r
    WHERE t.session_id = r.session_id
      AND t.first_start >= (SELECT kept_since FROM llmlog.maintenance WHERE task = 'retention');
END;
$$;

COMMENT ON FUNCTION llmlog.correct_deserted IS 'Removes the totals of sessions that have no call any more, and tells those of others anew from their rows.';

-- As in 0003; where no call changes its session, which is nearly always, nothing is put together anew.
CREATE FUNCTION llmlog.add_calls(
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], chain_session_id text[],
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moved    llmlog.session_totals[];
    deserted text[];
BEGIN
    SELECT array_agg(CAST(m AS llmlog.session_totals)) INTO moved FROM llmlog.join_chains($1, $2, $3, $4, $5, $6, $7) m;

    IF moved IS NULL THEN
        PERFORM llmlog.add_to_rollups($8, $9);
        RETURN;
    END IF;
    -- Together with the sums that were given, so that each line is locked once, in the one order of all writers.
    PERFORM llmlog.add_to_rollups($8, array_agg(CAST(s AS llmlog.session_sums)))
    FROM (
        SELECT g.session_id, min(g.first_start), max(g.last_start), max(g.last_end), CAST(sum(g.calls) AS bigint),
               CAST(sum(g.failures) AS bigint), CAST(sum(g.unpriced) AS bigint), CAST(sum(g.cache_hits) AS bigint),
               CAST(sum(g.prompt_tokens) AS bigint), CAST(sum(g.completion_tokens) AS bigint),
               CAST(sum(g.total_tokens) AS bigint), CAST(sum(g.cache_read_tokens) AS bigint),
               CAST(sum(g.cache_creation_tokens) AS bigint), CAST(sum(g.reasoning_tokens) AS bigint), sum(g.spend),
               (array_agg(g.last_model ORDER BY g.last_start DESC))[1], (array_agg(g.last_user_id ORDER BY g.last_start DESC))[1],
               (array_agg(g.last_team_id ORDER BY g.last_start DESC))[1], (array_agg(g.last_end_user ORDER BY g.last_start DESC))[1]
        FROM (
            SELECT * FROM unnest(moved)
            UNION ALL
            SELECT * FROM unnest($9)
        ) g (session_id, first_start, last_start, last_end, calls, failures, unpriced, cache_hits, prompt_tokens,
             completion_tokens, total_tokens, cache_read_tokens, cache_creation_tokens, reasoning_tokens, spend,
             last_model, last_user_id, last_team_id, last_end_user)
        GROUP BY g.session_id
    ) s;

    -- Sessions that calls have left. Their lines are locked already, by the sums above.
    SELECT array_agg(DISTINCT m.session_id) INTO deserted FROM unnest(moved) m WHERE m.calls < 0;
    PERFORM llmlog.correct_deserted(deserted);
END;
$$;

-- As in 0005, in the same way.
CREATE FUNCTION llmlog.add_described(
    described_start_time timestamptz[], described_trace_id text[], described_span_id text[], described_parent_span_id text[],
    described_response_id text[], described_end_time timestamptz[], described_model text[], described_beside int[],
    described_rank int[],
    own_start_time timestamptz[], own_trace_id text[], own_span_id text[], own_parent_span_id text[], own_response_id text[],
    own_model text[],
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], chain_session_id text[],
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    changed  llmlog.changed_call[];
    hourly   llmlog.hour_sums[];
    totals   llmlog.session_sums[];
    deserted text[];
    folded   timestamptz;
BEGIN
    SELECT array_agg(CAST(s AS llmlog.changed_call)) INTO changed
    FROM llmlog.settle_described($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) s;

    IF changed IS NULL THEN
        PERFORM llmlog.add_calls($16, $17, $18, $19, $20, $21, $22, $23, $24);
        RETURN;
    END IF;

    -- Together with the sums that were given, so that each line is locked once, in the one order of all writers.
    SELECT array_agg(CAST(h AS llmlog.hour_sums)) INTO hourly
    FROM (
        SELECT g.hour, g.key, g.model, g.response_model, g.provider, g.team_id, g.team_alias, g.organization_id, g.user_id,
               g.api_key, g.api_key_alias, g.status, CAST(sum(g.calls) AS bigint), CAST(sum(g.unpriced) AS bigint),
               CAST(sum(g.t1) AS bigint), CAST(sum(g.t2) AS bigint), CAST(sum(g.t3) AS bigint), CAST(sum(g.t4) AS bigint),
               CAST(sum(g.t5) AS bigint), CAST(sum(g.t6) AS bigint), sum(g.spend)
        FROM (
            SELECT * FROM unnest($23)
            UNION ALL
            SELECT date_trunc('hour', c.start_time, 'UTC'),
                   llmlog.spend_hourly_key(c.model, c.response_model, c.provider, c.team_id, c.team_alias, c.organization_id,
                                           c.user_id, c.api_key, c.api_key_alias, c.status),
                   c.model, c.response_model, c.provider, c.team_id, c.team_alias, c.organization_id, c.user_id, c.api_key,
                   c.api_key_alias, c.status, c.n, CASE WHEN c.status = 'success' AND c.spend IS NULL THEN c.n ELSE 0 END,
                   c.n * c.prompt_tokens, c.n * c.completion_tokens, c.n * c.total_tokens, c.n * c.cache_read_tokens,
                   c.n * c.cache_creation_tokens, c.n * c.reasoning_tokens, c.n * c.spend
            FROM (SELECT x.n, (x.call).* FROM unnest(changed) x) c
        ) g (hour, key, model, response_model, provider, team_id, team_alias, organization_id, user_id, api_key,
             api_key_alias, status, calls, unpriced, t1, t2, t3, t4, t5, t6, spend)
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    ) h;
    SELECT array_agg(CAST(t AS llmlog.session_sums)) INTO totals
    FROM (
        SELECT g.session_id, min(g.first_start), max(g.last_start), max(g.last_end), CAST(sum(g.calls) AS bigint),
               CAST(sum(g.failures) AS bigint), CAST(sum(g.unpriced) AS bigint), CAST(sum(g.cache_hits) AS bigint),
               CAST(sum(g.t1) AS bigint), CAST(sum(g.t2) AS bigint), CAST(sum(g.t3) AS bigint), CAST(sum(g.t4) AS bigint),
               CAST(sum(g.t5) AS bigint), CAST(sum(g.t6) AS bigint), sum(g.spend),
               (array_agg(g.last_model ORDER BY g.last_start DESC))[1], (array_agg(g.last_user_id ORDER BY g.last_start DESC))[1],
               (array_agg(g.last_team_id ORDER BY g.last_start DESC))[1], (array_agg(g.last_end_user ORDER BY g.last_start DESC))[1]
        FROM (
            SELECT * FROM unnest($24)
            UNION ALL
            SELECT c.session_id,
                   CASE c.n WHEN 1 THEN c.start_time ELSE 'infinity' END,
                   CASE c.n WHEN 1 THEN c.start_time ELSE '-infinity' END,
                   CASE c.n WHEN 1 THEN c.end_time ELSE '-infinity' END,
                   c.n, CASE c.status WHEN 'failure' THEN c.n ELSE 0 END,
                   CASE WHEN c.status = 'success' AND c.spend IS NULL THEN c.n ELSE 0 END,
                   CASE WHEN c.cache_hit THEN c.n ELSE 0 END,
                   c.n * c.prompt_tokens, c.n * c.completion_tokens, c.n * c.total_tokens, c.n * c.cache_read_tokens,
                   c.n * c.cache_creation_tokens, c.n * c.reasoning_tokens, c.n * c.spend,
                   c.model, c.user_id, c.team_id, c.end_user
            FROM (SELECT x.n, (x.call).* FROM unnest(changed) x) c
            WHERE c.session_id IS NOT NULL
        ) g (session_id, first_start, last_start, last_end, calls, failures, unpriced, cache_hits, t1, t2, t3, t4, t5, t6,
             spend, last_model, last_user_id, last_team_id, last_end_user)
        GROUP BY g.session_id
    ) t;
    PERFORM llmlog.add_calls($16, $17, $18, $19, $20, $21, $22, hourly, totals);

    -- Lines that rows have left. They are locked already, by the sums above. A sum of amounts that has become 0 may be
    -- one of none.
    DELETE FROM llmlog.spend_hourly s USING unnest(hourly) h WHERE s.hour = h.hour AND s.key = h.key AND s.calls <= 0;
    UPDATE llmlog.spend_hourly s SET spend = NULL
    FROM unnest(hourly) h
    WHERE s.hour = h.hour AND s.key = h.key AND s.spend = 0
      AND CASE s.status WHEN 'success' THEN s.calls = s.unpriced ELSE NOT EXISTS (
          SELECT FROM llmlog.spend_logs l
          WHERE l.start_time >= s.hour AND l.start_time < s.hour + interval '1 hour' AND l.status = s.status AND l.spend IS NOT NULL
            AND llmlog.spend_hourly_key(l.model, l.response_model, l.provider, l.team_id, l.team_alias, l.organization_id,
                                        l.user_id, l.api_key, l.api_key_alias, l.status) = s.key
      ) END;
    SELECT folded_until INTO folded FROM llmlog.maintenance WHERE task = 'rollups';
    IF (SELECT min(hour) FROM unnest(hourly)) < folded THEN
        DELETE FROM llmlog.spend_daily s USING unnest(hourly) h
        WHERE s.day = date_trunc('day', h.hour, 'UTC') AND s.key = h.key AND h.hour < folded AND s.calls <= 0;
        UPDATE llmlog.spend_daily s
        SET spend = (SELECT sum(o.spend) FROM llmlog.spend_hourly o WHERE o.key = s.key AND o.hour >= s.day AND o.hour < s.day + interval '1 day')
        FROM unnest(hourly) h
        WHERE s.day = date_trunc('day', h.hour, 'UTC') AND s.key = h.key AND h.hour < folded AND s.spend = 0;
    END IF;

    SELECT array_agg(DISTINCT (x.call).session_id) INTO deserted FROM unnest(changed) x WHERE x.n < 0 AND (x.call).session_id IS NOT NULL;
    PERFORM llmlog.correct_deserted(deserted);
END;
$$;

-- The functions of writers of the version before: their columns become lines, and the sums are added in one way only.
CREATE FUNCTION llmlog.hour_lines(
    hour timestamptz[], key uuid[], model text[], response_model text[], provider text[], team_id text[], team_alias text[],
    organization_id text[], user_id text[], api_key text[], api_key_alias text[], status text[], calls bigint[],
    unpriced bigint[], prompt bigint[], completion bigint[], total bigint[], cache_read bigint[],
    cache_creation bigint[], reasoning bigint[], spend numeric[]
) RETURNS llmlog.hour_sums[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(CAST(d AS llmlog.hour_sums))
    FROM (
        SELECT * FROM unnest(
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
        )
    ) d
$$;

CREATE FUNCTION llmlog.session_lines(
    session_id text[], first_start timestamptz[], last_start timestamptz[], last_end timestamptz[],
    session_calls bigint[], session_failures bigint[], session_unpriced bigint[], session_cache_hits bigint[],
    session_prompt bigint[], session_completion bigint[], session_total bigint[], session_cache_read bigint[],
    session_cache_creation bigint[], session_reasoning bigint[], session_spend numeric[],
    last_model text[], last_user_id text[], last_team_id text[], last_end_user text[]
) RETURNS llmlog.session_sums[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(CAST(d AS llmlog.session_sums))
    FROM (
        SELECT * FROM unnest(
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
        )
    ) d
$$;

COMMENT ON FUNCTION llmlog.hour_lines IS 'Sums of hours given by column, as lines.';
COMMENT ON FUNCTION llmlog.session_lines IS 'Sums of sessions given by column, as lines.';

CREATE OR REPLACE FUNCTION llmlog.add_to_rollups(
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
BEGIN
    PERFORM llmlog.add_to_rollups(
        llmlog.hour_lines(
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
        ),
        llmlog.session_lines(
            $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40
        )
    );
END;
$$;

CREATE OR REPLACE FUNCTION llmlog.add_calls(
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], chain_session_id text[],
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
BEGIN
    PERFORM llmlog.add_calls(
        $1, $2, $3, $4, $5, $6, $7,
        llmlog.hour_lines(
            $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28
        ),
        llmlog.session_lines(
            $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47
        )
    );
END;
$$;

CREATE OR REPLACE FUNCTION llmlog.add_described(
    described_start_time timestamptz[], described_trace_id text[], described_span_id text[], described_parent_span_id text[],
    described_response_id text[], described_end_time timestamptz[], described_model text[], described_beside int[],
    described_rank int[],
    own_start_time timestamptz[], own_trace_id text[], own_span_id text[], own_parent_span_id text[], own_response_id text[],
    own_model text[],
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], chain_session_id text[],
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
BEGIN
    PERFORM llmlog.add_described(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
        llmlog.hour_lines(
            $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42,
            $43
        ),
        llmlog.session_lines(
            $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, $62
        )
    );
END;
$$;
