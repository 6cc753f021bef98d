"""A process that makes calls as a test tells it to."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.faults.conftest import BIN, SCRIPTS

# A minute: nothing here takes so long, unless it is stuck.
SECONDS = 60.0


class App:
    """`scripts/driven.py`, run with capture on."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        command = [str(BIN / "opentelemetry-instrument"), sys.executable, str(SCRIPTS / "driven.py"), *arguments]
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def call(self, times: int) -> None:
        """Each call must be answered, whatever the spool says."""
        assert self.ask(f"call {times}") == [200] * times

    def numbers(self) -> dict[str, int]:
        """Its counters at a quiet moment, which must account for every call."""
        found: dict[str, int] = self.ask("numbers")
        assert found.get("captured", 0) == found["waiting"] + sum(
            number
            for name, number in found.items()
            if name in {"written", "duplicates", "dead"} or name.startswith("dropped.")
        )
        return found

    def quit(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("quit\n")
        self._process.stdin.close()
        assert self._process.wait(SECONDS) == 0
