"""The settings file: YAML, ours or LiteLLM's, read into values by the names of settings.

Always true: reading takes bounded time and memory, whatever the file holds; no object but texts, numbers, lists and
mappings is ever made of it; an error is one line that names the file, the line, the key and the name that was meant.
Keys of LiteLLM's that are no settings of ours pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import yaml

from otel_llmlog import files
from otel_llmlog.errors import ConfigError

VARIABLE = "LLMLOG_CONFIG"
OURS = "llmlog"
# Sections that are read, the last one winning. The first two are LiteLLM's.
SECTIONS = ("litellm_settings", "general_settings", OURS)
# LiteLLM's way to take a value from the environment inside its YAML, and its section that adds to the environment.
_FROM_ENVIRONMENT = "os.environ/"
_MORE_ENVIRONMENT = "environment_variables"
# What else stands at the top of LiteLLM's file.
_OF_LITELLM = frozenset({
    "agent_list", "assistant_settings", "callback_settings", "credential_list", "default_vertex_config",
    "environment_variables", "files_settings", "finetune_settings", "guardrails", "include", "mcp_aliases",
    "mcp_servers", "mcp_tools", "model_list", "policies", "policy_attachments", "prompts", "router_settings",
    "search_tools", "vector_store_registry",
})  # fmt: skip
# LiteLLM's files of a thousand models have 300 KB, no more than ten levels, and some ten thousand values, aliases
# expanded.
MAX_BYTES = 4 << 20
_MAX_DEPTH = 64
_MAX_VALUES = 500_000

Form = Literal["text", "number", "switch", "names", "table"]
"""What a setting is: text as it is written, a number, true or false, a list, or a table of names."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_NATIVE = {"number": {f"{_TAG}int", f"{_TAG}float"}, "switch": {f"{_TAG}int", f"{_TAG}bool"}}
_TEXTS = {f"{_TAG}{name}" for name in ("str", "timestamp", "value", "int", "float", "bool")}
_NULL, _MERGE = f"{_TAG}null", f"{_TAG}merge"


class Given(NamedTuple):
    """What the file says of a setting, and where: `llmlog.batch_size in /etc/llmlog.yaml, line 3,`."""

    value: Any
    where: str
    """Which key of which file, and in which line."""


class _File(NamedTuple):
    name: str
    environ: Mapping[str, str]
    forms: Mapping[str, Form]


def read(path: Path, environ: Mapping[str, str], forms: Mapping[str, Form]) -> dict[str, Given]:
    """Settings in a YAML file of ours or LiteLLM's, `os.environ/NAME` resolved. Raises ConfigError."""
    name = _shown(str(path))
    root = _root(path, name)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{name} must hold sections, such as {', '.join(SECTIONS)}; found {_kind(root)}")
    top = _members(root, name)
    _check_top([key for key, _, _ in top], name, forms, {key: line for key, _, line in top})
    sections = {key: (node, line) for key, node, line in top}
    more, _ = sections.get(_MORE_ENVIRONMENT, (None, 0))
    if isinstance(more, yaml.MappingNode):
        added = {key: node.value for key, node, _ in _members(more, name) if isinstance(node, yaml.ScalarNode)}
        environ = {**added, **environ}
    file = _File(name, environ, forms)
    found: dict[str, Given] = {}
    for section in SECTIONS:
        node, line = sections.get(section, (None, 0))
        if node is None or node.tag == _NULL:
            continue
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{section} in {name}, line {line}, must be a mapping of settings, found {_kind(node)}")
        found.update(_section(section, node, file))
    return found


