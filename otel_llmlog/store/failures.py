"""What a database error means, and what to do about it: try again, or set the row aside.

Three tables decide: `TRY_AGAIN` and `OF_THE_ROW` by SQLSTATE, `_BY_PHRASE` for failures to connect, which have none.
What no table knows is tried again: a loss cannot be undone, a wait can.

Always true: the advice is fixed text. The database's own message is never passed on: it may quote a row's values or
the connection string.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from psycopg import DataError, errors

UPGRADE = "run `llmlog db upgrade`"


class Failure(NamedTuple):
    """An error of the database, understood."""

    advice: str
    """One line: what happened and what to do. Free of content and credentials."""
    of_the_row: bool
    """The rows are at fault, not the database: trying the same again is of no use."""


# The database or its set-up is at fault, or nobody is. By SQLSTATE or its class (the first two characters), the
# longest match wins: https://www.postgresql.org/docs/current/errcodes-appendix.html
TRY_AGAIN = {
    "0A": "a rule, or a view, stands in the way of a table of llmlog; remove it",
    "08": "the connection broke; it is made anew",
    "25": "the database takes no writes now: is it a standby, or is default_transaction_read_only on?",
    "25P03": "the database ends sessions at once; raise idle_in_transaction_session_timeout of role and database",
    "25P04": "the database ends transactions at once; raise transaction_timeout of role and database",
    "28": "the database refused user or password; check LLMLOG_DATABASE_URL",
    "2B": "objects that others have made depend on it, such as views: drop these first",
    "3D": "that database does not exist; create it, or check LLMLOG_DATABASE_URL",
    "3F": f"the llmlog schema is not there: {UPGRADE}",
    "40": "two transactions met; the batch is tried again",
    "42": f"the tables are not as this version needs them: {UPGRADE}",
    "42501": "the database role may not do that: `llmlog db roles --print` shows what each role may",
    "53": "the database is out of resources",
    "53100": "the database's disk is full",
    "53300": "the database has no connection left; raise max_connections or close some",
    "55": "the database refuses that in the state it is in; see its log",
    "55P03": "a lock was not given in time; another session holds the tables",
    "57": "the database stopped the statement or is shutting down",
    "57014": "the database took too long for one batch; is it overloaded?",
    "58": "the database's disk or system failed; see its log",
    "XX": "the database failed inside; see its log",
}
# The row is at fault and always will be. By class.
OF_THE_ROW = {
    "09": "a trigger keeps it out",
    "21": "one statement meets one line twice",
    "22": "a column cannot take the value",
    "23": "a constraint is broken",
    "44": "a view's condition is broken",
    "54": "the value exceeds a limit, such as the length of an index entry",
    "P0": "a trigger refuses it",
}

# What poolers say. PgBouncer gives all of it one code, as if the connection had broken.
_OF_POOLERS = (
    (
        r"not allowed in statement pooling mode",
        "the pooler gives each statement another session; set pool_mode to transaction or session",
    ),
    (
        r"unsupported startup parameter",
        "the pooler takes no options=… in LLMLOG_DATABASE_URL or PGOPTIONS; name it in its ignore_startup_parameters",
    ),
    (r"query_wait_timeout", "the pooler had no connection to the database free in time; raise its pool size"),
    (
        r"no more connections allowed|client_login_timeout",
        "the pooler takes no more clients; raise its max_client_conn",
    ),
    (
        r"server login (has been )?fail|cannot connect to server|server_login_retry",
        "the pooler cannot reach the database; see the pooler's log",
    ),
    (
        r"no such (user|database)|bouncer config error",
        "the pooler knows no such user or database; see its configuration",
    ),
)
_POOLERS_STATE = "08P01"

# libpq has no codes for failures to connect. Only these phrases are looked for; another language gets the last line.
_BY_PHRASE = (
    *_OF_POOLERS,
    (
        r"session is (not )?read-only|server is (not )?in hot standby mode|session is not writable",
        "none of the hosts in LLMLOG_DATABASE_URL takes writes now: is there a primary among them?",
    ),
    (
        # Such as `session_preload_libraries` of the role: the server's own words, not those of who looks for a socket.
        r"could not (access file|load library)",
        "the database cannot begin a session; see its log: a library or file that it is set to load is not there",
    ),
    (r"password authentication failed|no password supplied|no pg_hba\.conf entry", TRY_AGAIN["28"]),
    (r"database \".*\" does not exist", TRY_AGAIN["3D"]),
    (r"role \".*\" does not exist", TRY_AGAIN["28"]),
    (r"too many clients|remaining connection slots|too many connections", TRY_AGAIN["53300"]),
    (r"starting up|shutting down|recovery mode", "the database is starting or stopping"),
    (r"translate host name|resolve", "the database's host name is unknown; check LLMLOG_DATABASE_URL"),
    (r"timeout|timed out", "the database did not answer in time; is the address reachable?"),
    (r"SSL|certificate", "no secure connection to the database; check sslmode in LLMLOG_DATABASE_URL"),
    (r"closed the connection|connection (is )?(closed|lost|reset)", TRY_AGAIN["08"]),
    (r"refused|No such file", "nothing listens at the database's address; is the server running?"),
)
_UNREACHABLE = "the database cannot be reached; check LLMLOG_DATABASE_URL and that the server runs"


def failure(error: BaseException | None) -> Failure:
    """What this error of psycopg means."""
    state = getattr(error, "sqlstate", None)
    if state is None and isinstance(error, DataError):
        return Failure("a value is none that this program can read, such as a year beyond 9999", of_the_row=False)
    if state == _POOLERS_STATE:
        advice = next((advice for phrase, advice in _OF_POOLERS if re.search(phrase, str(error))), None)
        return Failure(advice, of_the_row=False) if advice else by_state(state)
    return by_state(state) if state else Failure(_connecting(str(error)), of_the_row=False)


_STATEMENT = re.compile(r"\s*([A-Z]+)\b.*?\b(llmlog\.\w+|SCHEMA llmlog)", re.DOTALL)
_NOTE = "llmlog statement: "


def note_statement(error: BaseException, statement: str) -> None:
    """Have the error remember which statement failed, by its name."""
    found = _STATEMENT.match(statement)
    if found and statement_of(error) is None:
        error.add_note(f"{_NOTE}{found[1]} {found[2]}")


def statement_of(error: BaseException | None) -> str | None:
    """The name of the statement that failed, such as `COPY llmlog.spend_logs`: what it does to what."""
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(_NOTE) for note in notes if note.startswith(_NOTE)), None)


def by_state(state: str) -> Failure:
    """What this SQLSTATE means."""
    if state[:2] in OF_THE_ROW:
        return Failure(f"the database refuses it: {condition(state)}", of_the_row=True)
    advice = TRY_AGAIN.get(state) or TRY_AGAIN.get(state[:2]) or "the database failed"
    return Failure(f"{advice} ({condition(state)})", of_the_row=False)


def condition(state: str) -> str:
    """The name of a SQLSTATE, such as `invalid_text_representation`."""
    try:
        name = errors.lookup(state).__name__
    except KeyError:
        return f"SQLSTATE {state}"
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _connecting(message: str) -> str:
    for phrase, advice in _BY_PHRASE:
        if re.search(phrase, message):
            return advice
    return _UNREACHABLE
