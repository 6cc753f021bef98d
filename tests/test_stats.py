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


def test_a_warning_begins_with_our_name_and_is_told_again_once_it_is_over(caplog):
    stats = Stats()
    stats.over("away", "it is back")
    for _ in range(3):
        stats.warn("away", "it is away")
    stats.over("away", "it is back")
    stats.over("away", "it is back")
    assert [record.getMessage() for record in caplog.records] == ["otel-llmlog: it is away", "otel-llmlog: it is back"]


def test_what_comes_and_goes_is_warned_of_once_a_minute(caplog):
    stats = Stats()
    for _ in range(5):
        stats.warn("away", "it is away")
        stats.over("away", "it is back")
    assert [record.getMessage() for record in caplog.records] == ["otel-llmlog: it is away", "otel-llmlog: it is back"]
