-- Calls that follow one another are one session, the view of sessions, and LiteLLM's names for the tables of spend.
--
-- Safe on a big table: it adds a column without a default, which rewrites nothing, and creates things that were not
-- there. The lock that the column needs is held for a moment. Rows that are there stay as they are: a call that follows
-- one of them by `previous_response_id` alone begins a session of its own, named after the response it follows.
-- Writers of the version before may go on; their calls have the sessions that are named, and no other.

ALTER TABLE llmlog.spend_logs ADD COLUMN conversation_id text;

COMMENT ON COLUMN llmlog.spend_logs.conversation_id IS 'The conversation of the Responses API that the call belongs to.';
COMMENT ON COLUMN llmlog.spend_logs.session_id IS 'The session the caller named; else that of the call it follows (previous_response_id, conversation). Else NULL.';

-- One line for each call that others may follow, or that follows one. Beside the rows, because they lie in partitions by
-- day: what a call follows is found here with one look into one index, whatever its day.
CREATE TABLE llmlog.chain_links (
    start_time      timestamptz NOT NULL,
    trace_id        text        NOT NULL,
    span_id         text        NOT NULL,
    response_id     text,
    previous_id     text,
    conversation_id text,
    named           boolean     NOT NULL,
    session_id      text,
    PRIMARY KEY (start_time, trace_id, span_id)
-- Room in each page, and no index on the session: when that changes the line stays in its page.
) WITH (fillfactor = 90);

CREATE INDEX chain_links_response_id ON llmlog.chain_links (response_id, start_time) WHERE response_id IS NOT NULL;
CREATE INDEX chain_links_previous_id ON llmlog.chain_links (previous_id) WHERE previous_id IS NOT NULL;
CREATE INDEX chain_links_conversation_id ON llmlog.chain_links (conversation_id, start_time) WHERE conversation_id IS NOT NULL;

COMMENT ON TABLE llmlog.chain_links IS 'Calls of APIs whose calls follow one another, by response: which follows which, and the session each is in. Same key as spend_logs.';
COMMENT ON COLUMN llmlog.chain_links.named IS 'The call came with its session. Else session_id follows what the call follows.';
COMMENT ON COLUMN llmlog.chain_links.session_id IS 'As in spend_logs. NULL: the call follows none, and none follows it.';

