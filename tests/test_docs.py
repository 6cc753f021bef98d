"""The README tells the truth: every setting and command is in it, with its default and in its own words."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from pydantic_core import PydanticUndefined

import otel_llmlog
from otel_llmlog import config
from otel_llmlog.cli.app import app
from otel_llmlog.payload import COUNTS
from otel_llmlog.store import connect

README = Path(__file__).parents[1] / "README.md"


def _default(value: object) -> str:
    if value is None or value is PydanticUndefined or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f"{value.days}d"
    return str(value)


def settings_table() -> str:
    """The table of settings as it should stand in the README."""
    lines = ["| setting | default | what it does |", "|---|---|---|"]
    for part in config.PARTS:
        source = Path(config.__file__).read_text(encoding="utf-8")
        body = source[source.index(f"class {part.__name__}(") :]
        for name, info in part.model_fields.items():
            said = re.search(rf"^    {name}: .*?\n    \"\"\"(.*?)\"\"\"", body, re.MULTILINE | re.DOTALL)
            assert said, f"{name} does not explain itself"
            words = " ".join(said[1].split()).replace("|", "\\|")
            lines.append(f"| `LLMLOG_{name.upper()}` | {_default(info.default)} | {words} |")
    return "\n".join(lines)


def test_the_readme_has_every_setting_with_its_default_and_its_own_words() -> None:
    text = README.read_text(encoding="utf-8")
    between = text.split("<!-- settings -->\n\n")[1].split("\n\n<!-- /settings -->")[0]
    assert between == settings_table(), "copy the table from settings_table()"


def test_the_readme_has_every_command() -> None:
    text = README.read_text(encoding="utf-8")
    commands = typer.main.get_command(app)
    names = []
    for name, command in commands.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        names += [f"{name} {inner}" for inner in below] if below else [name]
    assert names
    for name in names:
        assert f"`llmlog {name}" in text or f"llmlog {name} " in text, f"llmlog {name} is not in the README"


def test_the_page_on_prices_has_every_count_and_names_no_command_that_is_none() -> None:
    text = (README.parent / "docs" / "prices.md").read_text(encoding="utf-8")
    assert [name for name in COUNTS if f"`{name}`" not in text] == []
    root = typer.main.get_command(app)
    for line in re.findall(r"^\$ llmlog (.+)$", text, re.MULTILINE):
        command, words = root, line.split()
        while below := getattr(command, "commands", None):
            command = below[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_the_page_on_postgres_has_what_is_tried_set_and_left_out() -> None:
    root = README.parent
    page = " ".join((root / "docs" / "postgres.md").read_text(encoding="utf-8").split())
    found = re.search(r"^POSTGRES_VERSIONS := (.+)$", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    majors = {int(version.split(".")[0]): ".".join(version.split(".")[:2]) for version in found[1].split()}
    assert sorted(majors) == list(range(connect.OLDEST - 1, max(majors) + 1))  # the one before is refused
    assert [version for major, version in majors.items() if major >= connect.OLDEST and version not in page] == []
    told = connect.settings(180_000)
    assert [name for name in re.findall(r"SET LOCAL (\S+) =", told) if f"`{name}`" not in page] == []


def test_the_front_door_is_a_sorted_list_of_all_that_is_public() -> None:
    public = {name for name, value in vars(otel_llmlog).items() if not name.startswith("_") and not _is_module(value)}
    assert sorted(otel_llmlog.__all__) == otel_llmlog.__all__
    assert set(otel_llmlog.__all__) == public


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
def test_every_python_example_compiles(block: str) -> None:
    compile(block, "README", "exec")
