"""Counters: each process says what it did itself."""

from __future__ import annotations

import os

import pytest

from otel_llmlog.pipeline import report
from otel_llmlog.stats import Stats
from tests.pipeline.spooling import run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_what_a_parent_did_is_not_counted_by_its_forked_children(tmp_path):
    stats = Stats()
    stats.count("captured", 3)
    stats.dropped("queue_full", 1)

    def child() -> None:
        assert stats.snapshot() == {}
        stats.count("captured", 2)
        report.write(str(tmp_path), stats, 0)

    run(child)
    report.write(str(tmp_path), stats, 2)
    found = report.read(str(tmp_path))
    assert sum(one.counts["captured"] for one in found) == 5
    assert sum(one.counts.get("dropped.queue_full", 0) for one in found) == 1
