"""The wrap around the clients of all transports: class-wide, in any order, undone.

Each transport has a file, which says what is replaced in which library; here it is done once the library is imported,
whether that was before or comes later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from wrapt import register_post_import_hook

from otel_llmlog.capture import active, over_aiohttp, over_botocore, over_httpx, over_requests
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.capture.wrap import Wrap

# Module -> what is to be replaced in it.
TRANSPORTS: Mapping[str, Callable[[Any], list[Wrap]]] = {
    "httpx": over_httpx.wraps,
    "httpx2": over_httpx.wraps,
    "aiohttp": over_aiohttp.wraps,
    "requests": over_requests.wraps,
    "botocore.httpsession": over_botocore.wraps,
}

_hooked = False
# module -> what was replaced in it, each with what was there before
_originals: dict[str, list[tuple[Wrap, Any]]] = {}


def install(recorder: Recorder, *, inject_usage: bool, managed: active.Watch | None = None) -> None:
    """Capture every call from now on, also of libraries that are imported later.

    `managed`: looks at requests that are no LLM calls, for those to a management API. Never raises.
    """
    global _hooked  # noqa: PLW0603 - a class-wide wrap is global by nature
    active.recorder, active.managed, active.inject_usage = recorder, managed, inject_usage
    if not _hooked:
        _hooked = True
        for name in TRANSPORTS:
            register_post_import_hook(_wrap, name)
        return
    for name in TRANSPORTS:
        if name in sys.modules:
            _wrap(sys.modules[name])


def remove() -> None:
    """Give all libraries their own methods back."""
    active.recorder = None
    for wrapped in _originals.values():
        for (cls, method, ours), original in wrapped:
            # Whoever wrapped it after us keeps their wrap: ours below it is idle without a recorder.
            if cls.__dict__.get(method) is ours:
                setattr(cls, method, original)
    _originals.clear()


def installed() -> dict[str, bool]:
    """Which libraries are wrapped now."""
    return {name: name in _originals for name in TRANSPORTS}


def _wrap(library: Any) -> None:
    name = library.__name__
    if active.recorder is None or name in _originals:
        return
    try:
        wraps = TRANSPORTS[name](library)
    except AttributeError as error:  # a release of the library that has no such class: it works on without us
        active.recorder.note_error(f"wrap.{name}", error)
        return
    _originals[name] = [(wrap, wrap.cls.__dict__[wrap.method]) for wrap in wraps]
    for cls, method, ours in wraps:
        setattr(cls, method, ours)