def _root(path: Path, name: str) -> yaml.Node | None:
    must = f"{VARIABLE} must name a readable YAML file, and {name} is none"
    try:
        text = files.read(path, MAX_BYTES).decode("utf-8-sig")
        _check_size(text)
        root: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{must}: {files.reason(error)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{must}: byte {error.start} is no UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{must}: {_problem(error)}") from None
    return root


def _check_size(text: str) -> None:
    """Refuse, before anything is made of it, what nests too deep or grows too large. Raises yaml.YAMLError."""
    sizes: dict[str, int] = {}  # of what has an anchor, its aliases expanded
    above: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        problem = ""
        if isinstance(event, yaml.CollectionStartEvent):
            above.append((event.anchor, total))
            total += 1
            if len(above) > _MAX_DEPTH:
                problem = f"it nests deeper than {_MAX_DEPTH} levels"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = above.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            name = event.anchor or ""
            total += sizes.get(name, 0)
            if name not in sizes:
                problem = f"the alias {name[:40]!r} stands before or inside of what it stands for"
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if total > _MAX_VALUES:
            problem = f"it has more than {_MAX_VALUES:,} values, its aliases expanded"
        if problem:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    return _shown(f"{problem}{f', line {mark.line + 1}' if mark is not None else ''}")


def _check_top(keys: list[str], name: str, forms: Mapping[str, Form], lines: Mapping[str, int]) -> None:
    known = [key for key in keys if key in SECTIONS or key in _OF_LITELLM]
    for key in keys:
        if key in known:
            continue
        where = f"{_shown(key)} in {name}, line {lines[key]},"
        if (setting := _plain(key)) in forms:
            raise ConfigError(f"{where} stands outside of a section; put {setting} under `{OURS}:`")
        if near := difflib.get_close_matches(key.strip().lower(), [*SECTIONS, *_OF_LITELLM], n=1, cutoff=0.8):
            raise ConfigError(f"{where} is no section; did you mean {near[0]}?")
        if not known:
            near = difflib.get_close_matches(_plain(key), forms, n=1)
            meant = f"did you mean {near[0]} under `{OURS}:`?" if near else f"settings stand under `{OURS}:`"
            raise ConfigError(f"{where} is no section; {meant}")


def _section(section: str, node: yaml.MappingNode, file: _File) -> Iterator[tuple[str, Given]]:
    for key, value, line in _members(node, file.name, file.forms if section != OURS else None):
        where = f"{section}.{_shown(key)} in {file.name}, line {line},"
        if key not in file.forms:
            if section != OURS and not key.lower().startswith(f"{OURS}_"):
                continue  # LiteLLM's own
            near = difflib.get_close_matches(_plain(key), file.forms, n=1)
            meant = f"; did you mean {near[0]}?" if near else "; the README has a list of all"
            raise ConfigError(f"{where} is no setting{meant}")
        read = _value(value, where, file.forms[key], file)
        if read not in (None, ""):  # as a variable that is empty: not said
            by = f" by {_shown(value.value)}," if str(value.value).startswith(_FROM_ENVIRONMENT) else ""
            yield key, Given(read, where + by)


def _members(
    node: yaml.MappingNode, name: str, only: Mapping[str, Form] | None = None
) -> list[tuple[str, yaml.Node, int]]:
    """Keys, values and lines of a mapping, `<<` included. Raises ConfigError for a key that is there twice.

    `only`: names of which that is asked. What else stands in LiteLLM's sections is LiteLLM's to check.
    """
    own: dict[str, tuple[yaml.Node, int]] = {}
    merged: dict[str, tuple[yaml.Node, int]] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _MERGE:
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(source, yaml.MappingNode):
                    for name_there, node_there, line_there in _members(source, name, only):
                        merged.setdefault(name_there, (node_there, line_there))
            continue
        if not isinstance(key, yaml.ScalarNode):
            continue  # a list or a mapping as a key names no setting
        if key.value in own and (only is None or key.value in only):
            raise ConfigError(f"{_shown(key.value)} in {name} is there twice, in lines {own[key.value][1]} and {line}")
        own[key.value] = value, line
    return [(key, value, line) for key, (value, line) in {**merged, **own}.items()]


def _value(node: yaml.Node, where: str, form: Form, file: _File) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, where, file, form)
    if isinstance(node, yaml.SequenceNode) and form in {"names", "table"}:
        if form == "table":
            return _table(node, where, file)
        return tuple(text for part in node.value if (text := _text(part, where, file)))
    if isinstance(node, yaml.MappingNode) and form == "table":
        pairs = _members(node, file.name)
        return {name: _text(value, where, file) or "" for name, value, _ in pairs}
    allowed = {"names": "a list, or names separated by commas", "table": "a mapping, or name=value pairs"}
    raise ConfigError(f"{where} must be {allowed.get(form, 'one value')}, found {_kind(node)}")


def _table(node: yaml.SequenceNode, where: str, file: _File) -> dict[str, str]:
    """A list of `name=value`, or of mappings."""
    found: dict[str, str] = {}
    for part in node.value:
        if isinstance(part, yaml.MappingNode):
            found.update({name: _text(value, where, file) or "" for name, value, _ in _members(part, file.name)})
            continue
        name, separator, value = (_text(part, where, file) or "").partition("=")
        if not separator:
            raise ConfigError(f"{where} must be a mapping, or name=value pairs")
        found[name.strip()] = value.strip()
    return found


def _text(node: yaml.Node, where: str, file: _File) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(f"{where} must hold plain values, found {_kind(node)}")
    return cast("str | None", _scalar(node, where, file))


def _scalar(node: yaml.ScalarNode, where: str, file: _File, form: Form = "text") -> Any:
    """As it is written, since `team_id: 0042` is meant as text; numbers and switches by YAML's rules."""
    if node.tag == _NULL:
        return None
    if node.tag not in _TEXTS:
        raise ConfigError(f"{where} must be a plain value, found the tag {_shown(node.tag.removeprefix(_TAG))}")
    text = str(node.value)
    if text.startswith(_FROM_ENVIRONMENT):
        variable = text.removeprefix(_FROM_ENVIRONMENT)
        if variable not in file.environ:
            raise ConfigError(f"{where} takes its value from {_shown(variable)}, which is not set in the environment")
        return file.environ[variable]
    if node.tag in _NATIVE.get(form, ()):
        try:
            return yaml.SafeLoader("").construct_object(node)
        except ValueError:  # no number after all, or one of thousands of digits: told as a wrong value
            return text
    return text


def _plain(key: str) -> str:
    return key.strip().lower().replace("-", "_").removeprefix(f"{OURS}_")


def _kind(node: yaml.Node | None) -> str:
    if node is None or node.tag == _NULL:
        return "nothing"
    if isinstance(node, yaml.CollectionNode):
        return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
    return "text"


def _shown(text: str) -> str:
    """A name of the file's on one line, not longer than a line."""
    short = text if len(text) <= 200 else f"{text[:200]}…"
    return short if short.isprintable() else repr(short)
