"""What keeps the chain of audit logs: tables, triggers and functions, as they were made and as they are.

Always true: what is expected comes from the migrations of this program, never from the database; whatever else fires,
rewrites or hides rows on the chain's tables is told, whoever put it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256

from otel_llmlog.store import sql

TABLES = ("audit_logs", "audit_checkpoints")

_FUNCTION = re.compile(
    r"^CREATE (?:OR REPLACE )?FUNCTION llmlog\.(\w+)\s*\([^;]*?\)\s*RETURNS (.*?)\bAS \$\$(.*?)\$\$",
    re.DOTALL | re.MULTILINE,
)
_TRIGGER = re.compile(
    r"^(CREATE TRIGGER (\w+) [^;]*? ON llmlog\.(audit_logs|audit_checkpoints) [^;]*?FUNCTION llmlog\.(\w+)\(\));",
    re.MULTILINE,
)
_CALLED = re.compile(r"\bllmlog\.(\w+)\s*\(")
_SETTING = re.compile(r"\bSET (\w+) = ([^\n]*?)\s*(?=\bSET\b|\bSECURITY\b|$)", re.MULTILINE)
# What nobody calls but who removes old rows.
_SIGN_OFF = "sign_off_audit"

# As the migrations make them, in the words of `audit_shape`.
_TABLE = "kind r, persistence p, method heap"
_COLUMNS = {
    "audit_logs": {
        "seq": "bigint NOT NULL",
        "id": "text NOT NULL",
        "recorded_at": "timestamp with time zone NOT NULL",
        "updated_at": "timestamp with time zone NOT NULL",
        "changed_by": "text",
        "changed_by_api_key": "text",
        "action": "text NOT NULL",
        "table_name": "text NOT NULL",
        "object_id": "text NOT NULL DEFAULT ''::text",
        "before_value": "jsonb",
        "updated_values": "jsonb",
        "operation": "text",
        "outcome": "text NOT NULL DEFAULT 'success'::text",
        "error_class": "text",
        "status_code": "integer",
        "source": "text NOT NULL DEFAULT 'app'::text",
        "route": "text",
        "requester_ip_address": "text",
        "trace_id": "text",
        "span_id": "text",
        "service_name": "text",
        "notes": "text[] NOT NULL DEFAULT '{}'::text[]",
        "previous_hash": "bytea NOT NULL",
        "hash": "bytea NOT NULL",
    },
    "audit_checkpoints": {
        "id": "bigint NOT NULL IDENTITY a",
        "kind": "text NOT NULL",
        "seq": "bigint NOT NULL",
        "hash": "bytea NOT NULL",
        "made_at": "timestamp with time zone NOT NULL DEFAULT clock_timestamp()",
        "made_by": "text NOT NULL DEFAULT SESSION_USER",
        "recorded_at": "timestamp with time zone",
    },
}
_CONSTRAINTS = {
    "constraint audit_logs_pkey of audit_logs": "PRIMARY KEY (seq)",
    "constraint audit_logs_id_key of audit_logs": "UNIQUE (id)",
    "constraint audit_logs_updated_at_check of audit_logs": "CHECK (isfinite(updated_at))",
    "constraint audit_logs_outcome_check of audit_logs": (
        "CHECK ((outcome = ANY (ARRAY['success'::text, 'failure'::text, 'refused'::text])))"
    ),
    # Rows that were there before it are not looked at.
    "constraint within_bounds of audit_logs": (
        "CHECK (((updated_at >= '0001-01-02 00:00:00+00'::timestamp with time zone) AND "
        "(updated_at < '10000-01-01 00:00:00+00'::timestamp with time zone))) NOT VALID (not validated)"
    ),
    "constraint audit_checkpoints_pkey of audit_checkpoints": "PRIMARY KEY (id)",
    "constraint audit_checkpoints_kind_check of audit_checkpoints": (
        "CHECK ((kind = ANY (ARRAY['verified'::text, 'pruned'::text])))"
    ),
}
_INDEXES = {
    f"index {name} of {table}": f"CREATE UNIQUE INDEX {name} ON llmlog.{table} USING btree ({column})"
    for name, table, column in (
        ("audit_logs_pkey", "audit_logs", "seq"),
        ("audit_logs_id_key", "audit_logs", "id"),
        ("audit_checkpoints_pkey", "audit_checkpoints", "id"),
    )
}


def function_names() -> list[str]:
    """The functions on which the chain rests, those that they call included."""
    return sorted(_functions())


def triggers() -> list[str]:
    """The triggers that make the chain and keep it."""
    return sorted(_triggers())


def differences(found: Iterable[tuple[str, str]]) -> list[str]:
    """What is not as this program made it, of what `audit_shape` found: its name, and how it is."""
    expected, there = _expected(), dict(found)
    told = []
    for name in sorted(expected.keys() | there.keys()):
        made, says = expected.get(name), there.get(name)
        if made == says:
            continue
        if says is None:
            told.append(f"{name} is missing or off" if name.startswith("trigger") else f"{name} is missing")
        elif made is None:
            told.append(f"{name} is not of otel-llmlog's making{_shown(says)}")
        else:
            told.append(f"{name} is not as otel-llmlog made it{_shown(says)}")
    return told


def _shown(says: str) -> str:
    return f": {says}" if says else ""


@cache
def _expected() -> Mapping[str, str]:
    columns = {
        f"column {name} of {table}": says for table, columns in _COLUMNS.items() for name, says in columns.items()
    }
    tables = {f"table {table}": _TABLE for table in TABLES}
    return {**tables, **columns, **_CONSTRAINTS, **_INDEXES, **_triggers(), **_functions_told()}


@cache
def _triggers() -> Mapping[str, str]:
    return {
        # In the database's order of words.
        f"trigger {name} of {table}": " ".join(statement.split()).replace("UPDATE OR DELETE", "DELETE OR UPDATE")
        for text in sql.migrations().values()
        for statement, name, table, _ in _TRIGGER.findall(text)
    }


def _functions_told() -> Mapping[str, str]:
    return {
        f"function llmlog.{name}": ", ".join(
            [
                "security definer" if "SECURITY DEFINER" in header else "security invoker",
                *(f"{setting}={value}" for setting, value in _SETTING.findall(header)),
                sha256(source.encode()).hexdigest()[:16],
            ]
        )
        for name, (header, source) in _functions().items()
    }


@cache
def _functions() -> Mapping[str, tuple[str, str]]:
    made = {
        name: (header, source) for text in sql.migrations().values() for name, header, source in _FUNCTION.findall(text)
    }
    called = {function for text in sql.migrations().values() for *_, function in _TRIGGER.findall(text)}
    wanted, found = [*called, _SIGN_OFF], {}
    while wanted:
        name = wanted.pop()
        if name in made and name not in found:
            found[name] = made[name]
            wanted += _CALLED.findall(made[name][1])
    return found
