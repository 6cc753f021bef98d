"""What is recorded of other wires has the shape that their SDKs read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_recorded_replies_have_the_shapes_of_the_types_of_their_sdks() -> None:
    command = [str(ROOT / ".venv-sdks" / "bin" / "python"), str(Path(__file__).with_name("sdk_shapes.py"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    *wrong, tried = done.stdout.splitlines()
    assert wrong == []
    assert int(tried) > 90
