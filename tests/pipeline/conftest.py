"""What the tests of the pipeline share."""

from __future__ import annotations

import pytest

from otel_llmlog.pipeline.spool import files


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are written to, not mapped: as on file systems that keep no space."""
    monkeypatch.setattr(files, "can_map", lambda _: False)
