"""`llmlog prices …`: what a model costs, what changed between two price lists, and which models have no price."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from otel_llmlog import destination
from otel_llmlog.cli import database, price_lists, render, when
from otel_llmlog.pricing import Call, Pricer, Tariff, differences
from otel_llmlog.pricing.names import tier_name
from otel_llmlog.pricing.units import plural
from otel_llmlog.store.price_reader import PriceReader

app = typer.Typer(help="What models cost, what changed, and which have no price.", no_args_is_help=True)
# How people quote prices of tokens and characters; other units are quoted as they are billed.
_MILLION = 10**6
BUILT_IN = "built-in"
# Names that are offered instead of one that has no price.
_OFFERED = 3


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="As it is called, such as gpt-4o-mini.")],
    provider: Annotated[str | None, typer.Option(help="Who is called, such as openai; else all who sell it.")] = None,
    tier: Annotated[str | None, typer.Option(help="Service tier: flex, priority, batch, fast.")] = None,
    at: Annotated[str | None, typer.Option(help="When: 30d (ago) or 2026-01-31; else now.")] = None,
    price_map: price_lists.PriceMap = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a provider.")] = False,
) -> None:
    """Show the prices that calls of a model are billed with, and where they come from."""
    now = datetime.now(UTC)
    moment = when.point(at, now) or now
    prices = price_lists.pricer(price_map)
    sellers = [provider] if provider else prices.sellers(model)
    call = Call(tier=tier_name(tier) if tier else None)
    found = {
        seller: prices.tariff(provider=seller, model=model, at=moment.timestamp(), call=call) for seller in sellers
    }
    known = {seller: tariff for seller, tariff in found.items() if isinstance(tariff, Tariff) and any(tariff.brackets)}
    if not known:
        reasons = [reason for reason in found.values() if isinstance(reason, str)]
        render.say(render.line(reasons[0] if reasons else f"no list has a price for model {model!r}"), err=True)
        near = _near(prices, provider, model)
        if near:
            render.say(render.line(f"nearest names: {', '.join(near)}"), err=True)
        raise typer.Exit(1)
    console = Console()
    for seller, tariff in known.items():
        if as_json:
            render.say(render.as_json({"provider": seller, **_plain(tariff)}))
        else:
            _show(console, seller, tariff)


def _plain(tariff: Tariff) -> dict[str, Any]:
    return {
        "source": tariff.source,
        "version": tariff.version,
        "entry": tariff.information.model_map_key,
        "prices": [
            {
                "above_input_tokens": above,
                "unit_prices": {
                    name: {"price": price.text, "per": price.per} for name, price in sorted(prices.items())
                },
            }
            for above, prices in zip((0, *tariff.thresholds), tariff.brackets, strict=True)
        ],
    }


def _show(console: Console, seller: str, tariff: Tariff) -> None:
    console.print(
        render.text(
            f"{seller}: {tariff.source} {tariff.version or ''}, entry {tariff.information.model_map_key}", "bold"
        )
    )
    classes = list(dict.fromkeys(name for prices in tariff.brackets for name in prices))
    heads = ["class", *(f"above {above:,} tokens" if above else "price" for above in (0, *tariff.thresholds)), "for"]
    rows = []
    for name in classes:
        tokens = plural(name).endswith(("tokens", "characters of input", "characters of output"))
        cells = [_quoted(prices.get(name), tokens) for prices in tariff.brackets]
        per = next(prices[name].per for prices in tariff.brackets if name in prices)
        unit = f"a million {plural(name)}" if tokens else f"{plural(name)}, each" if per == 1 else _per(name, per)
        rows.append([render.text(name), *(render.text(cell) for cell in cells), render.text(unit)])
    console.print(render.table(heads, rows))


def _per(name: str, per: int) -> str:
    if name.endswith("_ms"):
        unit = {1000: "a second", 3_600_000: "an hour"}.get(per, f"{per} ms")
        return f"{unit} of {plural(name).removeprefix('seconds of ')}"
    return f"{per:,} {plural(name)}"


def _quoted(price: Any, tokens: bool) -> str:
    if price is None:
        return ""
    amount = price.amount * _MILLION if tokens else price.amount
    return f"${amount.normalize():f}"


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help=f"A price list: a file, or {BUILT_IN} for the built-in prices.")],
    after: Annotated[str, typer.Argument(help="Another of the same format.")],
    model: Annotated[str | None, typer.Option(help="Only models that have this in their name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a difference.")] = False,
) -> None:
    """Show what changed between two price lists, in LiteLLM's format or genai-prices'. Exit code 1 if anything did."""
    at = datetime.now(UTC)
    found = [
        one
        for one in differences.compare(_list(before, at), _list(after, at))
        if model is None or model.lower() in one.model.lower()
    ]
    for one in found:
        if as_json:
            render.say(render.as_json(one._asdict()))
        elif not one.price:
            render.say(render.line(f"{one.model}: {'new' if one.before is None else 'gone'}"))
        else:
            render.say(render.line(f"{one.model}: {one.price} {one.before or '-'} -> {one.after or '-'}{_share(one)}"))
    if not as_json:
        models = len({one.model for one in found})
        render.say(f"{len(found):,} differences in {models:,} models" if found else "no differences")
    if found:
        raise typer.Exit(1)


def _share(one: differences.Difference) -> str:
    try:
        before, after = Decimal(one.before or ""), Decimal(one.after or "")
    except ArithmeticError:
        return ""
    return f" ({(after - before) / before:+.1%})" if before else ""


def _list(name: str, at: datetime) -> differences.PriceList:
    if name == BUILT_IN:
        return differences.built_in(at)
    path = Path(name)
    if not path.exists():
        raise typer.BadParameter(f"{name!r} is no file; the built-in prices are called {BUILT_IN}")
    return differences.read(destination.price_file(path, "the list", pipes=True), at)


@app.command()
def check(
    since: Annotated[str, typer.Option(help="30m, 24h, 7d ago, or 2026-01-31.")] = "30d",
    price_map: price_lists.PriceMap = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a model.")] = False,
) -> None:
    """List models whose calls have no cost, why, and the nearest names with a price. Exit code 1 if there are any."""
    prices = price_lists.pricer(price_map)
    rows = PriceReader(database.url()).unpriced_models(since=when.point(since, datetime.now(UTC)))
    for row in rows:
        near = _near(prices, row["provider"], row["model"])
        priced = isinstance(
            prices.tariff(provider=row["provider"], model=row["model"] or "", at=row["last_call"].timestamp()), Tariff
        )
        if as_json:
            render.say(render.as_json({**row, "nearest": near, "has_a_price_now": priced}))
            continue
        render.say(_told(row))
        if priced:
            render.say("    these prices know it: `llmlog reprice` gives it its cost")
        elif near:
            render.say(render.line(f"    nearest names: {', '.join(near)}"))
    if not rows and not as_json:
        render.say(f"every call that was counted since {since} has a cost")
    if rows:
        raise typer.Exit(1)


def _told(row: Mapping[str, Any]) -> str:
    name = render.text(f"{row['provider'] or '(no provider)'} {row['model'] or '(no model)'}").plain
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    return (
        f"{name}: {row['calls']:,} calls, {tokens:,} tokens; {render.text(row['reason'] or 'no reason is known').plain}"
    )


def _near(prices: Pricer, provider: str | None, model: str | None) -> list[str]:
    """Names like this one that have a price: at the same provider, else at any."""
    if not model:
        return []
    for names in (prices.known(provider) if provider else [], prices.known(None)):
        bare = {name.rpartition("/")[2]: name for name in reversed(names)}
        found = difflib.get_close_matches(model.rpartition("/")[2].lower(), bare, n=_OFFERED, cutoff=0.6)
        if found:
            return [bare[name] for name in found]
    return []
