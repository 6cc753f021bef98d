-- What writers may call adds to the sums and never takes from them; nobody may call anything unasked.
--
-- Safe on a big table: it replaces functions; no row is read and no table is locked. Roles that may insert or read keep
-- the functions they need: `llmlog db upgrade` grants them in the same transaction. Writers of the version before go on.

-- As add_to_rollups in 0008. For functions of llmlog and who owns the tables: it adds whatever it is given.
CREATE FUNCTION llmlog.sum_up(
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
        SELECT date_trunc('day', d.hour, 'UTC'), d.key, h.model, h.response_model, h.provider, h.team_id, h.team_alias,
               h.organization_id, h.user_id, h.api_key, h.api_key_alias, h.status, sum(d.calls), sum(d.unpriced),
               sum(d.prompt_tokens), sum(d.completion_tokens), sum(d.total_tokens), sum(d.cache_read_tokens),
               sum(d.cache_creation_tokens), sum(d.reasoning_tokens), sum(d.spend)
        -- The names from the lines that were added to above.
        FROM unnest($1) d
        JOIN llmlog.spend_hourly h ON h.hour = d.hour AND h.key = d.key
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

COMMENT ON FUNCTION llmlog.sum_up IS 'Adds sums to spend_hourly and session_totals, or takes from them. Each key at most once in a call.';

-- As add_calls in 0007.
CREATE FUNCTION llmlog.sum_up_calls(
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], chain_session_id text[],
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moved    llmlog.session_totals[];
    deserted text[];
BEGIN
    SELECT array_agg(CAST(m AS llmlog.session_totals)) INTO moved FROM llmlog.join_chains($1, $2, $3, $4, $5, $6, $7) m;

    IF moved IS NULL THEN
        PERFORM llmlog.sum_up($8, $9);
        RETURN;
    END IF;
    -- Together with the sums that were given, so that each line is locked once, in the one order of all writers.
    PERFORM llmlog.sum_up($8, array_agg(CAST(s AS llmlog.session_sums)))
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

COMMENT ON FUNCTION llmlog.sum_up_calls IS 'As sum_up, for rows of which some belong to chains: joins these to their sessions first.';

-- What a writer says that its rows add up to: at least one call a line, nothing below 0, nothing that spoils a sum for ever.
CREATE FUNCTION llmlog.refuse_odd_sums(hours llmlog.hour_sums[], sessions llmlog.session_sums[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (
        SELECT FROM unnest(hours) d
        WHERE d.calls NOT BETWEEN 1 AND 1000000 OR NOT isfinite(d.hour) OR d.spend NOT BETWEEN 0 AND 1e60
           OR least(d.unpriced, d.prompt_tokens, d.completion_tokens, d.total_tokens, d.cache_read_tokens,
                    d.cache_creation_tokens, d.reasoning_tokens) < 0
           OR greatest(d.prompt_tokens, d.completion_tokens, d.total_tokens, d.cache_read_tokens,
                       d.cache_creation_tokens, d.reasoning_tokens) > 1000000000000000
    ) OR EXISTS (
        SELECT FROM unnest(sessions) d
        WHERE d.calls NOT BETWEEN 1 AND 1000000 OR d.spend NOT BETWEEN 0 AND 1e60
           OR NOT (isfinite(d.first_start) AND isfinite(d.last_start) AND isfinite(d.last_end))
           OR least(d.failures, d.unpriced, d.cache_hits, d.prompt_tokens, d.completion_tokens, d.total_tokens,
                    d.cache_read_tokens, d.cache_creation_tokens, d.reasoning_tokens) < 0
           OR greatest(d.prompt_tokens, d.completion_tokens, d.total_tokens, d.cache_read_tokens,
                       d.cache_creation_tokens, d.reasoning_tokens) > 1000000000000000
    ) THEN
        RAISE check_violation USING MESSAGE = 'a sum of new rows is below 0 or absurd';
    END IF;
END;
$$;

-- SECURITY DEFINER: a role that may only insert keeps the sums too, and cannot change them in any other way.
CREATE OR REPLACE FUNCTION llmlog.add_to_rollups(
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM llmlog.refuse_odd_sums($1, $2);
    PERFORM llmlog.sum_up($1, $2);
END;
$$;

CREATE OR REPLACE FUNCTION llmlog.add_calls(
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], chain_session_id text[],
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM llmlog.refuse_odd_sums($8, $9);
    PERFORM llmlog.sum_up_calls($1, $2, $3, $4, $5, $6, $7, $8, $9);
END;
$$;

-- As in 0007.
CREATE OR REPLACE FUNCTION llmlog.add_described(
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
    PERFORM llmlog.refuse_odd_sums($23, $24);
    SELECT array_agg(CAST(s AS llmlog.changed_call)) INTO changed
    FROM llmlog.settle_described($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) s;

    IF changed IS NULL THEN
        PERFORM llmlog.sum_up_calls($16, $17, $18, $19, $20, $21, $22, $23, $24);
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
    PERFORM llmlog.sum_up_calls($16, $17, $18, $19, $20, $21, $22, hourly, totals);

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

-- Postgres lets everybody call a function unless it is told otherwise. `llmlog db upgrade` says so after every later
-- migration, too.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA llmlog FROM PUBLIC;
