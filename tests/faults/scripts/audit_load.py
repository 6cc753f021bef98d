"""Threads that record audit events without pause; each says on stdout what was accepted, at once or in the queue."""

import itertools
import os
import sys
import threading
import time

import otel_llmlog
from otel_llmlog import audit

NAME, SECONDS, MODE = sys.argv[1], float(sys.argv[2]), sys.argv[3]
numbers = itertools.count()


def work(worker, until):
    while time.monotonic() < until:
        name = f"{NAME}-{next(numbers)}"
        sync = MODE == "sync" or (MODE == "mixed" and worker == 0)
        said = "ok"
        try:
            audit.record(
                audit.KEY_UPDATE, object_id=name, after={"n": name}, changed_by="ada", event_id=name, sync=sync
            )
        except otel_llmlog.AuditNotRecorded:
            said = "raised"
        os.write(1, f"{name} {said} {'sync' if sync else 'queued'}\n".encode())
        time.sleep(0.002)


def run(count=3):
    # From here on: a busy machine takes its time to get so far.
    until = time.monotonic() + SECONDS
    threads = [threading.Thread(target=work, args=(n, until)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


otel_llmlog.instrument()
if MODE == "fork":
    audit.record(audit.KEY_UPDATE, object_id="before", changed_by="ada", event_id=f"{NAME}-before", sync=True)
    children = []
    for child in range(2):
        pid = os.fork()
        if pid == 0:
            NAME = f"{NAME}-child{child}"
            audit.record(audit.KEY_UPDATE, object_id="c", changed_by="ada", event_id=f"{NAME}-sync", sync=True)
            os.write(1, f"{NAME}-sync ok sync\n".encode())
            run()
            otel_llmlog.flush(20)
            os._exit(0)
        children.append(pid)
    run()
    for pid in children:
        os.waitpid(pid, 0)
else:
    run()
