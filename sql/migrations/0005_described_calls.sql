-- One request is one row, however many spans describe it: ours, another instrumentation's, the SDK's own. And contents
-- that come as log records, before or after the span they belong to.
--
-- Safe on a big table: it adds a column without a default, which rewrites nothing, and creates things that were not
-- there. The lock that the column needs is held for a moment. Writers of the version before may go on: their rows are
-- our own capture's, and descriptions that come after them find them. When the first of those comes, the rows since
-- yesterday are indexed once, about a second for each million of them, for which writers wait.

ALTER TABLE llmlog.spend_logs ADD COLUMN described_by text;

COMMENT ON COLUMN llmlog.spend_logs.described_by IS 'Whose span the row was read from: openllmetry, openinference, …. NULL: our own capture.';

-- One line for each span of others that described a call, shown or not. Where nobody sends such spans it stays empty.
CREATE TABLE llmlog.described_calls (
    trace_id       text        NOT NULL,
    span_id        text        NOT NULL,
    start_time     timestamptz NOT NULL,
    end_time       timestamptz NOT NULL,
    parent_span_id text,
    response_id    text,
    model          text,
    beside         integer     NOT NULL,
    rank           integer     NOT NULL,
    own_same       boolean     NOT NULL DEFAULT false,
    own_below      boolean     NOT NULL DEFAULT false,
    hidden         boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (trace_id, span_id, start_time)
) WITH (fillfactor = 90);

CREATE INDEX described_calls_parent_span_id ON llmlog.described_calls (trace_id, parent_span_id, start_time) WHERE parent_span_id IS NOT NULL;
CREATE INDEX described_calls_response_id ON llmlog.described_calls (trace_id, response_id) WHERE response_id IS NOT NULL;

COMMENT ON TABLE llmlog.described_calls IS 'Spans of others that describe a call: what of them belongs together, and which are shown in spend_logs. Same key as spend_logs.';
COMMENT ON COLUMN llmlog.described_calls.beside IS 'Above 0: its span is not the parent of what it describes, but lies beside it. The higher is the outer one.';
COMMENT ON COLUMN llmlog.described_calls.rank IS 'How well informed the description is; of those of one request the highest is shown.';
COMMENT ON COLUMN llmlog.described_calls.own_same IS 'A row of our own capture has its response id, or is its parent.';
COMMENT ON COLUMN llmlog.described_calls.own_below IS 'A row of our own capture is its child.';
COMMENT ON COLUMN llmlog.described_calls.hidden IS 'Another row tells of the same request. The row is in hidden_calls.';

-- Kept, because what arrives later may change which description is the best one.
CREATE TABLE llmlog.hidden_calls (
    start_time timestamptz NOT NULL,
    trace_id   text        NOT NULL,
    span_id    text        NOT NULL,
    call       jsonb       NOT NULL,
    PRIMARY KEY (start_time, trace_id, span_id)
);

COMMENT ON TABLE llmlog.hidden_calls IS 'Rows of spend_logs whose request another row tells of. In no sum. Same key as spend_logs.';

CREATE TABLE llmlog.waiting_contents (
    trace_id   text        NOT NULL,
    span_id    text        NOT NULL,
    messages   jsonb,
    response   jsonb,
    arrived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trace_id, span_id)
);

CREATE INDEX waiting_contents_arrived_at ON llmlog.waiting_contents (arrived_at);

COMMENT ON TABLE llmlog.waiting_contents IS 'Contents that came without their span, for a day: the row of the span takes them along.';

-- Older events have a message each: they are put together as they come. What is there already is not said twice.
CREATE FUNCTION llmlog.contents_joined(kept jsonb, given jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN kept IS NULL OR given IS NULL THEN coalesce(kept, given)
        WHEN jsonb_typeof(kept) = 'array' AND jsonb_typeof(given) = 'array' AND NOT kept @> given THEN kept || given
        ELSE kept
    END
$$;

-- What joins a row of our own capture to descriptions.
CREATE TYPE llmlog.own_call AS (
    trace_id text, span_id text, parent_span_id text, response_id text, start_time timestamptz, model text
);

-- A row that came into spend_logs (1) or went (-1).
CREATE TYPE llmlog.changed_call AS (n int, call llmlog.spend_logs);

-- Whether spans of others have ever been stored. Writers ask with each transaction and hold the lock until its end, so
-- that whoever stores the first such span can wait for all that were told "no".
CREATE FUNCTION llmlog.are_described() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('llmlog.described_calls', 0));
    RETURN EXISTS (SELECT FROM llmlog.maintenance WHERE task = 'described_calls');
