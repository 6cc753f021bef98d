-- Locks that only those can take who may write, and functions that only those can call.
--
-- Safe on a big table: it makes a small table and replaces functions; no row is read. Writers of the version before go on:
-- they call the same functions, which take the new locks from the moment this is committed. What was under way then held
-- the old ones: it is waited for, by the locks on tables below. `llmlog reprice` of the version before does
-- not exclude writers; it stays right, and at worst is told to try again.

-- Advisory locks are free to all who may connect: a dashboard could stop every writer. A line of a table cannot be locked
-- without the right to change it.
CREATE TABLE llmlog.locks (
    name   text NOT NULL,
    stripe int  NOT NULL,
    PRIMARY KEY (name, stripe)
);

COMMENT ON TABLE llmlog.locks IS 'Lines to lock until COMMIT: what they stand for is done by one transaction at a time. Made when they are first needed.';

-- In the order of stripes, whatever the order they are given in. A line that is there is locked and not changed, so
-- nothing is left behind for vacuum.
CREATE FUNCTION llmlog.take_locks(wanted text, stripes int[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO llmlog.locks AS l SELECT wanted, s FROM unnest(stripes) s GROUP BY s ORDER BY s
    ON CONFLICT (name, stripe) DO UPDATE SET stripe = l.stripe WHERE false;
END;
$$;

COMMENT ON FUNCTION llmlog.take_locks IS 'Locks these lines of llmlog.locks until COMMIT, in one order for all. For functions of llmlog.';

-- Writers that hold the locks of the version before: until their COMMIT nobody takes the new ones.
LOCK TABLE ONLY llmlog.spend_logs IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE llmlog.described_calls, llmlog.audit_logs IN SHARE ROW EXCLUSIVE MODE;

-- As in 0005. Writers share the lock, and whoever stores the first such span waits for all of them. Who only reads can
-- have neither.
CREATE OR REPLACE FUNCTION llmlog.are_described() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE llmlog.described_calls IN ROW EXCLUSIVE MODE;
    RETURN EXISTS (SELECT FROM llmlog.maintenance WHERE task = 'described_calls');
END;
$$;

CREATE OR REPLACE FUNCTION llmlog.expect_described() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM llmlog.maintenance WHERE task = 'described_calls') THEN
        LOCK TABLE llmlog.described_calls IN SHARE ROW EXCLUSIVE MODE;
        INSERT INTO llmlog.maintenance (task) VALUES ('described_calls') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM llmlog.index_own_calls();
END;
$$;

-- As in 0004, with a line to lock.
CREATE OR REPLACE FUNCTION llmlog.audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last_seq  bigint;
    last_hash bytea;
BEGIN
    -- Half of what take_locks costs, for a line that is there but for the first time.
    PERFORM FROM llmlog.locks WHERE name = 'audit_logs' AND stripe = 0 FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM llmlog.take_locks('audit_logs', '{0}');
    END IF;
    IF EXISTS (SELECT FROM llmlog.audit_logs WHERE id = NEW.id) THEN
        RETURN NULL;
    END IF;
    SELECT seq, hash INTO last_seq, last_hash FROM llmlog.audit_logs ORDER BY seq DESC LIMIT 1;
    NEW.seq := coalesce(last_seq, 0) + 1;
    NEW.recorded_at := clock_timestamp();
    NEW.previous_hash := coalesce(last_hash, decode(repeat('00', 32), 'hex'));
    NEW.hash := sha256(NEW.previous_hash || convert_to(llmlog.audit_text(NEW), 'UTF8'));
    RETURN NEW;
END;
$$;

-- As in 0003, with lines to lock. Whoever may call it may not move rows that do not follow what is said.
CREATE OR REPLACE FUNCTION llmlog.join_chains(
    start_time timestamptz[], trace_id text[], span_id text[], response_id text[], previous_id text[],
    conversation_id text[], session_id text[]
) RETURNS SETOF llmlog.session_totals
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    alone   boolean := false;
    touched llmlog.chain_links[];
    wave    llmlog.chain_links[];
    front   text[];
    fronts  text[];
    day     timestamptz;
BEGIN
    LOOP
        touched := '{}';
        BEGIN
            PERFORM llmlog.take_locks('chains', CASE
                WHEN alone THEN ARRAY(SELECT generate_series(0, 63))
                ELSE ARRAY(SELECT hashtext(i) & 63 FROM unnest($4 || $5 || $6) i WHERE i IS NOT NULL)
            END);

            INSERT INTO llmlog.chain_links
            SELECT n.s, n.t, n.p, n.r, n.f, n.c, n.x IS NOT NULL, n.x
            FROM unnest($1, $2, $3, $4, $5, $6, $7) n (s, t, p, r, f, c, x)
            ON CONFLICT DO NOTHING;

            -- Their sessions, as far as they name none. A call that follows another new one waits for it.
            LOOP
                WITH joined AS (
                    UPDATE llmlog.chain_links l SET session_id = n.found
                    FROM (
                        SELECT s, t, p, llmlog.session_followed(f, c) AS found
                        FROM unnest($1, $2, $3, $4, $5, $6, $7) n (s, t, p, r, f, c, x)
                        WHERE x IS NULL AND coalesce(f, c) IS NOT NULL
                    ) n
                    WHERE (l.start_time, l.trace_id, l.span_id) = (n.s, n.t, n.p)
                      AND l.session_id IS NULL AND n.found IS NOT NULL
                    RETURNING l.*
                ) SELECT array_agg(CAST(joined AS llmlog.chain_links)) INTO wave FROM joined;
                EXIT WHEN wave IS NULL;
                touched := touched || wave;
            END LOOP;
            -- Ids that follow each other in a circle: no provider gives them, and anybody may send them.
            WITH joined AS (
                UPDATE llmlog.chain_links l SET session_id = n.least
                FROM (
                    SELECT s, t, p, min(f) OVER () AS least
                    FROM unnest($1, $2, $3, $5, $7) n (s, t, p, f, x)
                    WHERE x IS NULL AND f IS NOT NULL
                ) n
                WHERE (l.start_time, l.trace_id, l.span_id) = (n.s, n.t, n.p) AND l.session_id IS NULL
                RETURNING l.*
            ) SELECT touched || coalesce(array_agg(CAST(joined AS llmlog.chain_links)), '{}') INTO touched FROM joined;

            -- Calls that were stored before what they follow, and whatever follows those.
            front := $4;
            fronts := $6;
            FOR step IN 1..100000 LOOP
                SELECT array_agg(CAST(l AS llmlog.chain_links)) INTO wave
                FROM llmlog.chain_links l
                WHERE NOT l.named
                  AND (l.previous_id = ANY (front) OR (l.previous_id IS NULL AND l.conversation_id = ANY (fronts)))
                  AND l.session_id <> llmlog.session_followed(l.previous_id, l.conversation_id);
                EXIT WHEN wave IS NULL;
                IF NOT alone THEN
                    RAISE EXCEPTION USING ERRCODE = 'LLM01', MESSAGE = 'calls must be moved to another session';
                END IF;
                UPDATE llmlog.chain_links l SET session_id = llmlog.session_followed(l.previous_id, l.conversation_id)
                FROM unnest(wave) w
                WHERE (l.start_time, l.trace_id, l.span_id) = (w.start_time, w.trace_id, w.span_id);
                touched := touched || wave;
                SELECT array_agg(w.response_id) INTO front FROM unnest(wave) w;
                fronts := NULL;
            END LOOP;

            -- The first call of a chain joins it when it has a follower.
            WITH joined AS (
                UPDATE llmlog.chain_links l SET session_id = l.response_id
                WHERE l.response_id = ANY ($4 || $5)
                  AND l.session_id IS NULL AND l.previous_id IS NULL AND l.conversation_id IS NULL
                  AND EXISTS (
                      SELECT FROM llmlog.chain_links f
                      WHERE f.previous_id = l.response_id AND f.session_id = l.response_id
                  )
                RETURNING l.*
            ) SELECT touched || coalesce(array_agg(CAST(joined AS llmlog.chain_links)), '{}') INTO touched FROM joined;
            EXIT;
        EXCEPTION WHEN SQLSTATE 'LLM01' THEN
            alone := true;
        END;
    END LOOP;

    -- The rows, a day at a time: written out, the day keeps all other partitions out of it. Only rows that say of
    -- themselves what was said of them.
    FOR day IN SELECT DISTINCT date_trunc('day', t.start_time, 'UTC') FROM unnest(touched) t ORDER BY 1 LOOP
        RETURN QUERY EXECUTE format($statement$
            WITH wanted AS MATERIALIZED (
                SELECT s.start_time, s.trace_id, s.span_id, s.session_id AS before, l.session_id AS after
                FROM (
                    SELECT DISTINCT t.start_time, t.trace_id, t.span_id FROM unnest($1) t
                    WHERE t.start_time >= %1$L AND t.start_time < %2$L
                ) t
                JOIN llmlog.chain_links l USING (start_time, trace_id, span_id)
                JOIN llmlog.spend_logs s USING (start_time, trace_id, span_id)
                WHERE s.start_time >= %1$L AND s.start_time < %2$L AND s.session_id IS DISTINCT FROM l.session_id
                  AND (s.previous_response_id IS NOT DISTINCT FROM l.previous_id OR s.previous_response_id = '')
                  AND (s.conversation_id IS NOT DISTINCT FROM l.conversation_id OR s.conversation_id = '')
                  AND nullif(s.request_id, s.call_id) IS NOT DISTINCT FROM l.response_id
            ), moved AS (
                UPDATE llmlog.spend_logs s SET session_id = w.after
                FROM wanted w
                WHERE s.start_time >= %1$L AND s.start_time < %2$L
                  AND s.start_time = w.start_time AND s.trace_id = w.trace_id AND s.span_id = w.span_id
                RETURNING s.*, w.before
            )
            SELECT x.session_id,
                   CASE x.n WHEN 1 THEN m.start_time ELSE 'infinity' END,
                   CASE x.n WHEN 1 THEN m.start_time ELSE '-infinity' END,
                   CASE x.n WHEN 1 THEN m.end_time ELSE '-infinity' END,
                   x.n, CASE m.status WHEN 'failure' THEN x.n ELSE 0 END,
                   CASE WHEN m.status = 'success' AND m.spend IS NULL THEN x.n ELSE 0 END,
                   CASE WHEN m.cache_hit THEN x.n ELSE 0 END,
                   x.n * m.prompt_tokens, x.n * m.completion_tokens, x.n * m.total_tokens, x.n * m.cache_read_tokens,
                   x.n * m.cache_creation_tokens, x.n * m.reasoning_tokens, x.n * m.spend,
                   m.model, m.user_id, m.team_id, m.end_user
            FROM moved m
            CROSS JOIN LATERAL (VALUES (m.session_id, CAST(1 AS bigint)), (m.before, -1)) x (session_id, n)
            WHERE x.session_id IS NOT NULL
        $statement$, day, day + interval '1 day') USING touched;
    END LOOP;
END;
$$;

-- Refuses spans, of others or our own, that no row says.
CREATE FUNCTION llmlog.refuse_unstored(
    start_time timestamptz[], trace_id text[], span_id text[], parent_span_id text[], response_id text[], of_others boolean
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    day      timestamptz;
    unstored boolean;
BEGIN
    -- A day at a time: written out, the day keeps all other partitions out of it.
    FOR day IN SELECT DISTINCT date_trunc('day', s, 'UTC') FROM unnest($1) s LOOP
        EXECUTE format($statement$
            SELECT EXISTS (
                SELECT FROM unnest($1, $2, $3, $4, $5) g (s, t, p, a, r)
                WHERE g.s >= %1$L AND g.s < %2$L AND NOT EXISTS (
                    SELECT FROM llmlog.spend_logs s
                    WHERE s.start_time >= %1$L AND s.start_time < %2$L
                      AND s.start_time = g.s AND s.trace_id = g.t AND s.span_id = g.p
                      AND s.parent_span_id IS NOT DISTINCT FROM g.a
                      AND nullif(s.request_id, s.call_id) IS NOT DISTINCT FROM g.r
                      AND (s.described_by IS NOT NULL) = $6
                    OFFSET 0
                )
            )
        $statement$, day, day + interval '1 day') INTO unstored USING $1, $2, $3, $4, $5, $6;
        IF unstored THEN
            RAISE check_violation USING MESSAGE = 'a span was described that is not stored';
        END IF;
    END LOOP;
END;
$$;

-- As in 0005, with lines to lock. Only rows that others described are hidden.
CREATE OR REPLACE FUNCTION llmlog.settle_described(
    start_time timestamptz[], trace_id text[], span_id text[], parent_span_id text[], response_id text[], end_time timestamptz[],
    model text[], beside int[], rank int[],
    own_start_time timestamptz[], own_trace_id text[], own_span_id text[], own_parent_span_id text[], own_response_id text[],
    own_model text[]
) RETURNS SETOF llmlog.changed_call
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    traces   text[];
    spans    text[];
    lines    llmlog.described_calls[];
    alone    llmlog.described_calls[];
    together llmlog.described_calls[];
    hide     boolean[];
    going    llmlog.described_calls[];
    coming   llmlog.described_calls[];
    own      llmlog.own_call[];
    found    llmlog.own_call[];
    span     record;
    day      timestamptz;
BEGIN
    PERFORM llmlog.take_locks('described_calls', ARRAY(SELECT hashtext(i) & 63 FROM unnest($2 || $11) i));

    INSERT INTO llmlog.described_calls (trace_id, span_id, start_time, end_time, parent_span_id, response_id, model, beside, rank)
    SELECT * FROM unnest($2, $3, $1, $6, $4, $5, $7, $8, $9)
    ON CONFLICT DO NOTHING;

    -- Who calls this may say what it likes: only what is stored counts.
    PERFORM llmlog.refuse_unstored($1, $2, $3, $4, $5, true);
    PERFORM llmlog.refuse_unstored(array_agg(o.s), array_agg(o.t), array_agg(o.p), array_agg(o.a), array_agg(o.r), false)
    FROM unnest($10, $11, $12, $13, $14) o (s, t, p, a, r)
    WHERE EXISTS (SELECT FROM llmlog.described_calls d WHERE d.trace_id = o.t);

    -- Our own rows: those of now, and those that are there, in the traces of now and while these spans last. By the hour
    -- and by the day, so that two spans of different years do not make this read what lies between.
    own := ARRAY(SELECT CAST(o AS llmlog.own_call) FROM unnest($11, $12, $13, $14, $10, $15) o);
    FOR span IN
        SELECT g.traces, greatest(g.since, d) AS since, least(g.until, d + interval '24 hours') AS until,
               'spend_logs_' || to_char(d AT TIME ZONE 'UTC', 'YYYYMMDD') AS child
        FROM (
            SELECT array_agg(DISTINCT g.t) AS traces, min(g.s) - interval '5 seconds' AS since,
                   max(least(g.e, g.s + interval '1 hour')) + interval '5 seconds' AS until
            FROM unnest($2, $1, $6) g (t, s, e) GROUP BY date_trunc('hour', g.s)
        ) g
        CROSS JOIN LATERAL generate_series(date_trunc('day', g.since, 'UTC'), g.until, interval '24 hours') d
    LOOP
        EXECUTE format(
            CASE
                WHEN to_regclass(format('llmlog.%I', span.child || '_own_calls')) IS NULL THEN $statement$
                    SELECT array_agg(CAST(ROW(s.trace_id, s.span_id, s.parent_span_id, nullif(s.request_id, s.call_id), s.start_time, s.model) AS llmlog.own_call))
                    FROM llmlog.spend_logs s
                    WHERE s.start_time >= %1$L AND s.start_time <= %2$L AND s.trace_id = ANY ($1) AND s.described_by IS NULL
                $statement$
                ELSE $statement$
                    SELECT array_agg(CAST(ROW(s.trace_id, s.span_id, s.parent_span_id, nullif(s.request_id, s.call_id), s.start_time, s.model) AS llmlog.own_call))
                    FROM unnest($1) t
                    CROSS JOIN LATERAL (
                        SELECT s.* FROM llmlog.%3$I s
                        WHERE s.trace_id = t AND s.start_time >= %1$L AND s.start_time <= %2$L AND s.described_by IS NULL OFFSET 0
                    ) s
                $statement$
            END, span.since, span.until, span.child
        ) INTO found USING span.traces;
        own := own || found;
    END LOOP;

    IF cardinality(own) > 0 THEN
        WITH met AS (
            SELECT d.trace_id, d.span_id, d.start_time, true AS below
            FROM unnest(own) o JOIN llmlog.described_calls d ON d.trace_id = o.trace_id AND d.span_id = o.parent_span_id
            WHERE llmlog.described_then(d.start_time, d.end_time, o.start_time)
            UNION ALL
            SELECT d.trace_id, d.span_id, d.start_time, false
            FROM unnest(own) o JOIN llmlog.described_calls d ON d.trace_id = o.trace_id AND d.parent_span_id = o.span_id
            WHERE llmlog.described_then(d.start_time, d.end_time, o.start_time)
            UNION ALL
            SELECT d.trace_id, d.span_id, d.start_time, false
            FROM unnest(own) o JOIN llmlog.described_calls d ON d.trace_id = o.trace_id AND d.response_id = o.response_id
            WHERE llmlog.described_then(d.start_time, d.end_time, o.start_time)
            UNION ALL
            SELECT d.trace_id, d.span_id, d.start_time, true
            FROM unnest(own) o JOIN llmlog.described_calls d ON d.trace_id = o.trace_id AND d.parent_span_id = o.parent_span_id
            WHERE d.beside > 0 AND o.start_time >= d.start_time AND o.start_time <= d.end_time AND d.model = o.model
              AND (d.response_id IS NULL OR o.response_id IS NULL) AND d.start_time >= o.start_time - interval '1 hour'
        ), marked AS (
            UPDATE llmlog.described_calls d
            SET own_below = d.own_below OR m.below, own_same = d.own_same OR m.same
            FROM (
                SELECT trace_id, span_id, start_time, bool_or(below) AS below, bool_or(NOT below) AS same FROM met GROUP BY 1, 2, 3
            ) m
            WHERE (d.trace_id, d.span_id, d.start_time) = (m.trace_id, m.span_id, m.start_time)
              AND (m.below > d.own_below OR m.same > d.own_same)
            RETURNING d.trace_id, d.span_id
        ) SELECT array_agg(m.trace_id), array_agg(m.span_id) INTO traces, spans FROM marked m;
    END IF;

    -- Most spans are the only one of their trace here, shown and of no request that we saw: those stay as they are.
    SELECT traces || array_agg(g.t), spans || array_agg(g.s) INTO traces, spans
    FROM unnest($2, $3, $1) g (t, s, b)
    WHERE EXISTS (
        SELECT FROM llmlog.described_calls d
        WHERE d.trace_id = g.t AND (d.span_id <> g.s OR d.start_time <> g.b OR d.own_same OR d.own_below OR d.hidden)
    );
    lines := llmlog.described_together(traces, spans);
    -- One that is alone needs no comparison.
    SELECT array_agg(x.line) FILTER (WHERE x.company > 1), array_agg(x.line) FILTER (WHERE x.company = 1),
           array_agg((x.line).own_same OR (x.line).own_below) FILTER (WHERE x.company = 1)
    INTO together, alone, hide
    FROM (
        SELECT CAST(l AS llmlog.described_calls) AS line, count(*) OVER (PARTITION BY l.trace_id) AS company FROM unnest(lines) l
    ) x;
    lines := alone || together;
    IF together IS NOT NULL THEN
        hide := hide || llmlog.described_hidden(together);
    END IF;
    -- What is delivered again after it was hidden is there anew.
    SELECT array_agg(x.line) FILTER (WHERE x.hide AND (NOT x.hidden OR x.given)),
           array_agg(x.line) FILTER (WHERE NOT x.hide AND x.hidden)
    INTO going, coming
    FROM (
        SELECT CAST(ROW(l.trace_id, l.span_id, l.start_time, l.end_time, l.parent_span_id, l.response_id, l.model, l.beside, l.rank,
                        l.own_same, l.own_below, l.hidden) AS llmlog.described_calls) AS line,
               l.hide, l.hidden, (l.trace_id, l.span_id) IN (SELECT * FROM unnest($2, $3)) AS given
        FROM unnest(lines, hide) l (trace_id, span_id, start_time, end_time, parent_span_id, response_id, model, beside, rank, own_same, own_below, hidden, hide)
    ) x;

    IF EXISTS (
        SELECT FROM unnest(going || coming) c
        JOIN llmlog.chain_links l ON (l.start_time, l.trace_id, l.span_id) = (c.start_time, c.trace_id, c.span_id)
    ) THEN
        PERFORM llmlog.take_locks('chains', ARRAY(SELECT generate_series(0, 63)));
    END IF;

    -- A day at a time: written out, the day keeps all other partitions out of it.
    FOR day IN SELECT DISTINCT date_trunc('day', c.start_time, 'UTC') FROM unnest(going) c ORDER BY 1 LOOP
        RETURN QUERY EXECUTE format($statement$
            WITH wanted AS MATERIALIZED (
                SELECT c.start_time, c.trace_id, c.span_id FROM unnest($1) c
                WHERE c.start_time >= %1$L AND c.start_time < %2$L
            ), gone AS (
                DELETE FROM llmlog.spend_logs s USING wanted w
                WHERE s.start_time >= %1$L AND s.start_time < %2$L
                  AND s.start_time = w.start_time AND s.trace_id = w.trace_id AND s.span_id = w.span_id
                  AND s.described_by IS NOT NULL
                RETURNING s.*
            ), kept AS (
                INSERT INTO llmlog.hidden_calls SELECT g.start_time, g.trace_id, g.span_id, to_jsonb(g) FROM gone g
                ON CONFLICT DO NOTHING
            ), untold AS (
                DELETE FROM llmlog.spend_log_contents s USING wanted w
                WHERE s.start_time >= %1$L AND s.start_time < %2$L
                  AND s.start_time = w.start_time AND s.trace_id = w.trace_id AND s.span_id = w.span_id
                RETURNING s.trace_id, s.span_id, s.messages, s.response
            ), waiting AS (
                INSERT INTO llmlog.waiting_contents SELECT u.trace_id, u.span_id, u.messages, u.response FROM untold u
                ON CONFLICT DO NOTHING
            )
            SELECT -1, CAST(g AS llmlog.spend_logs) FROM gone g
        $statement$, day, day + interval '1 day') USING going;
    END LOOP;

    IF coming IS NOT NULL THEN
        RETURN QUERY
            WITH kept AS (
                DELETE FROM llmlog.hidden_calls h USING unnest(coming) c
                WHERE (h.start_time, h.trace_id, h.span_id) = (c.start_time, c.trace_id, c.span_id)
                RETURNING h.call
            ), back AS (
                INSERT INTO llmlog.spend_logs
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
            )
            SELECT 1, CAST(b AS llmlog.spend_logs) FROM back b;
    END IF;

    UPDATE llmlog.described_calls d SET hidden = NOT d.hidden
    FROM (
        SELECT g.trace_id, g.span_id, g.start_time FROM unnest(going) g WHERE NOT g.hidden
        UNION ALL
        SELECT c.trace_id, c.span_id, c.start_time FROM unnest(coming) c
    ) c
    WHERE (d.trace_id, d.span_id, d.start_time) = (c.trace_id, c.span_id, c.start_time);

    IF EXISTS (SELECT FROM llmlog.waiting_contents) THEN
        WITH told AS (
            DELETE FROM llmlog.waiting_contents w
            USING (
                SELECT * FROM unnest($2, $3) g (t, s)
                UNION
                SELECT l.trace_id, l.span_id FROM unnest(lines) l
            ) g JOIN llmlog.described_calls d ON d.trace_id = g.t AND d.span_id = g.s AND NOT d.hidden
            WHERE w.trace_id = g.t AND w.span_id = g.s
            RETURNING w.trace_id, w.span_id, d.start_time, w.messages, w.response
        )
        INSERT INTO llmlog.spend_log_contents AS kept (trace_id, span_id, start_time, messages, response)
        SELECT * FROM told
        ON CONFLICT (start_time, trace_id, span_id) DO UPDATE
        SET messages = llmlog.contents_joined(kept.messages, excluded.messages),
            response = llmlog.contents_joined(kept.response, excluded.response);
    END IF;
END;
$$;

-- As in 0005, with lines to lock.
CREATE OR REPLACE FUNCTION llmlog.add_contents(trace_id text[], span_id text[], messages jsonb[], response jsonb[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- As in settle_described: who stores the span now either sees these, or is seen here.
    PERFORM llmlog.take_locks('described_calls', ARRAY(SELECT hashtext(i) & 63 FROM unnest($1) i));

    WITH given AS (
        SELECT * FROM unnest($1, $2, $3, $4) g (t, s, m, r)
    ), told AS (
        INSERT INTO llmlog.spend_log_contents AS kept (trace_id, span_id, start_time, messages, response)
        SELECT g.t, g.s, d.start_time, g.m, g.r
        FROM given g JOIN llmlog.described_calls d ON d.trace_id = g.t AND d.span_id = g.s AND NOT d.hidden
        ON CONFLICT (start_time, trace_id, span_id) DO UPDATE
        SET messages = llmlog.contents_joined(kept.messages, excluded.messages),
            response = llmlog.contents_joined(kept.response, excluded.response)
        RETURNING kept.trace_id, kept.span_id
    )
    INSERT INTO llmlog.waiting_contents AS kept (trace_id, span_id, messages, response)
    SELECT g.t, g.s, g.m, g.r FROM given g
    WHERE NOT EXISTS (SELECT FROM told WHERE told.trace_id = g.t AND told.span_id = g.s)
    ON CONFLICT (trace_id, span_id) DO UPDATE
    SET messages = llmlog.contents_joined(kept.messages, excluded.messages),
        response = llmlog.contents_joined(kept.response, excluded.response);

    DELETE FROM llmlog.waiting_contents WHERE ctid = ANY (ARRAY(
        SELECT w.ctid FROM llmlog.waiting_contents w WHERE w.arrived_at < now() - interval '1 day' LIMIT 1000 FOR UPDATE SKIP LOCKED
    ));
END;
$$;

-- As ensure_partition in 0001, with a line to lock. For who owns the tables.
CREATE FUNCTION llmlog.make_partition(day date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    child  text;
    since  timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until  timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    taken  boolean;
    ready  boolean := true;
BEGIN
    -- Writers that meet a new day together make its partition once.
    PERFORM llmlog.take_locks('make_partition', '{0}');
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

COMMENT ON FUNCTION llmlog.make_partition(date) IS 'Makes the partitions of a day (UTC) in both tables. False: rows of that day are in the default partition already, and go on there.';

-- SECURITY DEFINER: a role that may only insert still gets today's partition. Not one for the year 2100.
CREATE OR REPLACE FUNCTION llmlog.ensure_partition(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    today date := CAST(now() AT TIME ZONE 'UTC' AS date);
BEGIN
    IF day BETWEEN today - 31 AND today + 7 THEN
        RETURN llmlog.make_partition(day);
    END IF;
    RETURN false;
END;
$$;

COMMENT ON FUNCTION llmlog.ensure_partition(date) IS 'As make_partition, for writers: days from a month ago to a week ahead. False: rows of that day go to the default partition.';
