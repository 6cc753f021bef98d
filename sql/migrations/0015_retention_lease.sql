-- Who removes old rows now: a lease instead of a lock, so that it takes one connection and works behind every pooler.
--
-- Safe on a big table and beside older writers: two columns without a default on a table of two rows. A process of the
-- version before goes by its own lock; should it remove rows at the same time, each row and partition goes once.

ALTER TABLE llmlog.maintenance
    ADD COLUMN lease        uuid,
    ADD COLUMN leased_until timestamptz;

COMMENT ON COLUMN llmlog.maintenance.lease IS 'Which process is at it. It renews this with every transaction.';
COMMENT ON COLUMN llmlog.maintenance.leased_until IS 'When others may go on with it, should that process be gone.';
