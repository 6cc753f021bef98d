"""The management operations that are known by name: LiteLLM's tables and action words, and what was done exactly.

Always true: an operation's action is one of LiteLLM's words, so its audit log and ours read the same; `name` tells
apart what LiteLLM calls `updated` in all cases. An app's own operations are made the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

# LiteLLM's `LitellmTableNames` (proxy/_types.py).
USERS = "LiteLLM_UserTable"
KEYS = "LiteLLM_VerificationToken"
TEAMS = "LiteLLM_TeamTable"
MODELS = "LiteLLM_ProxyModelTable"


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of management operation, such as `Operation("key.rotate", "rotated", KEYS)`."""

    name: str
    """Object and verb."""
    action: str
    """LiteLLM's `AUDIT_ACTIONS`: created, updated, deleted, blocked, unblocked, rotated; or the app's own word."""
    table_name: str


USER_CREATE = Operation("user.create", "created", USERS)
USER_UPDATE = Operation("user.update", "updated", USERS)
USER_DELETE = Operation("user.delete", "deleted", USERS)
USER_PERMISSION = Operation("user.permission", "updated", USERS)
USER_ENABLE = Operation("user.enable", "updated", USERS)
USER_DISABLE = Operation("user.disable", "updated", USERS)
USER_BUDGET = Operation("user.budget", "updated", USERS)

KEY_CREATE = Operation("key.create", "created", KEYS)
KEY_UPDATE = Operation("key.update", "updated", KEYS)
KEY_DELETE = Operation("key.delete", "deleted", KEYS)
KEY_ROTATE = Operation("key.rotate", "rotated", KEYS)
KEY_PERMISSION = Operation("key.permission", "updated", KEYS)
KEY_BUDGET = Operation("key.budget", "updated", KEYS)
KEY_BLOCK = Operation("key.block", "blocked", KEYS)
KEY_UNBLOCK = Operation("key.unblock", "unblocked", KEYS)

TEAM_CREATE = Operation("team.create", "created", TEAMS)
TEAM_UPDATE = Operation("team.update", "updated", TEAMS)
TEAM_DELETE = Operation("team.delete", "deleted", TEAMS)
TEAM_PERMISSION = Operation("team.permission", "updated", TEAMS)
TEAM_BUDGET = Operation("team.budget", "updated", TEAMS)
TEAM_MEMBER_ADD = Operation("team.member_add", "updated", TEAMS)
TEAM_MEMBER_UPDATE = Operation("team.member_update", "updated", TEAMS)
TEAM_MEMBER_REMOVE = Operation("team.member_remove", "updated", TEAMS)
TEAM_BLOCK = Operation("team.block", "blocked", TEAMS)
TEAM_UNBLOCK = Operation("team.unblock", "unblocked", TEAMS)

MODEL_CREATE = Operation("model.create", "created", MODELS)
MODEL_UPDATE = Operation("model.update", "updated", MODELS)
MODEL_DELETE = Operation("model.delete", "deleted", MODELS)
MODEL_PERMISSION = Operation("model.permission", "updated", MODELS)
MODEL_BLOCK = Operation("model.block", "blocked", MODELS)
MODEL_UNBLOCK = Operation("model.unblock", "unblocked", MODELS)

OPERATIONS: dict[str, Operation] = {
    found.name: found for found in list(globals().values()) if isinstance(found, Operation)
}
