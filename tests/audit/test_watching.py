"""Watched models: a change and its audit event are one transaction, whoever dies when, and each is one row."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from sqlalchemy import ForeignKey, create_engine, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import otel_llmlog
from otel_llmlog import audit
from otel_llmlog.audit import outbox, recording, watching
from otel_llmlog.errors import AuditNotRecorded
from tests.audit.conftest import Auditing


class Base(DeclarativeBase): ...


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str] = mapped_column(default="user")
    password: Mapped[str | None]
    keys: Mapped[list[AccountKey]] = relationship(cascade="all, delete-orphan", back_populates="account")


class AccountKey(Base):
    __tablename__ = "account_keys"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    alias: Mapped[str]
    account: Mapped[Account] = relationship(back_populates="keys")


class Direct(Base):
    """Watched without an outbox."""

    __tablename__ = "direct"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Unwatched(Base):
    __tablename__ = "unwatched"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


audit.watch(Account, table_name="LiteLLM_UserTable")
audit.watch(AccountKey)
audit.watch(Direct, outbox=False)


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A database of the app's own."""
    if request.param == "sqlite":
        made = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    else:
        url = request.getfixturevalue("empty_database_url")
        made = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url))
    Base.metadata.create_all(made)
    yield made
    watching.flush(10)
    outbox._forwarders.pop(made, None)
    made.dispose()


def rows_of(audited: Auditing) -> list[tuple[Any, ...]]:
    assert watching.flush(20)
    return [
        (row["action"], row["table_name"], row["object_id"], row["before_value"], row["updated_values"])
        for row in audited.new_rows()
    ]


def waiting(engine: Any) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM llmlog_audit_outbox"))


ADA = {"id": 1, "name": "ada", "role": "user", "password": "[redacted]"}


def test_insert_update_and_delete_are_rows_with_before_and_after(audited: Auditing, engine: Any) -> None:
    with otel_llmlog.context(user="root"):
        with Session(engine) as session:
            account = Account(name="ada", password="canary")
            session.add_all([account, Unwatched(name="x")])
            session.commit()
            account.role = "admin"
            session.commit()
            account.role = "admin"  # nothing changes
            session.commit()
            session.delete(account)
            session.commit()
    assert watching.flush(20)
    rows = audited.new_rows()
    assert [(r["action"], r["before_value"], r["updated_values"]) for r in rows] == [
        ("created", None, ADA),
        ("updated", ADA, {**ADA, "role": "admin"}),
        ("deleted", {**ADA, "role": "admin"}, None),
    ]
    assert {(r["changed_by"], r["table_name"], r["object_id"], r["source"]) for r in rows} == {
        ("root", "LiteLLM_UserTable", "1", "sqlalchemy")
    }
    assert waiting(engine) == 0


def test_before_is_known_in_a_session_that_never_read_the_object(audited: Auditing, engine: Any) -> None:
    with Session(engine) as session:
        session.add(Account(name="ada", password="canary"))
        session.commit()
    with Session(engine) as session:
        account = session.get_one(Account, 1)
        session.expire_all()
        account.role = "admin"
        session.commit()
        session.expire_all()
        session.delete(account)
        session.commit()
    assert [row[0::3] for row in rows_of(audited)] == [
        ("created", None),
        ("updated", ADA),
        ("deleted", {**ADA, "role": "admin"}),
    ]


def test_cascades_and_orphans_are_rows_too(audited: Auditing, engine: Any) -> None:
    with Session(engine) as session:
        account = Account(name="ada", keys=[AccountKey(alias="a"), AccountKey(alias="b")])
        session.add(account)
        session.commit()
        account.keys.pop(0)
        session.commit()
        session.delete(account)
        session.commit()
    assert [row[:2] for row in rows_of(audited)] == [
        ("created", "LiteLLM_UserTable"),
        ("created", "account_keys"),
        ("created", "account_keys"),
        ("deleted", "account_keys"),
        ("deleted", "account_keys"),
        ("deleted", "LiteLLM_UserTable"),
    ]


def test_a_rollback_leaves_neither_change_nor_event(audited: Auditing, engine: Any) -> None:
    with Session(engine) as session:
        session.add_all([Account(name="ada"), Direct(name="d")])
        session.flush()
        session.rollback()
        session.add_all([Account(name="bob"), Direct(name="kept")])
        session.flush()
        with pytest.raises(IntegrityError):
            with session.begin_nested():
                session.add_all([Direct(name="lost with its savepoint"), Account(name="bob")])
                session.flush()
        with session.begin_nested():
            session.add(Direct(name="kept, too"))
        session.commit()
    names = [(row[1], row[4]["name"]) for row in rows_of(audited)]
    assert sorted(names) == [("LiteLLM_UserTable", "bob"), ("direct", "kept"), ("direct", "kept, too")]


def test_bulk_statements_are_a_row_for_each_object_they_change(audited: Auditing, engine: Any) -> None:
    with Session(engine) as session:
        session.execute(insert(Account).values([{"name": "a"}, {"name": "b"}]))
        session.execute(insert(Account), [{"name": "c", "role": "admin"}, {"name": "d", "role": "admin"}])
        session.execute(update(Account).where(Account.name.in_(["a", "b"])).values(role="admin"))
        session.execute(update(Account).where(Account.name == "nobody").values(role="admin"))
        session.execute(update(Unwatched).values(name="y"))
        session.execute(delete(Account).where(Account.name == "c"))
        session.commit()
        assert len(session.scalars(select(Account)).all()) == 3
    rows = rows_of(audited)
    assert [row[0] for row in rows] == ["created"] * 4 + ["updated"] * 2 + ["deleted"]
    assert [(row[3]["role"], row[4]["role"]) for row in rows[4:6]] == [("user", "admin")] * 2
    assert (rows[6][3]["name"], rows[6][4]) == ("c", None)


