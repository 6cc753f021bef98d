-- No row of a writer's makes tables unreadable, and what it says of sums and chains is held against its rows and names.
--
-- Safe on a big table: no row is read (NOT VALID), and functions are replaced. Constraints and a trigger take their lock
-- for a moment. Writers of the versions before go on: they write nothing else.

-- Beyond these years no program reads a time, and beyond these numbers no sum can be made: one such row kept everybody
-- from reading and checking all others.
ALTER TABLE llmlog.spend_logs ADD CONSTRAINT within_bounds CHECK (
        start_time >= '0001-01-02 00:00+00' AND start_time < '10000-01-01 00:00+00'
        AND end_time >= '0001-01-02 00:00+00' AND end_time < '10000-01-01 00:00+00'
        AND completion_start_time >= '0001-01-02 00:00+00' AND completion_start_time < '10000-01-01 00:00+00'
        AND created_at >= '0001-01-02 00:00+00' AND created_at < '10000-01-01 00:00+00'
        AND least(prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, cache_creation_tokens, reasoning_tokens) >= 0
        AND greatest(prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, cache_creation_tokens, reasoning_tokens)
            <= 1000000000000000
        AND spend >= 0 AND spend <= 1e60 AND saved_cache_cost >= -1e60 AND saved_cache_cost <= 1e60
    ) NOT VALID;

ALTER TABLE llmlog.audit_logs ADD CONSTRAINT within_bounds CHECK (
        updated_at >= '0001-01-02 00:00+00' AND updated_at < '10000-01-01 00:00+00'
    ) NOT VALID;

ALTER TABLE llmlog.dead_letters ADD CONSTRAINT within_bounds CHECK (
        created_at >= '0001-01-02 00:00+00' AND created_at < '10000-01-01 00:00+00'
        AND start_time >= '0001-01-02 00:00+00' AND start_time < '10000-01-01 00:00+00'
        AND retried_at >= '0001-01-02 00:00+00' AND retried_at < '10000-01-01 00:00+00'
    ) NOT VALID;

-- The names of a line are those of whoever makes it. Who made it under the key of others, before they did, had their calls
-- to come booked under names of its own.
CREATE FUNCTION llmlog.refuse_misnamed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'the key of a line of spend_hourly is not that of its names';
END;
$$;

CREATE TRIGGER refuse_misnamed AFTER INSERT ON llmlog.spend_hourly
FOR EACH ROW WHEN (new.status <> 'known' AND new.key <> llmlog.spend_hourly_key(
    new.model, new.response_model, new.provider, new.team_id, new.team_alias, new.organization_id, new.user_id, new.api_key,
    new.api_key_alias, new.status
)) EXECUTE FUNCTION llmlog.refuse_misnamed();

