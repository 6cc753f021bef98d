"""What it costs to note an intent or an outcome in the spool, beside a bare `os.write` of the same bytes.

How to read it: four loops take turns in small rounds, so a slow moment of the machine meets all of them. Figures are
medians over the rounds, wall time of the calling thread in µs; "ratio" is that to the bare write of its bytes in the
same round. An intent is 300 bytes, an outcome 2,500. No fsync: that is the disk's figure, not ours.

Run: `python benchmarks/spool.py [directory]`.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.spool import Intent, Spool, decode_record, encode_intent, encode_record

ROUNDS, APPENDS = 151, 500
INTENT_BYTES, OUTCOME_BYTES = 300, 2500
HEADER_BYTES = 25


def loop(body: Callable[[], object]) -> float:
    """µs of one call of `body`."""
    start = time.perf_counter()
    for _ in range(APPENDS):
        body()
    return (time.perf_counter() - start) / APPENDS * 1e6


def main() -> None:
    """Print a line for each kind of append."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        directory = Path(name)
        spool = Spool(directory / "spool", max_bytes=8 << 30, segment_bytes=8 << 20)
        bare = os.open(directory / "bare", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        intent, outcome = os.urandom(INTENT_BYTES), os.urandom(OUTCOME_BYTES)
        plain_intent, plain_outcome = bytes(INTENT_BYTES + HEADER_BYTES), bytes(OUTCOME_BYTES + HEADER_BYTES)
        times: dict[str, list[float]] = {"intent": [], "bare intent": [], "outcome": [], "bare outcome": [], "read": []}
        for _ in range(ROUNDS):
            os.ftruncate(bare, 0)
            tickets: list[int] = []
            times["bare intent"].append(loop(lambda: os.write(bare, plain_intent)))
            times["intent"].append(loop(lambda tickets=tickets: tickets.append(spool.begin(intent))))
            times["bare outcome"].append(loop(lambda: os.write(bare, plain_outcome)))
            times["outcome"].append(loop(lambda tickets=tickets: spool.finish(tickets.pop(), outcome)))
            start = time.perf_counter()
            spool.ack(spool.read(APPENDS))
            times["read"].append((time.perf_counter() - start) / APPENDS * 1e6)
        assert not any(spool.close()[:2])
        os.close(bare)
    for kind in ("intent", "outcome"):
        ratio = statistics.median(a / b for a, b in zip(times[kind], times[f"bare {kind}"], strict=True))
        took, plain = statistics.median(times[kind]), statistics.median(times[f"bare {kind}"])
        print(f"{kind:8} append {took:6.2f} µs   bare os.write {plain:6.2f} µs   ratio {ratio:5.2f}")
    print(f"outcome  read and acknowledged {statistics.median(times['read']):6.2f} µs")

    facts = {
        "operation": "chat",
        "api_base": "https://api.openai.com/v1/",
        "provider": "openai",
        "model": "gpt-4o-mini",
    }
    started = Intent(bytes(range(16)), 0xB7AD6B7169203331, None, time.time_ns(), "shop", facts)
    attributes = {f"llmlog.metadata.field_{i}": f"value {i}" for i in range(40)} | {"llmlog.prompt_tokens": 200}
    record = Record("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", None, 1, 2, "shop", attributes)
    data = encode_record(record)
    print(f"encode an intent of {len(encode_intent(started))} bytes {loop(lambda: encode_intent(started)):6.2f} µs")
    print(f"encode a record of {len(data)} bytes {loop(lambda: encode_record(record)):6.2f} µs")
    print(f"decode it {loop(lambda: decode_record(data)):6.2f} µs")


if __name__ == "__main__":
    main()
