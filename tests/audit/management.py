"""A small management API with LiteLLM's routes and answers, as a FastAPI app."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from otel_llmlog.redact import key_hash

# Every operation of the reference as requests to LiteLLM's routes:
# method, path, body, the operation, the object's id, fields its after must hold.
CALLS: list[tuple[str, str, dict[str, Any], str, str, dict[str, Any]]] = [
    ("POST", "/user/new", {"user_email": "a@b"}, "user.create", "new-id", {"user_email": "a@b"}),
    ("POST", "/user/update", {"user_id": "u1", "metadata": {"a": 1}}, "user.update", "u1", {"metadata": {"a": 1}}),
    ("POST", "/user/update", {"user_id": "u1", "user_role": "admin"}, "user.permission", "u1", {"user_role": "admin"}),
    ("POST", "/user/update", {"user_id": "u1", "blocked": True}, "user.disable", "u1", {"blocked": True}),
    ("POST", "/user/update", {"user_id": "u1", "blocked": False}, "user.enable", "u1", {"blocked": False}),
    ("POST", "/user/update", {"user_id": "u1", "max_budget": 5}, "user.budget", "u1", {"max_budget": 5}),
    ("POST", "/user/delete", {"user_ids": ["u1"]}, "user.delete", "u1", {}),
    ("POST", "/key/generate", {"models": ["m"]}, "key.create", key_hash("sk-canary-new"), {"models": ["m"]}),
    ("POST", "/key/update", {"key": "sk-canary-1", "metadata": {}}, "key.update", key_hash("sk-canary-1"), {}),
    ("POST", "/key/update", {"key": "sk-canary-1", "models": ["x"]}, "key.permission", key_hash("sk-canary-1"), {"models": ["x"]}),
    ("POST", "/key/update", {"key": "sk-canary-1", "max_budget": 5}, "key.budget", key_hash("sk-canary-1"), {"max_budget": 5}),
    ("POST", "/key/regenerate", {"key": "sk-canary-1"}, "key.rotate", key_hash("sk-canary-1"), {}),
    ("POST", f"/key/{'ab' * 32}/regenerate", {}, "key.rotate", "ab" * 32, {}),
    ("POST", "/key/block", {"key": "ab" * 32}, "key.block", "ab" * 32, {}),
    ("POST", "/key/unblock", {"key": "ab" * 32}, "key.unblock", "ab" * 32, {}),
    ("POST", "/key/delete", {"keys": ["sk-canary-1"]}, "key.delete", key_hash("sk-canary-1"), {}),
    ("POST", "/team/new", {"team_alias": "blue"}, "team.create", "new-id", {"team_alias": "blue"}),
    ("POST", "/team/update", {"team_id": "t1", "team_alias": "b"}, "team.update", "t1", {"team_alias": "b"}),
    ("POST", "/team/update", {"team_id": "t1", "max_budget": 7}, "team.budget", "t1", {"max_budget": 7}),
    ("POST", "/team/member_add", {"team_id": "t1", "member": {"user_id": "u1", "role": "user"}}, "team.member_add", "t1", {"member": {"user_id": "u1", "role": "user"}}),
    ("POST", "/team/member_update", {"team_id": "t1", "user_id": "u1", "role": "admin"}, "team.member_update", "t1", {"role": "admin"}),
    ("POST", "/team/member_delete", {"team_id": "t1", "user_id": "u1"}, "team.member_remove", "t1", {"user_id": "u1"}),
    ("POST", "/team/permissions_update", {"team_id": "t1", "team_member_permissions": ["/key/new"]}, "team.permission", "t1", {"team_member_permissions": ["/key/new"]}),
    ("POST", "/team/block", {"team_id": "t1"}, "team.block", "t1", {}),
    ("POST", "/team/unblock", {"team_id": "t1"}, "team.unblock", "t1", {}),
    ("POST", "/team/delete", {"team_ids": ["t1"]}, "team.delete", "t1", {}),
    ("POST", "/model/new", {"model_name": "m", "litellm_params": {"model": "gpt-4o", "api_key": "sk-canary-2"}}, "model.create", "new-id", {"model_name": "m", "litellm_params": {"model": "gpt-4o", "api_key": "[redacted]"}}),
    ("PATCH", "/model/m1/update", {"model_name": "n"}, "model.update", "m1", {"model_name": "n"}),
    ("POST", "/model/update", {"model_info": {"id": "m1"}, "access_groups": ["g"]}, "model.permission", "m1", {"access_groups": ["g"]}),
    ("POST", "/model/delete", {"id": "m1"}, "model.delete", "m1", {}),
]  # fmt: skip


def management_app() -> FastAPI:
    """Answers what a proxy would; the header `x-refuse` says with which status it refuses."""
    app = FastAPI()

    async def answer(request: Request) -> Any:
        if status := request.headers.get("x-refuse"):
            if status == "raise":
                raise RuntimeError("canary")
            raise HTTPException(int(status), {"error": {"message": "canary", "type": "auth_error"}})
        body = await request.json() if await request.body() else {}
        path = request.url.path
        if path in {"/key/generate", "/user/new"} or path.endswith("regenerate"):
            return {**body, "key": "sk-canary-new", "user_id": "new-id", "token": key_hash("sk-canary-new")}
        if path.endswith("/new"):
            return {**body, "team_id": "new-id", "model_id": "new-id"}
        return body

    async def stream(request: Request) -> StreamingResponse:
        async def pieces() -> Any:
            async for piece in request.stream():
                yield piece.upper()
                await asyncio.sleep(0)

        return StreamingResponse(pieces())

    app.add_api_route("/stream", stream, methods=["POST"])
    app.add_api_route("/plain", lambda: JSONResponse({"plain": True}), methods=["GET", "POST"])
    app.add_api_route("/{path:path}", answer, methods=["POST", "PATCH", "DELETE", "GET"])
    return app