-- The session of a call that names none, by what it follows. NULL: the call it follows waits for its own.
-- Providers may repeat ids: then the earliest call counts.
CREATE FUNCTION llmlog.session_followed(previous text, conversation text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN previous IS NULL THEN coalesce(CASE WHEN f.named THEN f.session_id END, conversation)
        WHEN p.span_id IS NULL THEN previous
        WHEN p.previous_id IS NULL AND p.conversation_id IS NULL THEN coalesce(p.session_id, previous)
        ELSE p.session_id
    END
    FROM (SELECT) AS one
    LEFT JOIN LATERAL (
        SELECT l.* FROM llmlog.chain_links l
        WHERE l.response_id = previous ORDER BY l.start_time, l.trace_id, l.span_id LIMIT 1
    ) p ON true
    LEFT JOIN LATERAL (
        SELECT l.* FROM llmlog.chain_links l
        WHERE previous IS NULL AND l.conversation_id = conversation ORDER BY l.start_time, l.trace_id, l.span_id LIMIT 1
    ) f ON true
$$;

COMMENT ON FUNCTION llmlog.session_followed IS 'The session of what a call follows: of its previous response, or of the first call of its conversation; else the id itself.';

-- New links, and what they change in the sessions of calls that are stored already. Answers what that adds to sessions,
-- and takes from them (negative numbers), a line for each row.
--
-- Writers that meet in one chain must see each other, so each takes the locks of the ids it has to do with, 64 locks for
-- all ids, in their order. Rows of calls that came before what they follow must be moved, with all that follow them: for
-- that it gives its locks back and takes all of them. They are held until COMMIT.
CREATE FUNCTION llmlog.join_chains(
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
            PERFORM pg_advisory_xact_lock(hashtext('llmlog.chains'), s.stripe)
            FROM (
                SELECT hashtext(i) & 63 AS stripe FROM unnest($4 || $5 || $6) i WHERE i IS NOT NULL AND NOT alone
                UNION SELECT generate_series(0, 63) WHERE alone
                ORDER BY 1
            ) s;

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

    -- The rows, a day at a time: written out, the day keeps all other partitions out of it.
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

COMMENT ON FUNCTION llmlog.join_chains IS 'Stores the links of newly stored rows, joins rows to the sessions of what they follow, and answers what that changes in session_totals.';

-- What add_to_rollups does, for rows some of which belong to chains: these come first, seven arrays of them.
CREATE FUNCTION llmlog.add_calls(
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
    moved llmlog.session_totals[];
    deserted text[];
BEGIN
    SELECT array_agg(CAST(m AS llmlog.session_totals)) INTO moved FROM llmlog.join_chains($1, $2, $3, $4, $5, $6, $7) m;

    -- Together with the sums that were given, so that each line is locked once, in the one order of all writers.
    PERFORM llmlog.add_to_rollups(
        $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28,
        array_agg(s.id), array_agg(s.first), array_agg(s.last), array_agg(s.until), array_agg(s.n), array_agg(s.failed),
        array_agg(s.unknown), array_agg(s.hits), array_agg(s.t1), array_agg(s.t2), array_agg(s.t3), array_agg(s.t4),
        array_agg(s.t5), array_agg(s.t6), array_agg(s.cost), array_agg(s.m), array_agg(s.u), array_agg(s.t),
        array_agg(s.e)
    )
    FROM (
        SELECT g.session_id AS id, min(g.first_start) AS first, max(g.last_start) AS last, max(g.last_end) AS until,
               CAST(sum(g.calls) AS bigint) AS n, CAST(sum(g.failures) AS bigint) AS failed,
               CAST(sum(g.unpriced) AS bigint) AS unknown, CAST(sum(g.cache_hits) AS bigint) AS hits,
               CAST(sum(g.prompt_tokens) AS bigint) AS t1, CAST(sum(g.completion_tokens) AS bigint) AS t2,
               CAST(sum(g.total_tokens) AS bigint) AS t3, CAST(sum(g.cache_read_tokens) AS bigint) AS t4,
               CAST(sum(g.cache_creation_tokens) AS bigint) AS t5, CAST(sum(g.reasoning_tokens) AS bigint) AS t6,
               sum(g.spend) AS cost,
               (array_agg(g.last_model ORDER BY g.last_start DESC))[1] AS m,
               (array_agg(g.last_user_id ORDER BY g.last_start DESC))[1] AS u,
               (array_agg(g.last_team_id ORDER BY g.last_start DESC))[1] AS t,
               (array_agg(g.last_end_user ORDER BY g.last_start DESC))[1] AS e
        FROM (
            SELECT * FROM unnest(moved)
            UNION ALL
            SELECT * FROM unnest($29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47)
        ) g (session_id, first_start, last_start, last_end, calls, failures, unpriced, cache_hits, prompt_tokens,
             completion_tokens, total_tokens, cache_read_tokens, cache_creation_tokens, reasoning_tokens, spend,
             last_model, last_user_id, last_team_id, last_end_user)
        GROUP BY g.session_id
    ) s;

    -- Sessions that calls have left. Their lines are locked already, by the sums above.
    SELECT array_agg(DISTINCT m.session_id) INTO deserted FROM unnest(moved) m WHERE m.calls < 0;
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

COMMENT ON FUNCTION llmlog.add_calls IS 'As add_to_rollups, for rows of which some belong to chains: joins these to their sessions first.';

-- Models, users and the like are looked up by index for the lines that are shown, and only where they are asked for:
-- a list of sessions reads session_totals alone.
CREATE VIEW llmlog.sessions AS
SELECT t.session_id,
       t.first_start AS first_call,
       t.last_start AS last_call,
       t.last_end AS ended,
       t.last_end - t.first_start AS duration,
       t.calls,
       t.failures,
       t.cache_hits,
       t.unpriced,
       t.spend,
       t.prompt_tokens,
       t.completion_tokens,
       t.total_tokens,
       t.cache_read_tokens,
       t.cache_creation_tokens,
       t.reasoning_tokens,
       coalesce(nullif(ARRAY(
           SELECT DISTINCT l.model FROM llmlog.spend_logs l
           WHERE l.session_id = t.session_id AND l.start_time >= t.first_start AND l.start_time <= t.last_start
             AND l.model IS NOT NULL ORDER BY 1
       ), '{}'), array_remove(ARRAY[t.last_model], NULL)) AS models,
       coalesce(nullif(ARRAY(
           SELECT DISTINCT l.user_id FROM llmlog.spend_logs l
           WHERE l.session_id = t.session_id AND l.start_time >= t.first_start AND l.start_time <= t.last_start
             AND l.user_id IS NOT NULL ORDER BY 1
       ), '{}'), array_remove(ARRAY[t.last_user_id], NULL)) AS users,
       coalesce(nullif(ARRAY(
           SELECT DISTINCT l.end_user FROM llmlog.spend_logs l
           WHERE l.session_id = t.session_id AND l.start_time >= t.first_start AND l.start_time <= t.last_start
             AND l.end_user IS NOT NULL ORDER BY 1
       ), '{}'), array_remove(ARRAY[t.last_end_user], NULL)) AS end_users,
       coalesce(nullif(ARRAY(
           SELECT DISTINCT l.team_id FROM llmlog.spend_logs l
           WHERE l.session_id = t.session_id AND l.start_time >= t.first_start AND l.start_time <= t.last_start
             AND l.team_id IS NOT NULL ORDER BY 1
       ), '{}'), array_remove(ARRAY[t.last_team_id], NULL)) AS teams,
       ARRAY(
           SELECT DISTINCT g.tag FROM llmlog.spend_logs l CROSS JOIN LATERAL unnest(l.request_tags) g (tag)
           WHERE l.session_id = t.session_id AND l.start_time >= t.first_start AND l.start_time <= t.last_start ORDER BY 1
       ) AS tags
FROM llmlog.session_totals t;

COMMENT ON VIEW llmlog.sessions IS 'Sessions, a line each. Sums outlive the rows; then models and the like are those of the last call, and tags are empty.';
COMMENT ON COLUMN llmlog.sessions.first_call IS 'When its first call began.';
COMMENT ON COLUMN llmlog.sessions.last_call IS 'When its last call began.';
COMMENT ON COLUMN llmlog.sessions.duration IS 'From the begin of its first call to the end of its last.';
COMMENT ON COLUMN llmlog.sessions.spend IS 'US dollars, exact. NULL: none of the calls has a price.';

-- Under LiteLLM's names and types, so that SQL and dashboards made for its tables run with search_path = llmlog. Its
-- columns hold '' where ours hold NULL, its money is floating, its times are UTC without a zone. No price is 0 there.
-- From its schema.prisma (1.106); columns we know nothing of are empty.
CREATE VIEW llmlog."LiteLLM_SpendLogs" AS
SELECT l.request_id,
       l.call_type,
       coalesce(l.api_key, '') AS api_key,
       CAST(coalesce(l.spend, 0) AS double precision) AS spend,
       CAST(least(l.total_tokens, 2147483647) AS integer) AS total_tokens,
       CAST(least(l.prompt_tokens, 2147483647) AS integer) AS prompt_tokens,
       CAST(least(l.completion_tokens, 2147483647) AS integer) AS completion_tokens,
       CAST(l.start_time AT TIME ZONE 'UTC' AS timestamp(3)) AS "startTime",
       CAST(l.end_time AT TIME ZONE 'UTC' AS timestamp(3)) AS "endTime",
       CAST(least(l.request_duration_ms, 2147483647) AS integer) AS request_duration_ms,
       CAST(l.completion_start_time AT TIME ZONE 'UTC' AS timestamp(3)) AS "completionStartTime",
       coalesce(l.model, '') AS model,
       coalesce(l.model_id, '') AS model_id,
       coalesce(l.model_group, '') AS model_group,
       coalesce(l.provider, '') AS custom_llm_provider,
       coalesce(l.api_base, '') AS api_base,
       coalesce(l.user_id, '') AS "user",
       l.metadata,
       CASE l.cache_hit WHEN true THEN 'True' WHEN false THEN 'False' ELSE '' END AS cache_hit,
       coalesce(l.cache_key, '') AS cache_key,
       to_jsonb(l.request_tags) AS request_tags,
       l.team_id,
       l.organization_id,
       l.end_user,
       l.requester_ip_address,
       coalesce(c.messages, '{}') AS messages,
       coalesce(c.response, '{}') AS response,
       l.session_id,
       l.status,
       CAST(NULL AS text) AS mcp_namespaced_tool_name,
       CAST(NULL AS text) AS billing_agent_id,
       CAST(NULL AS text) AS agent_id,
       CAST('{}' AS jsonb) AS proxy_server_request,
       l.call_id AS litellm_call_id,
       CAST(l.created_at AT TIME ZONE 'UTC' AS timestamp(3)) AS created_at,
       CAST(l.created_at AT TIME ZONE 'UTC' AS timestamp(3)) AS updated_at
FROM llmlog.spend_logs l
LEFT JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id);

COMMENT ON VIEW llmlog."LiteLLM_SpendLogs" IS 'spend_logs under the names and types of LiteLLM. For time, use our own table: its start_time keeps queries to the days they ask for.';

-- One view for each kind of LiteLLM's daily tables. Users, teams and organisations come from the sums by hour and day;
-- end users and tags, which those do not know, from the rows: such a query reads all of them.
DO $$
DECLARE
    from_sums text := $source$
        SELECT to_char(day AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS date, user_id, team_id, organization_id, api_key, model,
               provider, status, calls, prompt_tokens, completion_tokens, cache_read_tokens, cache_creation_tokens, spend
        FROM llmlog.spend_daily
        UNION ALL
        SELECT to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD'), user_id, team_id, organization_id, api_key, model,
               provider, status, calls, prompt_tokens, completion_tokens, cache_read_tokens, cache_creation_tokens, spend
        FROM llmlog.spend_hourly
        WHERE hour >= (SELECT folded_until FROM llmlog.maintenance WHERE task = 'rollups')
    $source$;
    from_rows text := $source$
        SELECT to_char(start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS date, end_user AS end_user_id, tag, api_key, model,
               provider, status, 1 AS calls, prompt_tokens, completion_tokens, cache_read_tokens, cache_creation_tokens, spend
        FROM llmlog.spend_logs %s
    $source$;
    kind record;
BEGIN
    FOR kind IN
        SELECT * FROM (VALUES
            ('LiteLLM_DailyUserSpend', 'user_id', '', from_sums),
            ('LiteLLM_DailyTeamSpend', 'team_id', '', from_sums),
            ('LiteLLM_DailyOrganizationSpend', 'organization_id', '', from_sums),
            ('LiteLLM_DailyEndUserSpend', 'end_user_id', '', format(from_rows, 'CROSS JOIN (VALUES (CAST(NULL AS text))) g (tag)')),
            ('LiteLLM_DailyTagSpend', 'tag', 'CAST(NULL AS text) AS request_id,',
             format(from_rows, 'CROSS JOIN LATERAL unnest(request_tags) g (tag)'))
        ) k (name, who, more, source)
    LOOP
        EXECUTE format($view$
            CREATE VIEW llmlog.%1$I AS
            SELECT md5(CAST(array_to_json(ARRAY[%2$I, date, coalesce(api_key, ''), model, provider]) AS text)) AS id, %3$s
                   %2$I, date, coalesce(api_key, '') AS api_key, model, model AS model_group, provider AS custom_llm_provider,
                   CAST(NULL AS text) AS mcp_namespaced_tool_name, CAST(NULL AS text) AS endpoint,
                   CAST(sum(prompt_tokens) AS bigint) AS prompt_tokens,
                   CAST(sum(completion_tokens) AS bigint) AS completion_tokens,
                   CAST(sum(cache_read_tokens) AS bigint) AS cache_read_input_tokens,
                   CAST(sum(cache_creation_tokens) AS bigint) AS cache_creation_input_tokens,
                   CAST(coalesce(sum(spend), 0) AS double precision) AS spend,
                   CAST(sum(calls) AS bigint) AS api_requests,
                   CAST(coalesce(sum(calls) FILTER (WHERE status = 'success'), 0) AS bigint) AS successful_requests,
                   CAST(coalesce(sum(calls) FILTER (WHERE status = 'failure'), 0) AS bigint) AS failed_requests,
                   CAST(date AS timestamp(3)) AS created_at,
                   CAST(date AS timestamp(3)) AS updated_at
            FROM (%4$s) s
            WHERE %2$I IS NOT NULL
            GROUP BY %2$I, date, api_key, model, provider
        $view$, kind.name, kind.who, kind.more, kind.source);
        EXECUTE format('COMMENT ON VIEW llmlog.%I IS %L', kind.name,
                       'Spend by day (UTC) under the names and types of LiteLLM.');
    END LOOP;
END;
$$;