END;
$$;

-- What our own capture saw in a trace is found by index where spans of others come, and only there: else each insert would
-- pay for it. From yesterday on, because a span is about what happens while it lasts; older days are read by their time,
-- and so is a day whose table somebody else holds now. Nothing but speed depends on it.
CREATE FUNCTION llmlog.index_own_calls() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    child text;
BEGIN
    FOR child IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = CAST('llmlog.spend_logs' AS regclass)
          AND c.relname >= 'spend_logs_' || to_char((now() - interval '1 day') AT TIME ZONE 'UTC', 'YYYYMMDD')
          AND c.relname ~ '^spend_logs_\d{8}$'
          AND to_regclass(format('llmlog.%I', c.relname || '_own_calls')) IS NULL
        ORDER BY 1
    LOOP
        BEGIN
            EXECUTE format('CREATE INDEX %I ON llmlog.%I (trace_id, start_time) WHERE described_by IS NULL', child || '_own_calls', child);
        EXCEPTION WHEN lock_not_available OR deadlock_detected OR duplicate_table OR undefined_table THEN
            CONTINUE;
        END;
    END LOOP;
END;
$$;

CREATE FUNCTION llmlog.expect_described() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM llmlog.maintenance WHERE task = 'described_calls') THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('llmlog.described_calls', 0));
        INSERT INTO llmlog.maintenance (task) VALUES ('described_calls') ON CONFLICT DO NOTHING;
    END IF;
    PERFORM llmlog.index_own_calls();
END;
$$;

COMMENT ON FUNCTION llmlog.are_described() IS 'Whether spans of others have ever been stored: then whoever stores rows says which, by add_described.';
COMMENT ON FUNCTION llmlog.expect_described() IS 'Says so, in a transaction of its own, before the first of them is stored, and after each new partition.';

