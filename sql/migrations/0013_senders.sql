-- Rows tell which sender of the sink they came from; and days get their partitions although rows of theirs came early.
--
-- Safe on a big table: it adds a column without a default, which rewrites nothing and holds its lock for a moment, and
-- replaces a function. Writers of the versions before may go on: their rows have no sender.

ALTER TABLE llmlog.spend_logs ADD COLUMN sender text;

COMMENT ON COLUMN llmlog.spend_logs.sender IS 'Name of the sink''s sender whose token the call came with, set by the sink alone. Its ids carry it, too. NULL: none with a name.';

-- As in 0009, but rows of the day that are in the default partition move to its own: a clock that was wrong, or somebody
-- who meant harm, put them there, and they would keep retention and queries from that day's partition for ever.
CREATE OR REPLACE FUNCTION llmlog.make_partition(day date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- More than these would hold up the writer that meets the day: they stay.
    most    constant bigint := 100000;
    parent  text;
    child   text;
    columns text;
    since   timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until   timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    early   bigint;
    ready   boolean := true;
BEGIN
    -- Writers that meet a new day together make its partition once.
    PERFORM llmlog.take_locks('make_partition', '{0}');
    FOREACH parent IN ARRAY ARRAY['spend_logs', 'spend_log_contents'] LOOP
        child := parent || to_char(day, '"_"YYYYMMDD');
        CONTINUE WHEN to_regclass(format('llmlog.%I', child)) IS NOT NULL;
        EXECUTE format(
            'SELECT count(*) FROM (SELECT FROM llmlog.%I WHERE start_time >= $1 AND start_time < $2 LIMIT %s) r',
            parent || '_default', most + 1
        ) INTO early USING since, until;
        IF early > most THEN
            ready := false;
            CONTINUE;
        END IF;
        BEGIN
            -- Created apart and attached: PARTITION OF would lock the parent against every reader and writer. Indexes,
            -- triggers and keys come with ATTACH.
            EXECUTE format('CREATE TABLE llmlog.%I (LIKE llmlog.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)', child, parent);
            IF early > 0 THEN
                SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
                FROM pg_attribute a
                WHERE a.attrelid = to_regclass(format('llmlog.%I', parent)) AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.attgenerated = '';
                EXECUTE format(
                    'WITH early AS (DELETE FROM llmlog.%1$I WHERE start_time >= $1 AND start_time < $2 RETURNING *) '
                    'INSERT INTO llmlog.%2$I (%3$s) SELECT %3$s FROM early',
                    parent || '_default', child, columns
                ) USING since, until;
            END IF;
            EXECUTE format('ALTER TABLE llmlog.%I ATTACH PARTITION llmlog.%I FOR VALUES FROM (%L) TO (%L)', parent, child, since, until);
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE;
            WHEN check_violation THEN
                -- A row of that day reached the default partition between the look and the lock.
                ready := false;
            -- What a user has added to the table stands in the way: no reason to stop all that write.
            WHEN syntax_error_or_access_rule_violation OR integrity_constraint_violation OR feature_not_supported THEN
                RAISE WARNING 'llmlog.% is not made: %; its rows go to llmlog.%', child, SQLERRM, parent || '_default';
                ready := false;
        END;
    END LOOP;
    RETURN ready;
END;
$$;

COMMENT ON FUNCTION llmlog.make_partition(date) IS 'Makes the partitions of a day (UTC) in both tables, and moves its rows there from the default ones. False: they could not be made now, and rows of that day go to the default ones.';
