"""SQLAlchemy's side of `watch`: what a flush or a bulk statement changes becomes audit events.

Always true: with the outbox an event is written on the connection that makes the change; without it, events of a
transaction or savepoint that is rolled back are forgotten with it. Before holds what was loaded; a change loads the
value it replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, event as events, inspect, select
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, SessionTransaction, object_session

from otel_llmlog.audit import outbox, recording
from otel_llmlog.payload import AuditEvent

# Rows of one bulk statement that get an event of their own; it is read before and after in any case.
MAX_BULK_ROWS = 10_000
# What is kept in `Session.info` while a transaction is under way.
_BEFORE, _MADE, _WROTE = "otel_llmlog_audit_before", "otel_llmlog_audit_made", "otel_llmlog_audit_wrote"


class _Watched(NamedTuple):
    model: type[Any]
    table_name: str
    outbox: bool


_watched: dict[type[Any], _Watched] = {}
_listening = False


def watch(models: Sequence[type[Any]], table_name: str | None, *, outbox: bool) -> None:
    """See `audit.watch`."""
    for model in models:
        if model in _watched:
            continue
        mapper: Mapper[Any] = inspect(model)
        _watched[model] = _Watched(model, table_name or str(mapper.local_table), outbox)
        if outbox:
            _outbox_of(model)
        for name, listener in (
            ("before_update", _before),
            ("before_delete", _before),
            ("after_insert", _after_insert),
            ("after_update", _after_update),
            ("after_delete", _after_delete),
        ):
            events.listen(model, name, listener, propagate=True)
        # Not `column_attrs`: that would configure all mappers, and some may not be defined yet.
        for key in mapper.columns.keys():  # noqa: SIM118 - no dict
            # Makes SQLAlchemy load the value that is replaced, if it is not there.
            events.listen(getattr(model, key), "set", _set, active_history=True, propagate=True)
    _listen()


def _listen() -> None:
    global _listening  # noqa: PLW0603 - Session's listeners are global by nature
    if _listening:
        return
    _listening = True
    events.listen(Session, "before_flush", _before_flush)
    events.listen(Session, "do_orm_execute", _bulk)
    events.listen(Session, "after_commit", _after_commit)
    events.listen(Session, "after_soft_rollback", _after_rollback)


def _outbox_of(model: type[Any]) -> Any:
    metadata = inspect(model).local_table.metadata
    outbox.table(metadata)
    return metadata


def _set(_target: Any, _value: Any, _old: Any, _initiator: Any) -> None: ...


def _found(model: type[Any]) -> _Watched | None:
    return next((_watched[cls] for cls in model.__mro__ if cls in _watched), None)


def _values(target: Any) -> dict[str, Any]:
    """Its columns, as far as they are loaded."""
    state = inspect(target)
    return {
        attribute.key: state.dict[attribute.key]
        for attribute in state.mapper.column_attrs
        if attribute.key in state.dict
    }


def _name(target: Any) -> str:
    return _identity(inspect(target).mapper.primary_key_from_instance(target))


def _identity(key: Sequence[Any]) -> str:
    return ",".join("" if part is None else str(part) for part in key)


def _before_flush(session: Session, _context: Any, _instances: Any) -> None:
    # An object that is deleted unread would leave nothing to tell; inside the flush it could not be read any more.
    for target in session.deleted:
        if _found(type(target)) is not None:
            for attribute in inspect(target).mapper.column_attrs:
                getattr(target, attribute.key)


def _before(_mapper: Any, _connection: Connection, target: Any) -> None:
    session = object_session(target)
    if session is None:
        return
    before = _values(target)
    for attribute in inspect(target).attrs:
        if attribute.key in before and (replaced := attribute.history.deleted):
            before[attribute.key] = replaced[0]
    session.info.setdefault(_BEFORE, {})[id(target)] = before


def _taken(target: Any) -> dict[str, Any] | None:
    session = object_session(target)
    return None if session is None else session.info.get(_BEFORE, {}).pop(id(target), None)


def _after_insert(_mapper: Any, connection: Connection, target: Any) -> None:
    _note(object_session(target), connection, type(target), "created", _name(target), None, _values(target))


def _after_update(_mapper: Any, connection: Connection, target: Any) -> None:
    before, after = _taken(target), _values(target)
    session = object_session(target)
    # SQLAlchemy asks for every object that was touched, though nothing of it may have changed.
    if session is not None and (before != after or session.is_modified(target, include_collections=False)):
        _note(session, connection, type(target), "updated", _name(target), before, after)


def _after_delete(_mapper: Any, connection: Connection, target: Any) -> None:
    before = _taken(target)
    _note(object_session(target), connection, type(target), "deleted", _name(target), before, None)


def _note(
    session: Session | None,
    connection: Connection,
    model: type[Any],
    action: str,
    object_id: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    notes: Sequence[str] = (),
) -> None:
    watched = _found(model)
    if watched is None or session is None:
        return
    made = recording.event(
        None,
        {
            "action": action,
            "table_name": watched.table_name,
            "object_id": object_id,
            "before": before,
            "after": after,
            "source": "sqlalchemy",
            "notes": list(notes),
        },
    )
    if watched.outbox:
        outbox.put(connection, _outbox_of(watched.model), made)
        session.info.setdefault(_WROTE, set()).add(connection.engine)
    else:
        session.info.setdefault(_MADE, []).append((session.get_nested_transaction() or session.get_transaction(), made))


def _bulk(state: ORMExecuteState) -> Any:
    """`session.execute(update(Model)…)` and the like, which pass the flush by."""
    if not (state.is_update or state.is_delete or state.is_insert) or state.bind_mapper is None:
        return None
    mapper: Mapper[Any] = state.bind_mapper
    if _found(mapper.class_) is None:
        return None
    session, connection = state.session, state.session.connection(bind_arguments={"mapper": mapper})
    if state.is_insert:
        result = state.invoke_statement()
        for given in _given(state):
            _note(session, connection, mapper.class_, "created", _given_identity(mapper, given), None, given)
        return result
    columns = [getattr(mapper.class_, attribute.key) for attribute in mapper.column_attrs]
    key = [getattr(mapper.class_, mapper.get_property_by_column(column).key) for column in mapper.primary_key]
    chosen = select(*columns).limit(MAX_BULK_ROWS + 1)
    statement: Any = state.statement
    if statement.whereclause is not None:
        chosen = chosen.where(statement.whereclause)
    names = [attribute.key for attribute in mapper.column_attrs]
    with session.no_autoflush:
        found = connection.execute(chosen.with_for_update(), state.parameters or {}).all()
    before = [dict(zip(names, row, strict=True)) for row in found[:MAX_BULK_ROWS]]
    notes = ["more rows than are told apart were changed"] if len(found) > MAX_BULK_ROWS else []
    result = state.invoke_statement()
    for old in before:
        identity = [old[column.key] for column in key]
        new = None
        if state.is_update:
            again = connection.execute(
                select(*columns).where(*(c == v for c, v in zip(key, identity, strict=True)))
            ).first()
            new = dict(zip(names, again, strict=True)) if again is not None else None
        if new != old:
            action = "updated" if state.is_update else "deleted"
            _note(session, connection, mapper.class_, action, _identity(identity), old, new, notes)
    return result


def _given(state: ORMExecuteState) -> list[dict[str, Any]]:
    """The rows that an INSERT statement was given."""
    parameters: Any = state.parameters
    if parameters:
        return [dict(one) for one in (parameters if isinstance(parameters, list) else [parameters])]
    compiled: Any = state.statement
    # SQLAlchemy has no other names for them.
    rows = compiled._multi_values[0] if compiled._multi_values else [compiled._values or {}]  # noqa: SLF001 - see above
    return [{str(getattr(c, "key", c)): getattr(v, "value", v) for c, v in row.items()} for row in rows]


def _given_identity(mapper: Mapper[Any], given: Mapping[str, Any]) -> str:
    return _identity([given.get(mapper.get_property_by_column(column).key) for column in mapper.primary_key])


def _after_commit(session: Session) -> None:
    if session.get_nested_transaction() is not None:  # a savepoint that is released; it may still be rolled back
        return
    for engine in session.info.pop(_WROTE, ()):
        outbox.kick(engine)
    made: list[tuple[SessionTransaction | None, AuditEvent]] = session.info.pop(_MADE, [])
    for _, event in made:
        recording.submit(event)


def _after_rollback(session: Session, previous: SessionTransaction) -> None:
    def inside(transaction: SessionTransaction | None) -> bool:
        while transaction is not None:
            if transaction is previous:
                return True
            transaction = transaction.parent
        return False

    if _MADE in session.info:
        session.info[_MADE] = [(t, made) for t, made in session.info[_MADE] if not inside(t)]
    session.info.pop(_BEFORE, None)
    if previous.parent is None:
        session.info.pop(_WROTE, None)
