"""The spool: accepted records survive a crash. Intents and outcomes on disk, and what dead processes left there."""

from __future__ import annotations

from otel_llmlog.pipeline.spool.adopt import Orphan, SpoolStatus, adopt, has_orphans, status
from otel_llmlog.pipeline.spool.aside import move as set_aside
from otel_llmlog.pipeline.spool.codec import (
    Ending,
    Intent,
    decode_ending,
    decode_intent,
    decode_record,
    encode_ending,
    encode_intent,
    encode_record,
)
from otel_llmlog.pipeline.spool.frames import MAX_PAYLOAD
from otel_llmlog.pipeline.spool.spool import Entry, Pending, Spool
from otel_llmlog.pipeline.spool.watch import Watch

__all__ = [
    "MAX_PAYLOAD",
    "Ending",
    "Entry",
    "Intent",
    "Orphan",
    "Pending",
    "Spool",
    "SpoolStatus",
    "Watch",
    "adopt",
    "decode_ending",
    "decode_intent",
    "decode_record",
    "encode_ending",
    "encode_intent",
    "encode_record",
    "has_orphans",
    "set_aside",
    "status",
]
