"""What a role of the database lacks for its work, as SQL that grants it.

Always true: the database is asked, whatever language its messages are in; names are quoted; nothing of a row, a
statement or the connection's secrets is told.
"""

from __future__ import annotations

from typing import Literal

import psycopg

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import connect, roles, sql
from otel_llmlog.store.failures import failure, statement_of

Work = Literal["writer", "reader", "owner"]
_LACKING = "42501"
# Each answers with statements that grant what is missing.
_QUERIES: dict[Work, tuple[str, ...]] = {
    "writer": ("rights_on_schema", "rights_on_tables", "rights_to_call"),
    "reader": ("rights_on_schema", "rights_to_read", "rights_to_call"),
    "owner": ("rights_to_upgrade",),
}


def told(error: BaseException | None, info: str, work: Work) -> str:
    """What an error of the database means for who does this work, in one line. `info`: how the database is reached.

    If rights are missing, it ends with the SQL that grants them, for whoever may.
    """
    if getattr(error, "sqlstate", None) != _LACKING:
        return failure(error).advice
    statement = statement_of(error)
    what = "the database role may not do that" + (f" ({statement})" if statement else "")
    if work == "owner":
        what += ", only a role that owns the tables may"
    missing = _missing(info, work)
    if not missing:
        return f"{what}: run it as one that may; `llmlog db roles --print` shows what each role needs"
    return f"{what}; as the owner of the tables or a superuser run: {'; '.join(missing)}"


def _missing(info: str, work: Work) -> list[str]:
    """SQL for all that the role lacks, so that the next try does not meet the next missing right."""
    tables, rights, columns = zip(*roles.WRITER_TABLES, strict=True)
    given = {
        "tables": list(tables),
        "rights": list(rights),
        "columns": list(columns),
        "functions": list(roles.READER_FUNCTIONS if work == "reader" else roles.WRITER_FUNCTIONS),
    }
    try:
        with connect.connection(info) as connection:
            found: list[str] = []
            for query in _QUERIES[work]:
                with connect.transaction(connection):
                    found += [str(row[-1]) for row in connection.execute(sql.queries()[query].encode(), given)]
            return found
    except (psycopg.Error, StoreUnavailable):
        return []
