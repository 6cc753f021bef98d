"""Who may reach the sink: what must be true of its settings before it listens."""

from __future__ import annotations

import ipaddress
import logging

from otel_llmlog.config import Settings
from otel_llmlog.errors import ConfigError
from otel_llmlog.sink import senders

_log = logging.getLogger("otel_llmlog")


def check(settings: Settings) -> None:
    """Raises ConfigError where rows would be open to anybody, or a setting lacks its other half."""
    sink = settings.sink
    if (sink.sink_tls_cert is None) != (sink.sink_tls_key is None):
        raise ConfigError("LLMLOG_SINK_TLS_CERT and LLMLOG_SINK_TLS_KEY must be set together")
    if sink.sink_tls_client_ca is not None and sink.sink_tls_cert is None:
        raise ConfigError("LLMLOG_SINK_TLS_CLIENT_CA needs LLMLOG_SINK_TLS_CERT and LLMLOG_SINK_TLS_KEY")
    tokens = sink.sink_token is not None or sink.sink_tokens is not None
    known = tokens or sink.sink_tls_client_ca is not None
    if not (is_loopback(sink.sink_host) or known or sink.sink_allow_anonymous):
        raise ConfigError(
            f"LLMLOG_SINK_HOST {sink.sink_host} can be reached from elsewhere: set LLMLOG_SINK_TOKEN, "
            "LLMLOG_SINK_TOKENS or LLMLOG_SINK_TLS_CLIENT_CA, or, where the network itself keeps others out, "
            "LLMLOG_SINK_ALLOW_ANONYMOUS=true"
        )
    if not is_loopback(sink.sink_host) and tokens and sink.sink_tls_cert is None:
        _log.warning(
            "otel-llmlog: tokens of senders travel in clear text: set LLMLOG_SINK_TLS_CERT and LLMLOG_SINK_TLS_KEY"
        )
    senders.Senders(sink)
    if settings.pipeline.exporter != "postgres":
        raise ConfigError("llmlog sink stores in Postgres: unset LLMLOG_EXPORTER")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
