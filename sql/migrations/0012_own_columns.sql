-- A call that was hidden comes back to spend_logs beside columns that its user has added.
--
-- Safe on a big table: it replaces functions; no row is read and no table is locked. Writers of the versions before go on.

-- What a column computes is not given to it.
CREATE FUNCTION llmlog.show_calls(calls jsonb[]) RETURNS SETOF llmlog.spend_logs
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'INSERT INTO llmlog.spend_logs (%1$s) SELECT %1$s FROM unnest($1) c '
        'CROSS JOIN LATERAL jsonb_populate_record(CAST(NULL AS llmlog.spend_logs), c) ON CONFLICT DO NOTHING RETURNING *',
        (
            SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = CAST('llmlog.spend_logs' AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        )
    ) USING calls;
END;
$$;

COMMENT ON FUNCTION llmlog.show_calls IS 'Puts calls that were hidden into spend_logs, and answers those that were not there. For functions of llmlog.';

-- settle_described is as in 0009 but for this one statement.
DO $patch$
DECLARE
    made text := pg_get_functiondef('llmlog.settle_described'::regproc);
    old  text := $old$                INSERT INTO llmlog.spend_logs
                SELECT r.*
                FROM kept k
                LEFT JOIN llmlog.chain_links l ON l.trace_id = k.call ->> 'trace_id' AND l.span_id = k.call ->> 'span_id'
                     AND l.start_time = CAST(k.call ->> 'start_time' AS timestamptz)
                -- Its chain may have gone on without it.
                CROSS JOIN LATERAL jsonb_populate_record(CAST(NULL AS llmlog.spend_logs), k.call || CASE
                    WHEN l.span_id IS NULL THEN '{}' ELSE jsonb_build_object('session_id', l.session_id)
                END) r
                ON CONFLICT DO NOTHING
                RETURNING *
$old$;
    new  text := $new$                SELECT b.*
                FROM llmlog.show_calls(ARRAY(
                    -- Its chain may have gone on without it.
                    SELECT k.call || CASE
                        WHEN l.span_id IS NULL THEN '{}' ELSE jsonb_build_object('session_id', l.session_id)
                    END
                    FROM kept k
                    LEFT JOIN llmlog.chain_links l ON l.trace_id = k.call ->> 'trace_id' AND l.span_id = k.call ->> 'span_id'
                         AND l.start_time = CAST(k.call ->> 'start_time' AS timestamptz)
                )) b
$new$;
BEGIN
    IF strpos(made, old) = 0 THEN
        RAISE EXCEPTION 'llmlog.settle_described is not as it was made';
    END IF;
    EXECUTE replace(made, old, new);
END;
$patch$;
