"""Sends every hostile body to a server that never answers, says so, and waits to be killed. Argument: its address."""

from __future__ import annotations

import asyncio
import sys

import httpx

from tests.capture.hostile import BODIES, BOUNDARY, FORM, FORM_WITHOUT


async def main() -> None:
    form = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    async with httpx.AsyncClient(base_url=sys.argv[1], timeout=120, limits=httpx.Limits(max_connections=500)) as client:
        async with asyncio.TaskGroup() as group:
            for path, body, _ in BODIES:
                group.create_task(client.post(path, content=body, headers={"anthropic-version": "2023-06-01"}))
            for body in (FORM, FORM_WITHOUT):
                group.create_task(client.post("/v1/audio/transcriptions", content=body, headers=form))


asyncio.run(main())
