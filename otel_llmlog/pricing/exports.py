"""Usage and cost exports of providers -> amounts by day (UTC) and model.

Always true: an amount is one that the export states, summed up exactly; what an export does not break down by model is
compared by day alone; a file that is none of these is an error that says what was expected.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, NamedTuple

from otel_llmlog.errors import ConfigError

# What is compared, in the order in which it is shown. Tokens as the table counts them: input includes cached.
MEASURES = ("requests", "input_tokens", "cached_tokens", "output_tokens", "cost")
# Exports that are read, and the providers in the table whose calls they list.
FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"openai": ("openai", "text-completion-openai"), "anthropic": ("anthropic",), "csv": ()}
)

Amounts = dict[str, Decimal]


class Export(NamedTuple):
    """What a provider says."""

    measures: tuple[str, ...]
    """Those of MEASURES that the export states."""
    amounts: dict[tuple[date, str | None], Amounts]
    """By day and model; None: of all models."""
    days: frozenset[date]
    """All days that the export speaks of, with nothing used on them or not."""
    notes: tuple[str, ...] = ()


class _Fact(NamedTuple):
    day: date
    model: str | None
    amounts: Amounts


def read(format_: str, data: bytes) -> Export:
    """An export in one of FORMATS. Raises ConfigError."""
    notes: tuple[str, ...] = ()
    days: set[date] = set()
    if format_ == "csv":
        facts = list(_csv(data))
    else:
        pages = _pages(data)
        facts = list(_openai(pages) if format_ == "openai" else _anthropic(pages))
        days = {_day(bucket.get("start_time", bucket.get("starting_at"))) for page in pages for bucket in page["data"]}
        if pages and pages[-1].get("has_more"):
            notes = ("the export says that it has more pages: put them into the file, too",)
    if not facts:
        raise ConfigError("the export holds no usage and no cost")
    sums: dict[tuple[date, str | None], Amounts] = defaultdict(lambda: defaultdict(Decimal))
    for fact in facts:
        for name, amount in fact.amounts.items():
            sums[fact.day, fact.model][name] += amount
    stated = {name for fact in facts for name in fact.amounts}
    amounts = {at: dict(found) for at, found in sums.items()}
    measures = tuple(name for name in MEASURES if name in stated)
    return Export(measures, amounts, frozenset(days | {fact.day for fact in facts}), notes)


def _pages(data: bytes) -> list[Mapping[str, Any]]:
    """One page of an admin API as it came, several in an array, or one after the other."""
    decoder = json.JSONDecoder(parse_float=Decimal)
    try:
        text, found, at = data.decode("utf-8-sig"), [], 0
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            page, at = decoder.raw_decode(text, at)
            found += page if isinstance(page, list) else [page]
    except (ValueError, RecursionError):
        raise ConfigError("the export is not JSON: it must be what the provider's admin API answered") from None
    if not all(isinstance(page, dict) and isinstance(page.get("data"), list) for page in found):
        raise ConfigError('the export must be pages of the admin API, {"data": [{…, "results": […]}]}')
    return found


def _results(pages: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for page in pages:
        for bucket in page["data"]:
            results = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
                raise ConfigError("a bucket of the export has no list of results")
            for result in results:
                yield bucket, result


# GET /v1/organization/usage/completions, …/embeddings and …/costs, as openai.types.admin.organization has them
# (openai 3): group_by=model makes usage comparable by model; costs know projects and line items only.
def _openai(pages: Iterable[Mapping[str, Any]]) -> Iterator[_Fact]:
    for bucket, result in _results(pages):
        day = _day(bucket.get("start_time"))
        if result.get("object") == "organization.costs.result":
            amount = result.get("amount")
            value, currency = (
                (amount.get("value"), amount.get("currency")) if isinstance(amount, dict) else (None, "usd")
            )
            if str(currency).lower() != "usd":
                raise ConfigError(f"the export is in {str(currency)[:8]!r}, the table in USD")
            yield _Fact(day, _line_model(result.get("line_item")), {"cost": _amount(value)})
            continue
        amounts = {"requests": _amount(result.get("num_model_requests"))}
        for name, key in {
            "input_tokens": "input_tokens",
            "cached_tokens": "input_cached_tokens",
            "output_tokens": "output_tokens",
        }.items():
            if result.get(key) is not None:
                amounts[name] = _amount(result[key])
        yield _Fact(day, _text(result.get("model")), amounts)


def _line_model(item: Any) -> str | None:
    """`gpt-4o-2024-08-06, input` names its model before the comma; other line items name none."""
    name, comma, _ = item.partition(",") if isinstance(item, str) else ("", "", "")
    return name.strip() if comma else None


# GET /v1/organizations/usage_report/messages and …/cost_report:
# https://platform.claude.com/docs/en/api/admin-api/usage-cost/get-messages-usage-report and …/get-cost-report
def _anthropic(pages: Iterable[Mapping[str, Any]]) -> Iterator[_Fact]:
    for bucket, result in _results(pages):
        day, model = _day(bucket.get("starting_at")), _text(result.get("model"))
        if "amount" in result:
            if str(result.get("currency", "USD")).upper() != "USD":
                raise ConfigError(f"the export is in {str(result.get('currency'))[:8]!r}, the table in USD")
            # In cents, as text: "123.45" is 1.2345 dollars.
            yield _Fact(day, model, {"cost": _amount(result["amount"]).scaleb(-2)})
            continue
        read_ = _amount(result.get("cache_read_input_tokens"))
        made = result.get("cache_creation")
        written = sum(map(_amount, made.values()), Decimal(0)) if isinstance(made, dict) else Decimal(0)
        yield _Fact(
            day,
            model,
            {
                "input_tokens": _amount(result.get("uncached_input_tokens")) + read_ + written,
                "cached_tokens": read_,
                "output_tokens": _amount(result.get("output_tokens")),
            },
        )


def _csv(data: bytes) -> Iterator[_Fact]:
    """Columns date, model and any of MEASURES, in any order; others are passed over."""
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        names = [name.strip().lower() for name in rows.fieldnames or ()]
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError("the export is no CSV in UTF-8") from None
    if not {"date", "model"} <= set(names) or not set(MEASURES) & set(names):
        raise ConfigError(f"the CSV must have the columns date, model and any of {', '.join(MEASURES)}")
    rows.fieldnames = names
    for row in rows:
        amounts = {name: _amount(row[name]) for name in MEASURES if (row.get(name) or "").strip()}
        yield _Fact(_day(row["date"]), (row["model"] or "").strip() or None, amounts)


def _day(value: Any) -> date:
    try:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return datetime.fromtimestamp(int(value), UTC).date()
        moment = datetime.fromisoformat(str(value).strip())
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"the export has a day that is none: {str(value)[:40]!r}") from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()


def _amount(value: Any) -> Decimal:
    try:
        amount = Decimal(0) if value is None else Decimal(str(value).strip().lstrip("$").replace(",", ""))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or isinstance(value, bool):
        raise ConfigError(f"the export has an amount that is none: {str(value)[:40]!r}")
    return amount


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