def test_a_change_without_its_outbox_table_is_refused_with_a_clear_error(audited: Auditing, engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE llmlog_audit_outbox"))
    with Session(engine) as session:
        session.add(Account(name="ada"))
        with pytest.raises(AuditNotRecorded, match="create the table llmlog_audit_outbox"):
            session.commit()
        session.rollback()
        assert session.scalars(select(Account)).all() == []
    Base.metadata.create_all(engine)


def test_events_wait_in_the_outbox_while_the_audit_logs_are_away_and_come_once(audited: Auditing, engine: Any) -> None:
    recording.install(None)
    with Session(engine) as session:
        session.add_all([Account(name=f"n{number}") for number in range(250)])
        session.commit()
    assert waiting(engine) == 250
    with pytest.raises(AuditNotRecorded, match="not switched on"):
        audit.forward(engine)
    recording.install(audited.processor)
    assert watching.flush(20)
    assert waiting(engine) == 0
    assert len(rows_of(audited)) == 250
    assert audit.forward(engine) == 0


def test_a_forwarder_that_dies_after_delivery_delivers_no_second_row(
    audited: Auditing, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "kick", lambda _engine: None)  # this test is the only forwarder
    with Session(engine) as session:
        session.add(Account(name="ada"))
        session.commit()
    with engine.connect() as connection:
        assert outbox._lot(connection) == (1, None)
        connection.rollback()  # as if the process had been killed before its COMMIT
    assert waiting(engine) == 1
    assert audit.forward(engine) == 1
    assert waiting(engine) == 0
    assert len(rows_of(audited)) == 1


def test_several_forwarders_share_an_outbox(audited: Auditing, empty_database_url: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(empty_database_url))
    Base.metadata.create_all(engine)
    recording.install(None)
    with Session(engine) as session:
        session.add_all([Account(name=f"n{number}") for number in range(500)])
        session.commit()
    recording.install(audited.processor)
    threads = [threading.Thread(target=audit.forward, args=(engine,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows_of(audited)) == 500
    assert waiting(engine) == 0
    engine.dispose()


def test_an_event_the_audit_logs_refuse_becomes_a_dead_letter_and_holds_nobody_up(
    audited: Auditing, engine: Any
) -> None:
    with psycopg.connect(audited.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE llmlog.audit_logs ADD CONSTRAINT no_eve CHECK (changed_by <> 'eve')")
        try:
            with Session(engine) as session:
                for user in ("eve", "ada"):
                    with otel_llmlog.context(user=user):
                        session.add(Account(name=user))
                        session.flush()
                session.execute(text("INSERT INTO llmlog_audit_outbox (event_id, event) VALUES ('x', 'no event')"))
                session.commit()
            assert [row[4]["name"] for row in rows_of(audited)] == ["ada"]
            assert waiting(engine) == 1
        finally:
            connection.execute("ALTER TABLE llmlog.audit_logs DROP CONSTRAINT no_eve")
        found = connection.execute(
            "SELECT record->'attributes'->>'llmlog.audit.changed_by' FROM llmlog.dead_letters"
        ).fetchall()
    assert ("eve",) in found


KILLED = """
import os, sys
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from tests.audit.test_watching import Account, Base
engine = create_engine(sys.argv[1])
with Session(engine) as session:
    session.add(Account(name="committed"))
    session.commit()
    session.add(Account(name="flushed"))
    session.flush()
    os.kill(os.getpid(), 9)
"""


def test_after_kill_9_what_was_committed_is_forwarded_by_the_next_process(audited: Auditing, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    done = subprocess.run([sys.executable, "-c", KILLED, url], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -9
    assert audit.forward(engine) == 1
    ((action, _, _, _, after),) = rows_of(audited)
    assert (action, after["name"]) == ("created", "committed")
    engine.dispose()


async def test_an_async_engine_is_forwarded_on_request(audited: Auditing, empty_database_url: str) -> None:
    engine = create_async_engine(
        "postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect(empty_database_url)
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        session.add_all([Account(name="ada"), Direct(name="d")])
        await session.commit()
    assert await audit.aforward(engine) == 1
    assert await audit.aforward(engine) == 0
    await engine.dispose()
    assert {row[1] for row in rows_of(audited)} == {"direct", "LiteLLM_UserTable"}


def test_the_app_may_have_its_own_name_for_what_it_watches_and_subclasses_count(
    audited: Auditing, tmp_path: Path
) -> None:
    class OwnBase(DeclarativeBase): ...

    class Animal(OwnBase):
        __tablename__ = "animals"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        tags: Mapped[list[Any]] = relationship("Tag")
        __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class Dog(Animal):
        __mapper_args__: ClassVar = {"polymorphic_identity": "dog"}

    audit.watch(Animal)  # whose Tag is not defined yet

    class Tag(OwnBase):
        __tablename__ = "tags"
        id: Mapped[int] = mapped_column(primary_key=True)
        animal_id: Mapped[int] = mapped_column(ForeignKey("animals.id"))

    audit.watch(Animal, table_name="a second time changes nothing")
    engine = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
    OwnBase.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Dog())
        session.commit()
    assert [row[:3] for row in rows_of(audited)] == [("created", "animals", "1")]
