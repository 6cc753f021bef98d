"""From finished calls to a delivered batch: the record, the queue, the worker, the seam to where records go."""
