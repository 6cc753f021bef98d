"""Management routes: which request is which operation, on what object, by whom. Pure: messages in, facts out.

Always true: a request that no route matches costs one look into a table; what is read from a body is bounded and
never trusted. LiteLLM's routes are built in (proxy/management_endpoints, 1.109); an app's own come from a table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from otel_llmlog import redact
from otel_llmlog.audit import catalogue as c
from otel_llmlog.audit.catalogue import OPERATIONS, Operation
from otel_llmlog.audit.recording import Details
from otel_llmlog.errors import ConfigError

# Bytes of a request or an answer that are looked at.
MAX_BODY = 1 << 20
# Objects of one request that get an event of their own.
MAX_OBJECTS = 100
# Headers that carry a LiteLLM key, and the one that names who it is done for.
KEY_HEADERS = ("authorization", "x-litellm-api-key", "x-api-key", "api-key")
CHANGED_BY_HEADER = "litellm-changed-by"


class Match(NamedTuple):
    """A request to a management route."""

    operation: Operation
    object_id: str | None
    """As the path says."""


class _Ids(NamedTuple):
    """Where the object's id stands: fields of the body that hold one or several, fields of the answer."""

    single: tuple[str, ...]
    several: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()


_IDS = {
    c.KEYS: _Ids(("key", "token"), ("keys",), ("token_id", "token", "key")),
    c.USERS: _Ids(("user_id", "user_email"), ("user_ids", "users"), ("user_id",)),
    c.TEAMS: _Ids(("team_id",), ("team_ids",), ("team_id",)),
    c.MODELS: _Ids(("id", "model_id"), ("model_ids",), ("model_id", "id")),
}
# LiteLLM's routes by method and path. `{…}` in a path is the object's id.
LITELLM: dict[str, Operation] = {
    "POST /user/new": c.USER_CREATE,
    "POST /user/update": c.USER_UPDATE,
    "POST /user/bulk_update": c.USER_UPDATE,
    "POST /user/delete": c.USER_DELETE,
    "POST /user/block": c.USER_DISABLE,
    "POST /user/unblock": c.USER_ENABLE,
    "POST /key/generate": c.KEY_CREATE,
    "POST /key/service-account/generate": c.KEY_CREATE,
    "POST /key/update": c.KEY_UPDATE,
    "POST /key/bulk_update": c.KEY_UPDATE,
    "POST /key/delete": c.KEY_DELETE,
    "POST /key/regenerate": c.KEY_ROTATE,
    "POST /key/{key}/regenerate": c.KEY_ROTATE,
    "POST /key/{key}/reset_spend": c.KEY_BUDGET,
    "POST /key/block": c.KEY_BLOCK,
    "POST /key/unblock": c.KEY_UNBLOCK,
    "POST /team/new": c.TEAM_CREATE,
    "POST /team/update": c.TEAM_UPDATE,
    "PATCH /team/{team_id}": c.TEAM_UPDATE,
    "POST /team/delete": c.TEAM_DELETE,
    "POST /team/member_add": c.TEAM_MEMBER_ADD,
    "POST /team/bulk_member_add": c.TEAM_MEMBER_ADD,
    "POST /team/member_update": c.TEAM_MEMBER_UPDATE,
    "POST /team/member_delete": c.TEAM_MEMBER_REMOVE,
    "POST /team/model/add": c.TEAM_PERMISSION,
    "POST /team/model/delete": c.TEAM_PERMISSION,
    "POST /team/permissions_update": c.TEAM_PERMISSION,
    "POST /team/block": c.TEAM_BLOCK,
    "POST /team/unblock": c.TEAM_UNBLOCK,
    "POST /model/new": c.MODEL_CREATE,
    "POST /model/update": c.MODEL_UPDATE,
    "PATCH /model/{model_id}/update": c.MODEL_UPDATE,
    "POST /model/delete": c.MODEL_DELETE,
    "POST /model/block": c.MODEL_BLOCK,
    "POST /model/unblock": c.MODEL_UNBLOCK,
}
# An update that touches nothing but these is a finer operation. The first that fits.
_FINER: dict[Operation, tuple[tuple[Operation, frozenset[str]], ...]] = {
    c.USER_UPDATE: (
        (c.USER_PERMISSION, frozenset({"user_role", "models", "teams", "object_permission", "allowed_cache_controls"})),
        (c.USER_BUDGET, frozenset({"max_budget", "budget_duration", "soft_budget", "model_max_budget", "spend"})),
    ),
    c.KEY_UPDATE: (
        (
            c.KEY_PERMISSION,
            frozenset({"models", "permissions", "allowed_routes", "object_permission", "allowed_cache_controls"}),
        ),
        (c.KEY_BUDGET, frozenset({"max_budget", "budget_duration", "soft_budget", "model_max_budget", "spend"})),
    ),
    c.TEAM_UPDATE: (
        (c.TEAM_BUDGET, frozenset({"max_budget", "budget_duration", "soft_budget", "model_max_budget", "spend"})),
        (c.TEAM_PERMISSION, frozenset({"models", "object_permission", "team_member_permissions"})),
    ),
    c.MODEL_UPDATE: ((c.MODEL_PERMISSION, frozenset({"access_groups", "team_id", "team_public_model_name"})),),
}
# Switches of state inside an update.
_SWITCHES: dict[Operation, dict[tuple[str, bool], Operation]] = {
    c.USER_UPDATE: {
        ("blocked", True): c.USER_DISABLE, ("blocked", False): c.USER_ENABLE,
        ("active", False): c.USER_DISABLE, ("active", True): c.USER_ENABLE,
    },
    c.KEY_UPDATE: {("blocked", True): c.KEY_BLOCK, ("blocked", False): c.KEY_UNBLOCK},
    c.TEAM_UPDATE: {("blocked", True): c.TEAM_BLOCK, ("blocked", False): c.TEAM_UNBLOCK},
}  # fmt: skip


