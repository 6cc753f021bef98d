-- rights_on_schema --
-- What lets a role see into the schema. These take the driver's own parameters.
SELECT format('GRANT USAGE ON SCHEMA llmlog TO %%I', current_user)
FROM pg_namespace WHERE nspname = 'llmlog' AND NOT has_schema_privilege(oid, 'USAGE')

-- rights_on_tables --
-- What of these tables' rights a role lacks.
SELECT format('GRANT %%s ON llmlog.%%I TO %%I', w.wanted || coalesce(' (' || nullif(w.columns, '') || ')', ''), c.relname, current_user)
FROM unnest(%(tables)s::text[], %(rights)s::text[], %(columns)s::text[]) WITH ORDINALITY AS w (name, wanted, columns, at)
JOIN pg_class c ON c.relname = w.name AND c.relnamespace = to_regnamespace('llmlog')
WHERE NOT has_table_privilege(c.oid, w.wanted) AND (w.columns = '' OR EXISTS (
    SELECT FROM unnest(string_to_array(w.columns, ', ')) k WHERE NOT has_column_privilege(c.oid, k, w.wanted)
))
ORDER BY w.at

-- rights_to_read --
-- What lets a role read all tables, if it may not.
SELECT format('GRANT SELECT ON ALL TABLES IN SCHEMA llmlog TO %%I', current_user)
WHERE EXISTS (
    SELECT FROM pg_class
    WHERE relnamespace = to_regnamespace('llmlog') AND relkind IN ('r', 'p', 'v') AND NOT has_table_privilege(oid, 'SELECT')
)

-- rights_to_call --
-- Which of these functions a role may not call.
SELECT format('GRANT EXECUTE ON FUNCTION llmlog.%%I(%%s) TO %%I', proname, pg_get_function_identity_arguments(oid), current_user)
FROM pg_proc
WHERE pronamespace = to_regnamespace('llmlog') AND proname = ANY (%(functions)s) AND NOT has_function_privilege(oid, 'EXECUTE')
ORDER BY 1

-- rights_to_upgrade --
-- What an upgrade needs and the role lacks. It acts as the owner of the tables, or else of the schema, if it is a member.
WITH known AS (
    SELECT n.oid AS schema, n.nspowner,
           (SELECT relowner FROM pg_class WHERE relnamespace = n.oid AND relname = 'alembic_version') AS owner
    FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = 'llmlog'
), acting AS (
    SELECT *, CASE WHEN pg_has_role(coalesce(owner, nspowner), 'USAGE') THEN coalesce(owner, nspowner) ELSE (SELECT oid FROM pg_roles WHERE rolname = current_user) END AS role
    FROM known
)
SELECT 0, format('GRANT CREATE ON DATABASE %%I TO %%I', current_database(), current_user)
FROM acting WHERE schema IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')
UNION ALL
SELECT 1, format('GRANT %%I TO %%I', pg_get_userbyid(owner), current_user)
FROM acting JOIN pg_roles o ON o.oid = owner WHERE NOT pg_has_role(owner, 'USAGE') AND NOT o.rolsuper
UNION ALL
SELECT 2, format('GRANT USAGE, CREATE ON SCHEMA llmlog TO %%I', pg_get_userbyid(role))
FROM acting WHERE schema IS NOT NULL AND NOT has_schema_privilege(role, schema, 'CREATE') AND (owner IS NULL OR pg_has_role(owner, 'USAGE'))
UNION ALL
SELECT 3, format('ALTER %%s llmlog.%%I OWNER TO %%I', CASE c.relkind WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, c.relname, pg_get_userbyid(owner))
FROM acting JOIN pg_class c ON c.relnamespace = schema
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'c') AND c.relowner <> owner AND NOT pg_has_role(c.relowner, 'USAGE') AND pg_has_role(owner, 'USAGE')
UNION ALL
SELECT 4, format('ALTER FUNCTION llmlog.%%I(%%s) OWNER TO %%I', p.proname, pg_get_function_identity_arguments(p.oid), pg_get_userbyid(owner))
FROM acting JOIN pg_proc p ON p.pronamespace = schema
WHERE p.proowner <> owner AND NOT pg_has_role(p.proowner, 'USAGE') AND pg_has_role(owner, 'USAGE')
ORDER BY 1, 2
