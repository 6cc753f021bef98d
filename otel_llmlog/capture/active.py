"""What captures now: set when capture is installed, cleared when it is removed. The shells of all transports look here.

A class-wide wrap is global by nature, and so is this: the one place where a shell that is left behind finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_llmlog.capture.recorder import Recorder

# Told of a request that is no LLM call; answers None, or what is to be called with the response or the exception.
Watch = Callable[[Any], Callable[[Any, BaseException | None], None] | None]

recorder: Recorder | None = None
managed: Watch | None = None
inject_usage = False
