-- Audit logs: append-only, each row chained to the one before it by hash, and the checkpoints of that chain.
--
-- Safe on a big table: it only creates things that were not there. Run it as the role that shall own the tables. A role
-- that only writes needs INSERT and SELECT on audit_logs, beside what it has.

CREATE TABLE llmlog.audit_logs (
    -- Place in the chain, without gaps. Given by the trigger below, as are recorded_at, previous_hash and hash.
    seq                  bigint      PRIMARY KEY,
    id                   text        NOT NULL UNIQUE,
    recorded_at          timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL CHECK (isfinite(updated_at)),
    changed_by           text,
    changed_by_api_key   text,
    action               text        NOT NULL,
    table_name           text        NOT NULL,
    object_id            text        NOT NULL DEFAULT '',
    before_value         jsonb,
    updated_values       jsonb,
    operation            text,
    outcome              text        NOT NULL DEFAULT 'success' CHECK (outcome IN ('success', 'failure', 'refused')),
    error_class          text,
    status_code          integer,
    source               text        NOT NULL DEFAULT 'app',
    route                text,
    requester_ip_address text,
    trace_id             text,
    span_id              text,
    service_name         text,
    notes                text[]      NOT NULL DEFAULT '{}',
    previous_hash        bytea       NOT NULL,
    hash                 bytea       NOT NULL
);

COMMENT ON TABLE llmlog.audit_logs IS 'One row for each management operation, done, failed or refused. Append-only; `llmlog audit verify` proves it.';
COMMENT ON COLUMN llmlog.audit_logs.seq IS 'Place in the chain, from 1, without gaps: in the order of COMMIT.';
COMMENT ON COLUMN llmlog.audit_logs.id IS 'log.record.uid of the event. Delivered twice, it is stored once.';
COMMENT ON COLUMN llmlog.audit_logs.recorded_at IS 'When the row was stored, by the clock of the database.';
COMMENT ON COLUMN llmlog.audit_logs.updated_at IS 'When the operation was done, by the clock of who recorded it.';
COMMENT ON COLUMN llmlog.audit_logs.changed_by_api_key IS 'SHA-256 of the key, hex. Never the key.';
COMMENT ON COLUMN llmlog.audit_logs.operation IS 'What was done, finer than action: team.member_add, key.rotate.';
COMMENT ON COLUMN llmlog.audit_logs.source IS 'Who saw it: app, asgi, client, sqlalchemy, litellm, llmlog.';
COMMENT ON COLUMN llmlog.audit_logs.notes IS 'What could not be kept or was not known.';
COMMENT ON COLUMN llmlog.audit_logs.previous_hash IS 'hash of the row before; 32 zero bytes in the first.';
COMMENT ON COLUMN llmlog.audit_logs.hash IS 'SHA-256 of previous_hash and of the row as llmlog.audit_text writes it.';

CREATE INDEX audit_logs_updated_at ON llmlog.audit_logs (updated_at);
CREATE INDEX audit_logs_object_id ON llmlog.audit_logs (object_id, updated_at);

-- What is known of the chain at some time: found whole by `llmlog audit verify`, or removed by retention up to there.
CREATE TABLE llmlog.audit_checkpoints (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    text        NOT NULL CHECK (kind IN ('verified', 'pruned')),
    seq     bigint      NOT NULL,
    hash    bytea       NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_by text        NOT NULL DEFAULT session_user
);

COMMENT ON TABLE llmlog.audit_checkpoints IS 'Rows of audit_logs up to seq were found whole, or were removed by retention. Append-only.';
COMMENT ON COLUMN llmlog.audit_checkpoints.hash IS 'hash of that row of audit_logs.';

-- The row as text, in a form that depends on no setting of a session. `sql/queries/audit.sql` writes the same: verify
-- must not trust a function of the database that it checks.
CREATE FUNCTION llmlog.audit_text(r llmlog.audit_logs) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CAST(jsonb_build_array(
        1, r.seq, r.id, CAST(extract(epoch FROM r.recorded_at) * 1000000 AS bigint),
        CAST(extract(epoch FROM r.updated_at) * 1000000 AS bigint), r.changed_by, r.changed_by_api_key, r.action,
        r.table_name, r.object_id, r.before_value, r.updated_values, r.operation, r.outcome, r.error_class,
        r.status_code, r.source, r.route, r.requester_ip_address, r.trace_id, r.span_id, r.service_name, to_jsonb(r.notes)
    ) AS text)
$$;

-- SECURITY DEFINER: whoever may insert gets a link of the chain that it cannot choose. One at a time, from here to
-- COMMIT: the chain has one order. What is there already is passed over, so a second delivery changes nothing.
CREATE FUNCTION llmlog.audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last_seq  bigint;
    last_hash bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('llmlog.audit_logs', 0));
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

CREATE TRIGGER audit_chain BEFORE INSERT ON llmlog.audit_logs FOR EACH ROW EXECUTE FUNCTION llmlog.audit_chain();

