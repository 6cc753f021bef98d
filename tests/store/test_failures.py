"""Every error has one meaning: try again, or set the row aside. Advice holds nothing of the error's own text."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from otel_llmlog.store.failures import OF_THE_ROW, TRY_AGAIN, by_state, failure

ADVICE = {
    # Connections: broken, refused, used up.
    "08000": "the connection broke",
    "08006": "the connection broke",
    "57P01": "shutting down",
    "57P02": "shutting down",
    "57P03": "shutting down",
    "53300": "max_connections",
    "28P01": "refused user or password",
    "3D000": "does not exist",
    # Contention: the next try meets nobody.
    "40001": "tried again",
    "40P01": "tried again",
    "55P03": "lock was not given",
    "57014": "took too long",
    # Resources and state of the server.
    "53100": "disk is full",
    "53200": "out of resources",
    "25006": "standby",
    "25P03": "raise idle_in_transaction_session_timeout",
    "25P04": "raise transaction_timeout",
    "55000": "in the state it is in",
    "58030": "disk or system failed",
    "XX001": "failed inside",
    # The tables: a person must act, the records wait meanwhile.
    "42P01": "llmlog db upgrade",
    "42703": "llmlog db upgrade",
    "42501": "llmlog db roles --print",
    "3F000": "llmlog db upgrade",
}


@pytest.mark.parametrize("state", ADVICE)
def test_what_is_not_the_rows_fault_is_tried_again_with_advice(state: str) -> None:
    found = by_state(state)
    assert not found.of_the_row
    assert ADVICE[state] in found.advice


@pytest.mark.parametrize("state", ["22003", "22021", "22P02", "22P05", "23502", "23514", "54000", "P0001", "21000"])
def test_what_is_the_rows_fault_is_never_tried_again(state: str) -> None:
    assert by_state(state).of_the_row


def test_each_state_that_postgres_knows_has_one_meaning() -> None:
    assert not {state[:2] for state in TRY_AGAIN} & OF_THE_ROW.keys()
    states = [state for state in errors._sqlcodes if len(state) == 5 and state[2:].isalnum()]
    assert len(states) > 200
    for state in states:
        found = by_state(state)
        assert found.of_the_row == (state[:2] in OF_THE_ROW)
        assert found.advice
        assert "\n" not in found.advice


def test_a_state_nobody_knows_is_tried_again() -> None:
    assert by_state("ZZ999") == ("the database failed (SQLSTATE ZZ999)", False)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('connection failed: FATAL:  password authentication failed for user "x"', "refused user or password"),
        ('FATAL:  database "x" does not exist', "create it"),
        ('FATAL:  role "x" does not exist', "refused user or password"),
        ("FATAL:  sorry, too many clients already", "max_connections"),
        ("FATAL:  the database system is starting up", "starting or stopping"),
        ("FATAL:  the database system is in recovery mode", "starting or stopping"),
        ('could not translate host name "db" to address: Name or service not known', "host name is unknown"),
        ("failed to resolve host 'db': [Errno -2] Name or service not known", "host name is unknown"),
        ("connection timeout expired", "did not answer in time"),
        ("could not receive data from server: Connection timed out", "did not answer in time"),
        ("SSL error: certificate verify failed", "sslmode"),
        ("server closed the connection unexpectedly", "the connection broke"),
        ("the connection is closed", "the connection broke"),
        ("consuming input failed: could not receive data: Connection reset by peer, connection reset", "broke"),
        ("connection failed: Connection refused", "nothing listens"),
        ('connection to server on socket "/x" failed: No such file or directory', "nothing listens"),
        ('connection failed: FATAL:  could not access file "x": No such file or directory', "cannot begin a session"),
        ("etwas ganz anderes: geheim", "cannot be reached"),
        ("", "cannot be reached"),
    ],
)
def test_a_failure_of_the_network_is_tried_again_with_advice(message: str, advice: str) -> None:
    found = failure(psycopg.OperationalError(message))
    assert not found.of_the_row
    assert advice in found.advice
    assert "geheim" not in found.advice


def test_a_stored_value_that_cannot_be_read_is_not_told_as_an_unreachable_database() -> None:
    found = failure(psycopg.DataError("timestamp too large (after year 10K): geheim"))
    assert found == ("a value is none that this program can read, such as a year beyond 9999", False)
