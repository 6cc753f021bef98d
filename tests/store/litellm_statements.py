"""Prints LiteLLM's SQL on the tables of spend and audit, out of its installed package, as JSON. Runs in its environment.

Found: each text that names one of our views, or a table that is only known when it runs, under the file and the function
or constant that holds it. Constants are put in; what else the text leaves open stands in it in braces. Conditions: what
its list of logs can be filtered by. Built and
alone: what its builders of statements make of an example.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

VIEWS = sys.argv[1].split(",")
PACKAGE = Path(sys.argv[2])
OURS = re.compile("|".join(rf'"{view}"' for view in VIEWS) + r'|(?:FROM|JOIN) "\{')
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE)\b")


def _texts(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Every string in the module, and the function or constant that it stands in; strings within strings are left out."""

    def walk(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.expr]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            scope = node.name
        elif scope == "" and isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            scope = ast.unparse(target)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            yield scope, node
            return
        for child in ast.iter_child_nodes(node):
            if not (isinstance(node, ast.Expr) and isinstance(child, ast.Constant)):  # a docstring
                yield from walk(child, scope)

    yield from walk(tree, "")


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the module's names stand for."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
    return found


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    """The text with constants put in; `{…}` where it is made when it runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, constants) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, constants)
    if isinstance(node, ast.Name) and node.id in constants:
        value = constants[node.id]
        if isinstance(value, ast.Constant | ast.JoinedStr):
            return _text(value, constants)
    return "{" + ast.unparse(node) + "}"


def _found() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if not any(view in source for view in VIEWS) and 'FROM "{' not in source:
            continue
        tree = ast.parse(source)
        constants, seen = _constants(tree), dict[str, int]()
        for scope, node in _texts(tree):
            text = _text(node, constants)
            if OURS.search(text) and SQL.search(text):
                name = f"{path.relative_to(PACKAGE)}:{scope}"
                seen[name] = seen.get(name, 0) + 1
                found[name if seen[name] == 1 else f"{name}#{seen[name]}"] = text
    return found


def _conditions() -> list[str]:
    """What `ui_view_spend_logs` adds to its conditions, one by one."""
    path = PACKAGE / "proxy/spend_tracking/spend_management_endpoints.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = _constants(tree)
    [function] = [node for node in ast.walk(tree) if getattr(node, "name", "") == "ui_view_spend_logs"]
    return [
        _text(node.args[0], constants)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sql_conditions.append"
    ]


def _built(first: str, last: str) -> dict[str, tuple[str, list[object]]]:
    from litellm.repositories import daily_activity_sql as builders
    from litellm.types.repositories.daily_activity import DailyActivityScope, DailyActivityTable, ExportType

    examples = {
        "api_key_limit": 5, "offset": 0, "limit": 10, "search": "h", "model_group": "gpt-4o", "by_model_group": True,
        "export_type": ExportType.DAILY, "after": None, "batch_size": 100,
    }  # fmt: skip
    fields = {
        "USER": "user_id",
        "TEAM": "team_id",
        "TAG": "tag",
        "ORGANIZATION": "organization_id",
        "CUSTOMER": "end_user_id",
    }
    known = set(inspect.signature(DailyActivityScope).parameters)
    made = {}
    for table, field in fields.items():
        scope = {
            "table": DailyActivityTable[table], "entity_id_field": field, "start_date": first, "end_date": last,
            "entity_ids": None, "exclude_entity_ids": None, "model": None, "api_keys": None,
            "timezone_offset_minutes": None, "include_current_utc_day": False,
        }  # fmt: skip
        for name, builder in inspect.getmembers(builders, inspect.isfunction):
            if name.startswith("build_") and name.endswith("_sql"):
                asked = [parameter for parameter in inspect.signature(builder).parameters if parameter != "scope"]
                query = builder(
                    DailyActivityScope(**{key: value for key, value in scope.items() if key in known}),
                    **{key: examples[key] for key in asked},
                )
                made[f"{name} {table}"] = (query.sql, list(query.params))
    return made


def _run_alone(path: str, given: dict[str, object], wanted: str) -> object:
    """What `wanted` is in a module, of its constants and functions that need nothing but one another and what is given.

    The module cannot be imported: it wants a web server's libraries.
    """
    namespace: dict[str, object] = {"MappingProxyType": MappingProxyType, **given}
    for node in ast.parse((PACKAGE / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.Assign | ast.AnnAssign):
            body: list[ast.stmt] = [ast.ImportFrom("__future__", [ast.alias("annotations")], 0), node]
            code = compile(ast.fix_missing_locations(ast.Module(body, [])), path, "exec")
            with contextlib.suppress(NameError):  # it needs more: it is none of those that build SQL
                exec(code, namespace)  # the installed package's own definitions, which it would run, too
    return namespace[wanted]


def _alone() -> dict[str, str]:
    from litellm import constants
    from litellm.types.integrations import anthropic_cache_control_hook as hook

    marker = {"GATEWAY_INJECTED_CACHE_METADATA_KEY": hook.GATEWAY_INJECTED_CACHE_METADATA_KEY}
    cached = _run_alone("proxy/management_endpoints/prompt_caching_requests.py", marker, "prompt_caching_requests_sql")
    rows = {"SPEND_LOG_KEY_METADATA_ROWS_PER_PROBE": constants.SPEND_LOG_KEY_METADATA_ROWS_PER_PROBE}
    aliases = _run_alone("proxy/spend_tracking/key_metadata_recovery.py", rows, "_SPEND_LOG_ALIAS_SQL")
    assert callable(cached)
    return {
        "prompt_caching_requests all": cached("all"),
        "prompt_caching_requests hits": cached("hits"),
        "key_metadata_recovery": str(aliases),
    }


if __name__ == "__main__":
    print(
        json.dumps({"found": _found(), "conditions": _conditions(), "built": _built(*sys.argv[3:5]), "alone": _alone()})
    )
