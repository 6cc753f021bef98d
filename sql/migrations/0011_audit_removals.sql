-- How old were the audit logs that a sign-off removes, and which writers are too old for the tables.
--
-- Safe on a big table: columns without a default for two tables of few lines, and functions. Writers of the versions
-- before go on as they did.

-- A migration after which rows of older writers would not fit sets this. None has so far.
ALTER TABLE llmlog.maintenance ADD COLUMN revision text;
INSERT INTO llmlog.maintenance (task, revision) VALUES ('oldest_writer', '0001') ON CONFLICT (task) DO NOTHING;

COMMENT ON COLUMN llmlog.maintenance.revision IS 'Of the task oldest_writer: programs that know older revisions only must not write.';

-- How old a row was when it was signed off as removed is all that tells, once it is gone, whether it was its time.
ALTER TABLE llmlog.audit_checkpoints ADD COLUMN recorded_at timestamptz;

COMMENT ON COLUMN llmlog.audit_checkpoints.recorded_at IS 'When the row at seq was stored. NULL in checkpoints of older versions.';

-- As in 0004. The chain tells how old the last row was, too. gen_random_uuid() is not there before PostgreSQL 13; what cannot
-- be guessed will do as an id: nobody may put another row under it first.
CREATE OR REPLACE FUNCTION llmlog.audit_checkpoint() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.made_at := clock_timestamp();
    NEW.made_by := session_user;
    SELECT recorded_at INTO NEW.recorded_at FROM llmlog.audit_logs WHERE seq = NEW.seq AND hash = NEW.hash;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no row of audit_logs has this seq and hash' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.kind = 'pruned' THEN
        IF NOT has_table_privilege('llmlog.audit_logs', 'DELETE') THEN
            RAISE EXCEPTION 'only a role that may delete from audit_logs signs off' USING ERRCODE = 'insufficient_privilege';
        END IF;
        INSERT INTO llmlog.audit_logs (id, updated_at, changed_by, action, table_name, object_id, updated_values, operation, source)
        VALUES (md5(concat(random(), random(), clock_timestamp(), NEW.seq)), clock_timestamp(), session_user, 'deleted', 'llmlog.audit_logs', NEW.seq::text,
                jsonb_build_object('up_to_seq', NEW.seq, 'up_to_hash', encode(NEW.hash, 'hex'), 'up_to_recorded_at', NEW.recorded_at),
                'audit.prune', 'llmlog');
    END IF;
    RETURN NEW;
END;
$$;

-- As in 0004. What is still to be stored is nobody's to remove.
CREATE OR REPLACE FUNCTION llmlog.sign_off_audit(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signed bigint := coalesce((SELECT max(seq) FROM llmlog.audit_checkpoints WHERE kind = 'pruned'), 0);
    until  bigint;
BEGIN
    IF before > clock_timestamp() THEN
        RAISE EXCEPTION 'rows cannot be signed off before they are stored' USING ERRCODE = 'invalid_parameter_value';
    END IF;
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