-- Of the links that are given, those whose rows are stored and say the same. A link without a row could move calls of
-- others to another session.
CREATE FUNCTION llmlog.links_of_rows(
    INOUT start_time timestamptz[], INOUT trace_id text[], INOUT span_id text[], INOUT response_id text[],
    INOUT previous_id text[], INOUT conversation_id text[], INOUT session_id text[]
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    kept  bigint[] := '{}';
    found bigint[];
    day   timestamptz;
BEGIN
    -- A day at a time: written out, the day keeps all other partitions out of it.
    FOR day IN SELECT DISTINCT date_trunc('day', s, 'UTC') FROM unnest($1) s LOOP
        EXECUTE format($statement$
            SELECT array_agg(g.at) FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY g (s, t, p, r, f, c, x, at)
            WHERE g.s >= %1$L AND g.s < %2$L AND EXISTS (
                SELECT FROM llmlog.spend_logs s
                WHERE s.start_time >= %1$L AND s.start_time < %2$L
                  AND s.start_time = g.s AND s.trace_id = g.t AND s.span_id = g.p
                  AND nullif(s.request_id, s.call_id) IS NOT DISTINCT FROM g.r
                  AND nullif(s.previous_response_id, '') IS NOT DISTINCT FROM g.f
                  AND nullif(s.conversation_id, '') IS NOT DISTINCT FROM g.c
                  AND nullif(s.session_id, '') IS NOT DISTINCT FROM g.x
                OFFSET 0
            )
        $statement$, day, day + interval '1 day') INTO found USING $1, $2, $3, $4, $5, $6, $7;
        kept := kept || found;
    END LOOP;
    IF cardinality(kept) < cardinality(start_time) THEN
        SELECT coalesce(array_agg(start_time[i] ORDER BY i), '{}'), coalesce(array_agg(trace_id[i] ORDER BY i), '{}'),
               coalesce(array_agg(span_id[i] ORDER BY i), '{}'), coalesce(array_agg(response_id[i] ORDER BY i), '{}'),
               coalesce(array_agg(previous_id[i] ORDER BY i), '{}'), coalesce(array_agg(conversation_id[i] ORDER BY i), '{}'),
               coalesce(array_agg(session_id[i] ORDER BY i), '{}')
        INTO start_time, trace_id, span_id, response_id, previous_id, conversation_id, session_id
        FROM unnest(kept) i;
    END IF;
END;
$$;

COMMENT ON FUNCTION llmlog.links_of_rows IS 'Those of the links that are given whose rows are stored and say the same. For functions of llmlog.';

CREATE OR REPLACE FUNCTION llmlog.add_calls(
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], chain_session_id text[],
    hours llmlog.hour_sums[], sessions llmlog.session_sums[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    links record;
BEGIN
    PERFORM llmlog.refuse_odd_sums($8, $9);
    SELECT * INTO links FROM llmlog.links_of_rows($1, $2, $3, $4, $5, $6, $7);
    PERFORM llmlog.sum_up_calls(
        links.start_time, links.trace_id, links.span_id, links.response_id, links.previous_id, links.conversation_id,
        links.session_id, $8, $9
    );
END;
$$;

-- add_described is as in 0010, and refuse_odd_sums too, but for these pieces.
DO $patch$
DECLARE
    piece record;
    made  text;
BEGIN
    FOR piece IN
        SELECT * FROM (VALUES
            ('refuse_odd_sums', 'NOT isfinite(d.hour)',
             'd.hour < ''0001-01-02 00:00+00'' OR d.hour >= ''10000-01-01 00:00+00'' OR d.hour <> date_trunc(''hour'', d.hour, ''UTC'')'),
            ('refuse_odd_sums', 'NOT (isfinite(d.first_start) AND isfinite(d.last_start) AND isfinite(d.last_end))',
             'least(d.first_start, d.last_start, d.last_end) < ''0001-01-02 00:00+00'''
             ' OR greatest(d.first_start, d.last_start, d.last_end) >= ''10000-01-01 00:00+00'''),
            ('add_described', 'DECLARE', E'DECLARE\n    links    record;'),
            ('add_described', 'PERFORM llmlog.refuse_odd_sums($23, $24);',
             E'PERFORM llmlog.refuse_odd_sums($23, $24);\n'
             '    -- Before calls are hidden, whose links stay.\n'
             '    SELECT * INTO links FROM llmlog.links_of_rows($16, $17, $18, $19, $20, $21, $22);'),
            ('add_described', '($16, $17, $18, $19, $20, $21, $22, ',
             '(links.start_time, links.trace_id, links.span_id, links.response_id, links.previous_id, links.conversation_id, links.session_id, ')
        ) p (name, before, after)
    LOOP
        -- Functions of this name that writers of older versions call have other parameters.
        SELECT pg_get_functiondef(oid) INTO STRICT made FROM pg_proc
        WHERE pronamespace = CAST('llmlog' AS regnamespace) AND proname = piece.name
          AND (proname = 'refuse_odd_sums' OR strpos(prosrc, 'refuse_odd_sums') > 0);
        IF strpos(made, piece.before) = 0 THEN
            RAISE EXCEPTION 'llmlog.% is not as it was made', piece.name;
        END IF;
        EXECUTE replace(made, piece.before, piece.after);
    END LOOP;
END;
$patch$;
