"""The same app, capture switched on in code."""

import otel_llmlog

otel_llmlog.instrument()

from web import asgi, wsgi  # noqa: E402, F401 - after capture is on, as in an app
