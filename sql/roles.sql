-- Three roles for llmlog, as `llmlog db roles` makes them. Run it on the database that has the tables, as a role that may
-- create roles and owns the tables, or as a superuser. Run again it gives each role exactly these rights anew.
BEGIN;
SET LOCAL lock_timeout = '10s';
SET LOCAL search_path = pg_catalog, pg_temp;

DO $make$
DECLARE
    wanted    text;
    statement text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[:'owner', :'writer', :'reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
        IF NOT has_database_privilege(wanted, current_database(), 'CONNECT') THEN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), wanted);
        END IF;
    END LOOP;
    -- Only a member may give things to a role.
    IF NOT pg_has_role(:'owner', 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', :'owner');
    END IF;
    -- What belongs to whom the tables or the schema belong to now. What somebody else has put there is left alone.
    FOR statement IN
        WITH before AS (
            SELECT relowner AS role FROM pg_class WHERE oid = 'llmlog.alembic_version'::regclass
            UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'llmlog'
            EXCEPT SELECT oid FROM pg_roles WHERE rolname = :'owner'
        )
        SELECT format('ALTER %s llmlog.%I OWNER TO %I', CASE relkind WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, relname, :'owner')
        FROM pg_class
        WHERE relnamespace = 'llmlog'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'c') AND relowner IN (SELECT role FROM before)
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO %I', oid::regprocedure, :'owner')
        FROM pg_proc
        WHERE pronamespace = 'llmlog'::regnamespace AND proowner IN (SELECT role FROM before)
        UNION ALL
        SELECT format('ALTER SCHEMA llmlog OWNER TO %I', :'owner')
        FROM pg_namespace
        WHERE nspname = 'llmlog' AND nspowner IN (SELECT role FROM before)
    LOOP
        EXECUTE statement;
    END LOOP;
END;
$make$;

REVOKE ALL ON SCHEMA llmlog FROM PUBLIC, :"writer", :"reader";
REVOKE ALL ON ALL TABLES IN SCHEMA llmlog FROM PUBLIC, :"writer", :"reader";
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA llmlog FROM PUBLIC, :"writer", :"reader";
GRANT USAGE ON SCHEMA llmlog TO :"writer", :"reader";

-- The reader: all that is stored, contents and dead letters, too.
GRANT SELECT ON ALL TABLES IN SCHEMA llmlog TO :"reader";

-- The writer: what it stores it cannot read back, but for the keys by which it knows what is there already.
:writer_tables

DO $functions$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, g.role)
        FROM pg_proc p
        JOIN (VALUES (:'writer', :writer_functions), (:'reader', :reader_functions)) g (role, names) ON p.proname = ANY (g.names)
        WHERE p.pronamespace = 'llmlog'::regnamespace
    LOOP
        EXECUTE statement;
    END LOOP;
END;
$functions$;

-- Partitions to come, and what later versions make.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA llmlog GRANT SELECT ON TABLES TO :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
COMMIT;