class Routes:
    """A table of management routes, made ready to be asked."""

    def __init__(self, own: Mapping[str, str | Operation] | None = None, *, litellm: bool = True) -> None:
        """`own`: `"POST /admin/users/{id}"` -> an operation, or its name in the catalogue. Raises ConfigError."""
        self._exact: dict[tuple[str, str], Operation] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Operation]] = []
        for route, given in {**(LITELLM if litellm else {}), **(own or {})}.items():
            operation = given if isinstance(given, Operation) else OPERATIONS.get(given)
            method, separator, path = route.strip().partition(" ")
            if operation is None or not separator or not path.startswith("/"):
                example = "POST /admin/users/{id}=user.update"
                raise ConfigError(f"LLMLOG_AUDIT_ROUTES must be like {example}, found {route}={given}")
            if "{" not in path:
                self._exact[method.upper(), path] = operation
                continue
            parts = re.split(r"\{\w*\}", path)
            self._patterns.append((method.upper(), re.compile("(.{1,512}?)".join(map(re.escape, parts))), operation))
        # Paths that end in nothing of these are told apart by one look.
        self._first = {path.split("/", 2)[1] for _, path in self._exact}
        self._first |= {pattern.pattern.split("/", 2)[1] for _, pattern, _ in self._patterns}

    def match(self, method: str, path: str) -> Match | None:
        """The operation that this request asks for. A prefix the proxy may be served under is passed over."""
        if method in {"GET", "HEAD", "OPTIONS"}:
            return None
        path = path.rstrip("/")
        parts = path.split("/")
        # At the root, then below a prefix: `/litellm/key/generate`.
        for start in range(1, min(len(parts), 4)):
            if parts[start] not in self._first:
                continue
            rest = "/" + "/".join(parts[start:])
            if (found := self._exact.get((method, rest))) is not None:
                return Match(found, None)
            for wanted, pattern, operation in self._patterns:
                if wanted == method and (hit := pattern.fullmatch(rest)):
                    return Match(operation, hit[1])
        return None


