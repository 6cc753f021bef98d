-- Lines of spend_hourly that are there need no names to be added to.
--
-- Safe on a big table: no row is read or rewritten; writers wait a moment for the lock under which spend_hourly gets a
-- trigger, which runs only when a line without names would be made. Writers of the versions before send all names, as ever.

-- Nearly all of what writers send are names that stand in the table already. Who knows that a line is there sends its key
-- alone, with this for a status; if it is not there, the transaction fails, and is made again with all names. A trigger,
-- because constraints are looked at before it is known whether the line is found.
CREATE FUNCTION llmlog.refuse_unnamed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE no_data_found USING MESSAGE = 'a line of spend_hourly was expected to be there';
END;
$$;

CREATE TRIGGER refuse_unnamed AFTER INSERT ON llmlog.spend_hourly
FOR EACH ROW WHEN (new.status = 'known') EXECUTE FUNCTION llmlog.refuse_unnamed();

COMMENT ON TYPE llmlog.hour_sums IS 'What newly stored rows add to a line of spend_hourly. With status "known" the names are left out: the line is there.';

-- As in 0007, but days get their names from the lines of their hours.
CREATE OR REPLACE FUNCTION llmlog.add_to_rollups(
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
