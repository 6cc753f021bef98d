"""A Celery app whose one task makes one call. Its broker is a directory."""

import os
from pathlib import Path

import httpx
from celery import Celery

URL, QUEUE = os.environ["PROVIDER_URL"], os.environ["QUEUE"]
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}

for name in ("messages", "control"):
    Path(QUEUE, name).mkdir(parents=True, exist_ok=True)
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{QUEUE}/messages",
        "data_folder_out": f"{QUEUE}/messages",
        "control_folder": f"{QUEUE}/control",
    },
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=False,
)


@app.task
def ask(name):
    headers = {"x-litellm-session-id": name}
    httpx.post(f"{URL}/v1/chat/completions", json=BODY, headers=headers, timeout=20).raise_for_status()