-- For everybody, the owner too. Rows that retention has signed off may go.
CREATE FUNCTION llmlog.audit_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_LEVEL = 'ROW' AND TG_OP = 'DELETE' AND TG_TABLE_NAME = 'audit_logs' THEN
        IF OLD.seq <= (SELECT max(seq) FROM llmlog.audit_checkpoints WHERE kind = 'pruned') THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'llmlog.% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END;
$$;

CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE ON llmlog.audit_logs FOR EACH ROW EXECUTE FUNCTION llmlog.audit_refuse();
CREATE TRIGGER audit_refuse_truncate BEFORE TRUNCATE ON llmlog.audit_logs FOR EACH STATEMENT EXECUTE FUNCTION llmlog.audit_refuse();
CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE ON llmlog.audit_checkpoints FOR EACH ROW EXECUTE FUNCTION llmlog.audit_refuse();
CREATE TRIGGER audit_refuse_truncate BEFORE TRUNCATE ON llmlog.audit_checkpoints FOR EACH STATEMENT EXECUTE FUNCTION llmlog.audit_refuse();

-- A checkpoint says what is in the chain, or it is none. Only who may delete may sign off; the chain tells of it.
CREATE FUNCTION llmlog.audit_checkpoint() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.made_at := clock_timestamp();
    NEW.made_by := session_user;
    IF NOT EXISTS (SELECT FROM llmlog.audit_logs WHERE seq = NEW.seq AND hash = NEW.hash) THEN
        RAISE EXCEPTION 'no row of audit_logs has this seq and hash' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.kind = 'pruned' THEN
        IF NOT has_table_privilege('llmlog.audit_logs', 'DELETE') THEN
            RAISE EXCEPTION 'only a role that may delete from audit_logs signs off' USING ERRCODE = 'insufficient_privilege';
        END IF;
        INSERT INTO llmlog.audit_logs (id, updated_at, changed_by, action, table_name, object_id, updated_values, operation, source)
        VALUES (gen_random_uuid()::text, clock_timestamp(), session_user, 'deleted', 'llmlog.audit_logs', NEW.seq::text,
                jsonb_build_object('up_to_seq', NEW.seq, 'up_to_hash', encode(NEW.hash, 'hex')), 'audit.prune', 'llmlog');
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER audit_checkpoint BEFORE INSERT ON llmlog.audit_checkpoints FOR EACH ROW EXECUTE FUNCTION llmlog.audit_checkpoint();

-- ALWAYS: not even a session that plays the part of a replica passes them by.
ALTER TABLE llmlog.audit_logs ENABLE ALWAYS TRIGGER audit_chain;
ALTER TABLE llmlog.audit_logs ENABLE ALWAYS TRIGGER audit_refuse;
ALTER TABLE llmlog.audit_logs ENABLE ALWAYS TRIGGER audit_refuse_truncate;
ALTER TABLE llmlog.audit_checkpoints ENABLE ALWAYS TRIGGER audit_refuse;
ALTER TABLE llmlog.audit_checkpoints ENABLE ALWAYS TRIGGER audit_refuse_truncate;
ALTER TABLE llmlog.audit_checkpoints ENABLE ALWAYS TRIGGER audit_checkpoint;

-- Not SECURITY DEFINER: only a role that may delete can. Rows without a gap from the beginning; what is left begins at
-- the first row that is young enough. Answers how many are signed off; they are deleted apart, in small lots.
CREATE FUNCTION llmlog.sign_off_audit(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signed bigint := coalesce((SELECT max(seq) FROM llmlog.audit_checkpoints WHERE kind = 'pruned'), 0);
    until  bigint;
BEGIN
    SELECT min(seq) - 1 INTO until FROM llmlog.audit_logs WHERE seq > signed AND recorded_at >= before;
    IF until IS NULL THEN
        SELECT max(seq) INTO until FROM llmlog.audit_logs WHERE seq > signed;
    END IF;
    IF until IS NULL OR until <= signed THEN
        RETURN 0;
    END IF;
    INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) SELECT 'pruned', seq, hash FROM llmlog.audit_logs WHERE seq = until;
    RETURN until - signed;
END;
$$;

COMMENT ON FUNCTION llmlog.sign_off_audit(timestamptz) IS 'Signs off the rows stored before this time, so that they may be deleted. Answers how many.';

-- For LiteLLM's queries and dashboards, with search_path = llmlog. LiteLLM records what was done, not what was tried.
CREATE VIEW llmlog."LiteLLM_AuditLog" AS
SELECT id,
       CAST(updated_at AT TIME ZONE 'UTC' AS timestamp(3)) AS updated_at,
       coalesce(changed_by, '') AS changed_by,
       coalesce(changed_by_api_key, '') AS changed_by_api_key,
       action,
       table_name,
       object_id,
       before_value,
       updated_values
FROM llmlog.audit_logs
WHERE outcome = 'success';

COMMENT ON VIEW llmlog."LiteLLM_AuditLog" IS 'audit_logs with the columns and types of LiteLLM''s table, operations that succeeded.';