-- The lines of these spans and of all that are joined to them: by parent and child, by one response id in one trace, or
-- because one lies beside the other and was begun while it lasted.
CREATE FUNCTION llmlog.described_together(traces text[], spans text[]) RETURNS llmlog.described_calls[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    found llmlog.described_calls[];
    wave  llmlog.described_calls[];
BEGIN
    SELECT array_agg(CAST(d AS llmlog.described_calls)) INTO wave
    FROM (SELECT DISTINCT t, s FROM unnest(traces, spans) g (t, s)) g
    JOIN llmlog.described_calls d ON d.trace_id = g.t AND d.span_id = g.s;
    -- Real ones are a few steps long and wide. What a hostile trace makes of it is cut off.
    FOR step IN 1..100 LOOP
        EXIT WHEN wave IS NULL;
        found := found || wave;
        EXIT WHEN cardinality(found) > 20000;
        SELECT array_agg(CAST(n AS llmlog.described_calls)) INTO wave
        FROM (
            SELECT d.* FROM unnest(wave) w JOIN llmlog.described_calls d ON d.trace_id = w.trace_id AND d.span_id = w.parent_span_id
            UNION
            SELECT d.* FROM unnest(wave) w JOIN llmlog.described_calls d ON d.trace_id = w.trace_id AND d.parent_span_id = w.span_id
            UNION
            SELECT d.* FROM unnest(wave) w JOIN llmlog.described_calls d ON d.trace_id = w.trace_id AND d.response_id = w.response_id
            UNION
            SELECT d.* FROM unnest(wave) w JOIN llmlog.described_calls d ON d.trace_id = w.trace_id AND d.parent_span_id = w.parent_span_id
            WHERE w.beside > d.beside AND d.start_time >= w.start_time AND d.start_time <= w.end_time AND d.model = w.model
              AND d.start_time < w.start_time + interval '1 hour'
            UNION
            SELECT d.* FROM unnest(wave) w JOIN llmlog.described_calls d ON d.trace_id = w.trace_id AND d.parent_span_id = w.parent_span_id
            WHERE d.beside > w.beside AND w.start_time >= d.start_time AND w.start_time <= d.end_time AND d.model = w.model
              AND d.start_time > w.start_time - interval '1 hour'
            EXCEPT
            SELECT f.* FROM unnest(found) f
        ) n;
    END LOOP;
    RETURN found;
END;
$$;

-- For each of these lines, which are complete as above, whether it is to be hidden. It depends on the set of lines alone,
-- not on their order. Spans of one request: those of one response id, and a span and the only one inside it or beside it
-- within its time. A span that holds several requests is none itself. A request that our own capture saw needs no other
-- row.
CREATE FUNCTION llmlog.described_hidden(lines llmlog.described_calls[]) RETURNS boolean[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_hashjoin = on SET enable_mergejoin = on AS $$
DECLARE
    labels  int[];
    before  int[];
    several int[];
    hidden  boolean[];
BEGIN
    SELECT array_agg(l ORDER BY at) INTO labels
    FROM (
        SELECT at, CAST(min(at) OVER (PARTITION BY trace_id, response_id, CASE WHEN response_id IS NULL THEN at END) AS int) AS l
        FROM unnest(lines) WITH ORDINALITY AS n (trace_id, span_id, start_time, end_time, parent_span_id, response_id, model, beside, rank, own_same, own_below, hidden, at)
    ) n;
    LOOP
        before := labels;
        WITH RECURSIVE n AS MATERIALIZED (
            SELECT trace_id, span_id, start_time, end_time, parent_span_id, response_id, model, beside, own_below, at, labels[at] AS l
            FROM unnest(lines) WITH ORDINALITY AS n (trace_id, span_id, start_time, end_time, parent_span_id, response_id, model, beside, rank, own_same, own_below, hidden, at)
        ), edges AS MATERIALIZED (
            SELECT p.at AS parent, p.l AS parent_l, p.own_below, k.at AS child, k.l AS child_l
            FROM n p JOIN n k ON k.trace_id = p.trace_id AND k.parent_span_id = p.span_id AND k.at <> p.at
            UNION
            SELECT p.at, p.l, p.own_below, k.at, k.l
            FROM n p JOIN n k ON k.trace_id = p.trace_id AND k.parent_span_id = p.parent_span_id AND p.beside > k.beside
                 AND k.model = p.model AND k.start_time >= p.start_time AND k.start_time <= p.end_time
                 AND k.start_time < p.start_time + interval '1 hour'
                 AND (p.response_id IS NULL OR k.response_id IS NULL OR p.response_id = k.response_id)
        ), wide AS (
            SELECT parent AS at FROM edges GROUP BY parent, own_below HAVING own_below OR min(child_l) <> max(child_l)
            UNION
            SELECT e.parent FROM wide w JOIN edges e ON e.child = w.at
        ), pairs AS (
            SELECT greatest(parent_l, child_l) AS l, min(least(parent_l, child_l)) AS lower
            FROM edges
            WHERE parent_l <> child_l AND parent NOT IN (SELECT at FROM wide)
            GROUP BY 1
        )
        SELECT (SELECT array_agg(at) FROM wide), (SELECT array_agg(coalesce(p.lower, n.l) ORDER BY n.at) FROM n LEFT JOIN pairs p ON p.l = n.l)
        INTO several, labels;
        EXIT WHEN labels = before;
    END LOOP;
    SELECT array_agg(is_hidden ORDER BY at) INTO hidden
    FROM (
        SELECT at, wide OR bool_or(own_same OR (own_below AND NOT wide)) OVER (PARTITION BY l)
               OR 1 < row_number() OVER (PARTITION BY l, wide ORDER BY rank DESC, start_time DESC, span_id DESC) AS is_hidden
        FROM (
            SELECT rank, start_time, span_id, own_same, own_below, at, labels[at] AS l, coalesce(CAST(at AS int) = ANY (several), false) AS wide
            FROM unnest(lines) WITH ORDINALITY AS n (trace_id, span_id, start_time, end_time, parent_span_id, response_id, model, beside, rank, own_same, own_below, hidden, at)
        ) n
    ) n;
    RETURN hidden;
END;
$$;

COMMENT ON FUNCTION llmlog.described_hidden IS 'Which descriptions of the same requests are not shown. A function of the set of lines alone.';

-- Whether a request that began `at` may be the one that such a span describes: it begins while the span lasts. Some
-- seconds' leave for clocks, not more, because all rows of that time are looked at; an hour of the span at most.
CREATE FUNCTION llmlog.described_then(start_time timestamptz, end_time timestamptz, at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT at >= start_time - interval '5 seconds' AND at <= least(end_time, start_time + interval '1 hour') + interval '5 seconds'
$$;

-- Newly stored rows: descriptions by others (nine arrays), and of our own capture (six). Hides and shows rows of
-- spend_logs as they tell, and answers which came (1) and went (-1).
--
-- Writers that meet in one trace must see each other, so each takes the locks of its traces, 64 for all traces, in
-- their order; then, where a row belongs to a chain, all those of chains. They are held until COMMIT.
--
-- Every look into a table is by index, line by line: a plan made while the tables were small stays as good when they
-- have grown.
CREATE FUNCTION llmlog.settle_described(
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
    PERFORM pg_advisory_xact_lock(hashtext('llmlog.described_calls'), s.stripe)
    FROM (SELECT DISTINCT hashtext(i) & 63 AS stripe FROM unnest($2 || $11) i ORDER BY 1) s;

    INSERT INTO llmlog.described_calls (trace_id, span_id, start_time, end_time, parent_span_id, response_id, model, beside, rank)
    SELECT * FROM unnest($2, $3, $1, $6, $4, $5, $7, $8, $9)
    ON CONFLICT DO NOTHING;

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
        PERFORM pg_advisory_xact_lock(hashtext('llmlog.chains'), s) FROM generate_series(0, 63) s;
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

-- What add_calls does, where rows may be described by others: fifteen arrays of that come first, then seven of links.
CREATE FUNCTION llmlog.add_described(
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
#variable_conflict use_column
DECLARE
    changed  llmlog.changed_call[];
    hourly   llmlog.spend_hourly[];
    totals   llmlog.session_totals[];
    deserted text[];
    folded   timestamptz;
BEGIN
    SELECT array_agg(CAST(s AS llmlog.changed_call)) INTO changed
    FROM llmlog.settle_described($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) s;

    -- Together with the sums that were given, so that each line is locked once, in the one order of all writers.
    SELECT array_agg(CAST(h AS llmlog.spend_hourly)) INTO hourly
    FROM (
        SELECT g.hour, g.key, g.model, g.response_model, g.provider, g.team_id, g.team_alias, g.organization_id, g.user_id,
               g.api_key, g.api_key_alias, g.status, CAST(sum(g.calls) AS bigint), CAST(sum(g.unpriced) AS bigint),
               CAST(sum(g.t1) AS bigint), CAST(sum(g.t2) AS bigint), CAST(sum(g.t3) AS bigint), CAST(sum(g.t4) AS bigint),
               CAST(sum(g.t5) AS bigint), CAST(sum(g.t6) AS bigint), sum(g.spend)
        FROM (
            SELECT * FROM unnest($23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43)
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
    SELECT array_agg(CAST(t AS llmlog.session_totals)) INTO totals
    FROM (
        SELECT g.session_id, min(g.first_start), max(g.last_start), max(g.last_end), CAST(sum(g.calls) AS bigint),
               CAST(sum(g.failures) AS bigint), CAST(sum(g.unpriced) AS bigint), CAST(sum(g.cache_hits) AS bigint),
               CAST(sum(g.t1) AS bigint), CAST(sum(g.t2) AS bigint), CAST(sum(g.t3) AS bigint), CAST(sum(g.t4) AS bigint),
               CAST(sum(g.t5) AS bigint), CAST(sum(g.t6) AS bigint), sum(g.spend),
               (array_agg(g.last_model ORDER BY g.last_start DESC))[1], (array_agg(g.last_user_id ORDER BY g.last_start DESC))[1],
               (array_agg(g.last_team_id ORDER BY g.last_start DESC))[1], (array_agg(g.last_end_user ORDER BY g.last_start DESC))[1]
        FROM (
            SELECT * FROM unnest($44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, $62)
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
    PERFORM llmlog.add_calls(
        $16, $17, $18, $19, $20, $21, $22,
        h.hour, h.key, h.model, h.response_model, h.provider, h.team_id, h.team_alias, h.organization_id, h.user_id, h.api_key,
        h.api_key_alias, h.status, h.calls, h.unpriced, h.t1, h.t2, h.t3, h.t4, h.t5, h.t6, h.spend,
        t.id, t.first, t.last, t.until, t.calls, t.failed, t.unknown, t.hits, t.t1, t.t2, t.t3, t.t4, t.t5, t.t6, t.spend,
        t.m, t.u, t.t, t.e
    )
    FROM (
        SELECT array_agg(hour) AS hour, array_agg(key) AS key, array_agg(model) AS model, array_agg(response_model) AS response_model,
               array_agg(provider) AS provider, array_agg(team_id) AS team_id, array_agg(team_alias) AS team_alias,
               array_agg(organization_id) AS organization_id, array_agg(user_id) AS user_id, array_agg(api_key) AS api_key,
               array_agg(api_key_alias) AS api_key_alias, array_agg(status) AS status, array_agg(calls) AS calls,
               array_agg(unpriced) AS unpriced, array_agg(prompt_tokens) AS t1, array_agg(completion_tokens) AS t2,
               array_agg(total_tokens) AS t3, array_agg(cache_read_tokens) AS t4, array_agg(cache_creation_tokens) AS t5,
               array_agg(reasoning_tokens) AS t6, array_agg(spend) AS spend
        FROM unnest(hourly)
    ) h
    CROSS JOIN (
        SELECT array_agg(session_id) AS id, array_agg(first_start) AS first, array_agg(last_start) AS last,
               array_agg(last_end) AS until, array_agg(calls) AS calls, array_agg(failures) AS failed,
               array_agg(unpriced) AS unknown, array_agg(cache_hits) AS hits, array_agg(prompt_tokens) AS t1,
               array_agg(completion_tokens) AS t2, array_agg(total_tokens) AS t3, array_agg(cache_read_tokens) AS t4,
               array_agg(cache_creation_tokens) AS t5, array_agg(reasoning_tokens) AS t6, array_agg(spend) AS spend,
               array_agg(last_model) AS m, array_agg(last_user_id) AS u, array_agg(last_team_id) AS t,
               array_agg(last_end_user) AS e
        FROM unnest(totals)
    ) t;
    IF changed IS NULL THEN
        RETURN;
    END IF;

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
    IF deserted IS NOT NULL THEN
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
    END IF;
END;
$$;

COMMENT ON FUNCTION llmlog.settle_described IS 'Stores which spans describe which request, hides and shows rows by it, and answers which came and went.';
COMMENT ON FUNCTION llmlog.add_described IS 'As add_calls, where spans of others describe calls: sees to it first that one request is one row.';

-- Contents that came as log records: to the row of their span, or kept until it comes.
CREATE FUNCTION llmlog.add_contents(trace_id text[], span_id text[], messages jsonb[], response jsonb[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- As in settle_described: who stores the span now either sees these, or is seen here.
    PERFORM pg_advisory_xact_lock(hashtext('llmlog.described_calls'), s.stripe)
    FROM (SELECT DISTINCT hashtext(i) & 63 AS stripe FROM unnest($1) i ORDER BY 1) s;

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

COMMENT ON FUNCTION llmlog.add_contents IS 'Stores contents that came as log records, each with its span, whichever of the two comes first.';
