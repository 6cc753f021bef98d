-- How old were the audit logs that a sign-off removes, and which writers are too old for the tables.
--
-- Safe on a big table: columns without a default for two tables of few lines, and functions. Writers of the versions
-- before go on as they did.

-- A migration after which rows of older writers would not fit sets this. None has so far.
ALTER TABLE llmlog.maintenance ADD COLUMN revision text;
INSERT INTO llmlog.maintenance (task, revision) VALUES ('oldest_writer', '0001') ON CONFLICT (task) DO NOTHING;

COMMENT ON COLUMN llmlog.maintenance.revision IS 'Of the task oldest_writer: programs that know older revisions only must not write.';
