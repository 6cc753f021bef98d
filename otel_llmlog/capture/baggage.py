"""Baggage: our entries in OpenTelemetry's W3C baggage, by which other services hear who calls and in which session.

Always true: entries of others are left alone; nothing here needs a token, so that leaving a context in another order or
in another task does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import baggage, context as otel_context
from opentelemetry.context import Context

PREFIX = "llmlog."
SESSION, USER, END_USER = PREFIX + "session_id", PREFIX + "user", PREFIX + "end_user"
TEAM, TEAM_ALIAS, ORGANIZATION, TAGS = (
    PREFIX + "team",
    PREFIX + "team_alias",
    PREFIX + "organization",
    PREFIX + "tags",
)


def carried(context: Context | None = None) -> dict[str, object]:
    """Our entries in this context, or in the current one."""
    return {name: value for name, value in baggage.get_all(context).items() if name.startswith(PREFIX)}


def carry(entries: Mapping[str, object]) -> None:
    """Have these entries of ours and no others, from now on."""
    context = without(otel_context.get_current())
    for name, value in entries.items():
        context = baggage.set_baggage(name, value, context)
    # Never detached: it is changed back the same way.
    otel_context.attach(context)


def without(context: Context) -> Context:
    """The same context without our entries."""
    # Most requests carry none at all, and this is the app's thread.
    for name in carried(context) if baggage.get_all(context) else ():
        context = baggage.remove_baggage(name, context)
    return context
