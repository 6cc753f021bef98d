"""`llmlog sessions`: the conversations and what each cost. `llmlog session ID`: one of them, call by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.text import Text

from otel_llmlog import config, turns
from otel_llmlog.cli import database, filters, logs, render
from otel_llmlog.config import TraceSettings
from otel_llmlog.store.reader import SORTINGS, Filter, Sorting

_COLUMNS = ("session", "last call", "calls", "failed", "cached", "tokens", "cost", "took", "models", "users", "tags")
_NARROW_COLUMNS = ("session", "last call", "calls", "failed", "cost", "models")
_CALL_COLUMNS = ("time", "model", "status", "in", "out", "cost", "first", "total", "response")
_NARROW_CALL_COLUMNS = ("time", "model", "status", "cost", "total")


def sessions(
    since: filters.Since = None,
    until: filters.Until = None,
    model: filters.Model = None,
    provider: filters.Provider = None,
    status: Annotated[str | None, typer.Option(help="failure: with failed calls. success: with none.")] = None,
    user: filters.User = None,
    team: filters.Team = None,
    tag: filters.Tag = None,
    end_user: filters.EndUser = None,
    key: filters.Key = None,
    min_cost: Annotated[str | None, typer.Option(help="Sessions that cost at least so many US dollars.")] = None,
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(SORTINGS)}.")] = "last-seen",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many sessions at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a session.")] = False,
) -> None:
    """Show sessions: calls that name the same one, or follow one another. Filters find those with such a call."""
    if sort not in SORTINGS:
        raise typer.BadParameter(f"--sort must be one of {', '.join(SORTINGS)}, found {sort!r}")
    where = filters.where(
        since=since,
        until=until,
        model=model,
        provider=provider,
        status=status,
        user=user,
        team=team,
        tag=tag,
        session=None,
        end_user=end_user,
        key=key,
        min_cost=min_cost,
    )
    found = database.reader().sessions(where, sort=cast("Sorting", sort), limit=limit)
    if as_json:
        for line in found:
            render.say(render.as_json(line))
        return
    console = Console()
    if not found:
        console.print("No sessions there. Calls are in one if they name it, or follow another call.")
        return
    names = _NARROW_COLUMNS if console.width < render.NARROW else _COLUMNS
    cells = [dict(zip(_COLUMNS, _session_cells(line), strict=True)) for line in found]
    console.print(render.table(names, [[row[name] for name in names] for row in cells]))


def _session_cells(line: Mapping[str, Any]) -> Sequence[Text]:
    return (
        render.text(line["session_id"]),
        render.text(line["last_call"].strftime("%m-%d %H:%M:%S"), "dim"),
        render.number(line["calls"]),
        Text(f"{line['failures']:,}" if line["failures"] else "", style="red", justify="right"),
        render.number(line["cache_hits"] or None),
        render.number(line["total_tokens"]),
        render.text("") if line["calls"] == line["failures"] else render.money(line["spend"]),
        render.seconds(line["duration"].total_seconds()),
        render.text(", ".join(line["models"])),
        render.text(", ".join(line["users"] or line["end_users"])),
        render.text(", ".join(line["tags"])),
    )


def session(
    session_id: Annotated[str, typer.Argument(help="The session's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object: totals, calls, conversation.")] = False,
) -> None:
    """Show one session: its calls in order and, where content is kept, what was said."""
    settings = config.load()
    traces, reader = settings.traces, database.reader(settings)
    totals = reader.sessions(Filter(session_id=session_id), limit=1)
    if not totals:
        render.say(f"There is no session {session_id!r}. `llmlog sessions` lists them.", err=True)
        raise typer.Exit(1)
    calls = reader.session(session_id)
    said = turns.conversation(
        (call["messages"], call["response"], bool(call["previous_response_id"] or call["conversation_id"]))
        for call in calls
        if call["status"] == "success" or call["response"] is not None
    )
    if as_json:
        shown_apart = {"messages", "response"}
        rows = [
            {name: value for name, value in logs.with_url(call, traces).items() if name not in shown_apart}
            for call in calls
        ]
        render.say(render.as_json({**totals[0], "log": rows, "conversation": said}))
        return
    console = Console()
    shown = {name: ", ".join(value) or None if isinstance(value, list) else value for name, value in totals[0].items()}
    console.print(render.facts(shown))
    narrow = console.width < render.NARROW
    names = _NARROW_CALL_COLUMNS if narrow else _CALL_COLUMNS
    cells = [dict(zip(_CALL_COLUMNS, _call_cells(call, traces), strict=True)) for call in calls]
    console.print(render.table(names, [[row[name] for name in names] for row in cells]))
    for message in said:
        console.print(_message(message))
    if calls and not said:
        console.print("What was said is not kept: LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS is off.", style="dim")


def _call_cells(call: Mapping[str, Any], traces: TraceSettings) -> Sequence[Text]:
    failed = call["status"] == "failure"
    first = call["completion_start_time"]
    began = render.text(call["start_time"].strftime("%m-%d %H:%M:%S"), "dim")
    return (
        render.linked(began, traces.trace_url(call["trace_id"], call["span_id"])),
        render.text(call["model"]),
        render.text(call["error_class"] or "failed" if failed else "ok", "red" if failed else "green"),
        render.number(call["prompt_tokens"]),
        render.number(call["completion_tokens"]),
        render.text("") if failed and call["spend"] is None else render.money(call["spend"]),
        render.seconds(first and (first - call["start_time"]).total_seconds()),
        render.seconds((call["end_time"] - call["start_time"]).total_seconds()),
        render.text(call["request_id"]),
    )


def _message(message: Mapping[str, Any]) -> Text:
    """A message as lines of text. Line breaks are its own; no other control character reaches the terminal."""
    said = message.get("content")
    parts = said if isinstance(said, list) else [said]
    lines = [
        part if isinstance(part, str) else part["text"] if turns.is_text(part) else render.as_json(part)
        for part in parts
        if part is not None
    ]
    lines += [render.as_json(call) for call in message.get("tool_calls", ())]
    shown = Text(f"{render.line(message['role'])}: ", style="bold")
    for line in "\n".join(lines).split("\n"):
        shown.append_text(Text.assemble((render.text(line).plain, "not bold"), "\n"))
    return shown