def events(
    match: Match, request: bytes | None, answer: bytes | None, status: int | None, error: BaseException | None
) -> Iterator[tuple[Operation, Details]]:
    """What is to be recorded of one request: an event for each object it is about."""
    asked, told = _object(request), _object(answer)
    operation = _finer(match.operation, asked)
    details: Details = {"status_code": status}
    notes = []
    if request is None:
        notes.append("the request's body could not be read")
    if error is not None or status is None or status >= 400:
        details["outcome"] = "refused" if status in {401, 403} else "failure"
        details["error_class"] = type(error).__name__ if error is not None else _error_class(told)
        if operation.action != "deleted":
            details["after"] = asked or None
    elif operation.action != "deleted":
        details["after"] = {**(asked or {}), **_kept_of_answer(told)} or None
    else:
        details["before"] = _deleted(told)
    ids = _object_ids(match, operation, asked or {}, told or {})
    if len(ids) > MAX_OBJECTS:
        notes.append(f"{len(ids) - MAX_OBJECTS} more objects")
    named: list[str | None] = [*ids[:MAX_OBJECTS]]
    for object_id in named or [None]:
        yield operation, Details(**{**details, "object_id": object_id, "notes": list(notes)})


def actor(headers: Mapping[str, str]) -> Details:
    """Who asks, as the headers say (names in lower case)."""
    found: Details = {}
    for name in KEY_HEADERS:
        if given := headers.get(name):
            scheme, _, rest = given.strip().partition(" ")
            if scheme.lower() == "basic" or (rest and scheme.lower() != "bearer"):
                continue
            found["changed_by_api_key"] = redact.key_hash(given)
            break
    if by := headers.get(CHANGED_BY_HEADER):
        found["changed_by"] = by
    return found


def _finer(operation: Operation, asked: Mapping[str, Any] | None) -> Operation:
    if not asked:
        return operation
    ids = _IDS.get(operation.table_name, _Ids(()))
    touched = {name for name, value in asked.items() if value is not None} - {
        *ids.single,
        *ids.several,
        "litellm_params",
        "model_info",
    }
    for (name, value), finer in _SWITCHES.get(operation, {}).items():
        if touched == {name} and asked.get(name) is value:
            return finer
    for finer, fields in _FINER.get(operation, ()):
        if touched and touched <= fields:
            return finer
    return operation


def _object_ids(match: Match, operation: Operation, asked: Mapping[str, Any], told: Mapping[str, Any]) -> list[str]:
    ids = _IDS.get(operation.table_name, _Ids(("id",), ("ids",), ("id",)))
    name = redact.key_id if operation.table_name == c.KEYS else str
    if match.object_id:
        return [name(match.object_id)]
    # A new object has the name that the answer gives it.
    places = (told, asked) if operation.action == "created" else (asked,)
    for place in places:
        for field in ids.answer if place is told else ids.single:
            if isinstance(given := place.get(field), str | int) and given != "":
                return [name(str(given))]
        inner = place.get("model_info")
        if operation.table_name == c.MODELS and isinstance(inner, Mapping) and isinstance(inner.get("id"), str):
            return [inner["id"]]
        for field in ids.several:
            if isinstance(given := place.get(field), list):
                return [name(str(one)) for one in map(_id_of, given, [ids] * len(given)) if one]
    return []


def _id_of(one: Any, ids: _Ids) -> Any:
    if isinstance(one, Mapping):
        return next((one[field] for field in ids.single if isinstance(one.get(field), str | int)), None)
    return one if isinstance(one, str | int) else None


def _object(body: bytes | None) -> dict[str, Any] | None:
    if not body or len(body) > MAX_BODY:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _kept_of_answer(told: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of an answer: the object, not the words around it. LiteLLM's updates answer with the whole object in `data`."""
    if not told:
        return {}
    inner = told.get("data")
    return dict(inner) if isinstance(inner, Mapping) else dict(told)


def _deleted(told: Mapping[str, Any] | None) -> Any:
    return dict(told) if told and not {"message", "deleted_keys", "deleted"} & told.keys() else None


def _error_class(told: Mapping[str, Any] | None) -> str | None:
    """LiteLLM's error type, such as `auth_error`; a name, never its message."""
    inner = (told or {}).get("error")
    kind = inner.get("type") if isinstance(inner, Mapping) else None
    return kind if isinstance(kind, str) and re.fullmatch(r"[\w.-]{1,64}", kind) else None
