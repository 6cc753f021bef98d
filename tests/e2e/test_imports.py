"""No HTTP library is ever imported behind the app's back: its SDK may look for one in `sys.modules` at any moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import OLDER, SCRIPTS


@pytest.mark.parametrize("python", [Path(sys.executable), OLDER], ids=["openai 3 on httpx2", "openai 2 on httpx"])
def test_http_libraries_are_imported_by_the_apps_own_thread_alone(
    app_environment: dict[str, str], tmp_path: Path, python: Path
) -> None:
    # tiktoken has to fetch its vocabulary, and there is no network.
    nowhere = {"TIKTOKEN_CACHE_DIR": str(tmp_path / "vocabularies"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [str(python), str(SCRIPTS / "imports_app.py")]
    done = subprocess.run(
        command, env={**app_environment, **nowhere}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
