"""A process that is killed while hostile requests are under way leaves no word of their content anywhere."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.capture.hostile import BODIES
from tests.faults.conftest import BIN, SCRIPTS

ROOT = Path(__file__).parents[2]
# A minute: nothing here takes so long, unless it is stuck.
SECONDS = 60.0


def test_after_kill_9_no_content_is_in_the_spool_or_the_table(
    environment: dict[str, str], tmp_path: Path, drain: Callable[[], None], rows: Callable[[], list[dict[str, Any]]]
) -> None:
    number = len(BODIES) + 2
    with socket.create_server(("127.0.0.1", 0), backlog=number) as server:
        server.settimeout(SECONDS)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [str(BIN / "opentelemetry-instrument"), sys.executable, str(SCRIPTS / "hostile.py"), url]
        process = subprocess.Popen(command, env={**environment, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
        connections = []
        try:
            for _ in range(number):
                connection, _ = server.accept()
                connection.settimeout(SECONDS)
                # A request that has come was noted before it went out.
                assert connection.recv(1) == b"P"
                connections.append(connection)
        finally:
            process.kill()
            process.wait(SECONDS)
            for connection in connections:
                connection.close()
    spooled = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert spooled.count(b"completion") > len(BODIES) // 2
    assert b"canary7" not in spooled
    drain()
    found = rows()
    assert len(found) == number
    assert {row["error_class"] for row in found} == {"ProcessTerminated"}
    assert "canary7" not in str(found)
    models = Counter(row["model"] or "" for row in found)
    assert models == Counter([*(model for _, _, model in BODIES), "whisper-1", ""])
