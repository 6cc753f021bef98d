"""The filters that `llmlog logs` and `llmlog spend` share, as Typer options."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from otel_llmlog.cli import when
from otel_llmlog.store.reader import Filter

Since = Annotated[str | None, typer.Option(help="Calls since: 30m, 24h, 7d ago, or 2026-01-31 (UTC).")]
Until = Annotated[str | None, typer.Option(help="Calls before: the same forms.")]
Model = Annotated[str | None, typer.Option(help="Model, as asked for or as answered.")]
Provider = Annotated[str | None, typer.Option(help="Provider, such as openai or anthropic.")]
Status = Annotated[str | None, typer.Option(help="success or failure.")]
User = Annotated[str | None, typer.Option(help="User id.")]
Team = Annotated[str | None, typer.Option(help="Team, id or alias.")]
Tag = Annotated[str | None, typer.Option(help="Tag.")]
Session = Annotated[str | None, typer.Option(help="Session id.")]
EndUser = Annotated[str | None, typer.Option(help="End user.")]
Key = Annotated[str | None, typer.Option(help="API key, by alias or SHA-256.")]
Trace = Annotated[str | None, typer.Option(help="Trace id, as your tracing backend shows it.")]
MinCost = Annotated[str | None, typer.Option(help="Calls that cost at least so many US dollars.")]


def where(
    *,
    since: str | None,
    until: str | None,
    model: str | None,
    provider: str | None,
    status: str | None,
    user: str | None,
    team: str | None,
    tag: str | None,
    session: str | None,
    end_user: str | None,
    key: str | None,
    min_cost: str | None,
    trace: str | None = None,
) -> Filter:
    """The options as a filter. Raises typer.BadParameter."""
    if status not in {None, "success", "failure"}:
        raise typer.BadParameter(f"--status must be success or failure, found {status!r}")
    now = datetime.now(UTC)
    return Filter(
        since=when.point(since, now),
        until=when.point(until, now),
        model=model,
        provider=provider,
        status=status,
        user_id=user,
        team=team,
        tag=tag,
        session_id=session,
        end_user=end_user,
        api_key=key,
        min_cost=_dollars(min_cost),
        # As text of 32 digits: backends leave leading zeros out, or write it in capitals or with dashes.
        trace_id=trace and trace.strip().replace("-", "").lower().rjust(32, "0"),
    )


def _dollars(text: str | None) -> Decimal | None:
    try:
        amount = Decimal(text.lstrip("$")) if text else None
    except InvalidOperation:
        amount = Decimal("NaN")
    if amount is not None and not amount.is_finite():
        raise typer.BadParameter(f"--min-cost must be a number of US dollars, found {text!r}")
    return amount
