"""What an audit event costs its caller, how fast events are stored, how long the chain takes to verify.

    python benchmarks/audit.py [--rows 100000]

`record` is the time on the calling thread: values taken and masked, appended to the spool; `sync` waits for COMMIT on a
Postgres of this machine. Stored: `PostgresExporter.export` in batches of 512, chained by the trigger. Verify: all of
`llmlog audit verify`. Medians; for this machine only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from otel_llmlog.store import audit_chain, embedded, migrate
from otel_llmlog.store.postgres import PostgresExporter

BEFORE = {
    "team_id": "t1",
    "team_alias": "blue",
    "max_budget": 10,
    "models": ["gpt-4o", "gpt-4o-mini"],
    "metadata": {"note": "x" * 200},
}
AFTER = {**BEFORE, "max_budget": 20}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=100_000)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        url = embedded.start(Path(directory) / "postgres")
        migrate.upgrade(url)
        os.environ |= {"LLMLOG_DATABASE_URL": url, "LLMLOG_SPOOL_DIR": str(Path(directory) / "spool")}
        import otel_llmlog
        from otel_llmlog import audit

        otel_llmlog.instrument()
        for sync in (False, True):
            spent = []
            for _ in range(2_000):
                began = time.perf_counter()
                audit.record(audit.TEAM_BUDGET, object_id="t1", before=BEFORE, after=AFTER, changed_by="ada", sync=sync)
                spent.append(time.perf_counter() - began)
            print(f"record(sync={sync}): {statistics.median(spent) * 1e6:,.0f} µs")
        otel_llmlog.flush()
        _store(url, options.rows)
        spent = []
        for _ in range(3):
            began = time.perf_counter()
            found = audit_chain.verify(url)
            spent.append(time.perf_counter() - began)
            assert not found.findings
        print(f"verify: {found.rows:,} rows in {statistics.median(spent):.2f} s")


def _store(url: str, rows: int) -> None:
    from otel_llmlog.audit import recording
    from otel_llmlog.audit.catalogue import TEAM_BUDGET
    from otel_llmlog.pipeline.logs import record_of

    details = {"object_id": "t1", "before": BEFORE, "after": AFTER, "changed_by": "ada"}
    made = [record_of(recording.event(TEAM_BUDGET, details), "shop") for _ in range(rows)]
    exporter = PostgresExporter(url)
    began = time.perf_counter()
    for start in range(0, rows, 512):
        exporter.export(made[start : start + 512])
    print(f"stored: {rows / (time.perf_counter() - began):,.0f} rows/s")
    exporter.close()


if __name__ == "__main__":
    main()
