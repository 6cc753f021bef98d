-- owner_to_become --
-- Whom the tables belong to, or else the schema, if it is another role than this one and this one may act for it.
SELECT quote_ident(o.rolname) AS quoted
FROM (
    SELECT coalesce(
        (SELECT relowner FROM pg_class WHERE oid = to_regclass('llmlog.alembic_version')),
        (SELECT nspowner FROM pg_namespace WHERE nspname = 'llmlog')
    ) AS owner
) found
JOIN pg_roles o ON o.oid = found.owner
WHERE o.rolname <> current_user
  AND pg_has_role(o.oid, CASE WHEN CAST(current_setting('server_version_num') AS int) < 160000 THEN 'MEMBER' ELSE 'SET' END)
  AND has_schema_privilege(o.oid, to_regnamespace('llmlog'), 'CREATE')

-- functions_for --
-- GRANT statements for these functions, of all their forms, to all roles that hold this right on spend_logs themselves.
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s', p.oid::regprocedure, g.grantee::regrole) AS statement
FROM pg_proc p
CROSS JOIN (
    SELECT DISTINCT a.grantee
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
    WHERE c.oid = to_regclass('llmlog.spend_logs') AND a.privilege_type = CAST(:holding AS text)
      AND a.grantee NOT IN (0, c.relowner)
) g
WHERE p.pronamespace = to_regnamespace('llmlog') AND p.proname = ANY (CAST(:names AS text[]))
ORDER BY 1

-- functions_closed --
-- Postgres lets everybody call a new function.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA llmlog FROM PUBLIC
