"""The commands about money, as a person meets them: prices, reprice, reconcile."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from otel_llmlog.cli.app import app
from otel_llmlog.errors import LLMLogError
from otel_llmlog.payload import StandardLoggingModelCostFailureDebugInformation as Failure, Usage
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record
from tests.store.test_reconcile import GPT, NOON_NS, openai_usage
from tests.store.test_reprice import priced

PRICES = {"gpt-4o": {"input_cost_per_token": 0.5, "output_cost_per_token": 1, "litellm_provider": "openai"}}
Run = Callable[..., Result]


@pytest.fixture
def price_map(tmp_path: Path) -> str:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES), encoding="utf-8")
    return str(path)


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    def command(*arguments: str, code: int = 0) -> Result:
        environment = {"LLMLOG_DATABASE_URL": database_url, "HOME": str(tmp_path), "COLUMNS": "200"}
        done = CliRunner().invoke(app, list(arguments), env=environment)
        assert done.exit_code == code, done.output
        return done

    return command


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_prices_show_quotes_a_million_tokens_and_says_where_from(run: Run, price_map: str) -> None:
    shown = run("prices", "show", "gemini-2.5-pro", "--provider", "gemini").stdout
    assert "genai-prices" in shown
    assert "above 200,000 tokens" in shown
    assert "$1.25" in shown
    (found,) = lines(run("prices", "show", "gpt-4o", "--provider", "openai", "--price-map", price_map, "--json"))
    assert (found["source"], found["entry"]) == ("price_map", "gpt-4o")
    assert found["prices"] == [
        {
            "above_input_tokens": 0,
            "unit_prices": {"input": {"price": "0.5", "per": 1}, "output": {"price": "1", "per": 1}},
        }
    ]
    batch = lines(run("prices", "show", "gpt-4o", "--provider", "openai", "--tier", "batch", "--json"))
    assert batch[0]["prices"][0]["unit_prices"]["input"]["price"] == "0.00000125"
    assert "an hour of audio input" in run("prices", "show", "whisper-1").stdout
    assert {"openai"} <= {line["provider"] for line in lines(run("prices", "show", "gpt-4o-mini", "--json"))}


def test_prices_show_offers_the_nearest_names(run: Run) -> None:
    said = run("prices", "show", "gpt-4o-mimi", "--provider", "openai", code=1).stderr
    assert "no price for model 'gpt-4o-mimi'" in said
    assert "gpt-4o-mini" in said


def test_prices_diff_tells_each_price_and_fails_if_there_is_one(run: Run, price_map: str, tmp_path: Path) -> None:
    assert run("prices", "diff", price_map, price_map).stdout == "no differences\n"
    dearer = tmp_path / "dearer.json"
    dearer.write_text(json.dumps({"gpt-4o": {**PRICES["gpt-4o"], "input_cost_per_token": 0.75}, "new": {}}))
    assert run("prices", "diff", price_map, str(dearer), code=1).stdout.splitlines() == [
        "gpt-4o: input_cost_per_token 0.5 -> 0.75 (+50.0%)",
        "new: new",
        "2 differences in 2 models",
    ]
    assert lines(run("prices", "diff", price_map, str(dearer), "--model", "GPT", "--json", code=1)) == [
        {"model": "gpt-4o", "price": "input_cost_per_token", "before": "0.5", "after": "0.75"}
    ]
    assert run("prices", "diff", "built-in", "built-in").stdout == "no differences\n"
    assert "is no file" in run("prices", "diff", price_map, "nowhere.json", code=2).stderr


def test_prices_check_names_models_without_a_price(run: Run, exporter: PostgresExporter, price_map: str) -> None:
    assert "has a cost" in run("prices", "check").stdout
    unknown = {
        "spend": None,
        "response_cost": None,
        "response_cost_failure_debug_info": Failure(error_str="no price for it"),
    }
    exporter.export(
        [
            record(),
            record(model="gpt-4o-mimi", **unknown),
            record(model="gpt-4o-mimi", **unknown),
            record(model="gpt-4o", **unknown),
            record(model="uncounted", usage=Usage(), **unknown),
            record(model="failed", status="failure", **unknown),
        ]
    )
    said = run("prices", "check", "--price-map", price_map, code=1).stdout.splitlines()
    assert said == [
        "openai gpt-4o-mimi: 2 calls, 240 tokens; no price for it",
        f"    nearest names: {said[1].partition(': ')[2]}",
        "openai gpt-4o: 1 calls, 120 tokens; no price for it",
        "    these prices know it: `llmlog reprice` gives it its cost",
    ]
    assert "gpt-4o-mini" in said[1]
    first, second = lines(run("prices", "check", "--json", code=1))
    assert (first["model"], first["calls"], first["has_a_price_now"]) == ("gpt-4o-mimi", 2, False)
    assert (second["model"], second["has_a_price_now"]) == ("gpt-4o", True)


def test_reprice_shows_the_difference_before_it_writes(
    run: Run, exporter: PostgresExporter, price_map: str, query: Any
) -> None:
    exporter.export([priced(), priced()])
    shown = run("reprice", "--since", "1d", "--price-map", price_map, "--dry-run").stdout
    assert "openai gpt-4o" in shown
    assert "2 calls would have another cost: +139.9750 USD" in shown
    assert query("SELECT sum(spend) FROM llmlog.spend_logs") == [(Decimal("0.0250"),)]
    refused = run("reprice", "--since", "1d", "--price-map", price_map, code=2)
    assert "--yes" in refused.stderr
    assert "openai gpt-4o" in refused.stdout
    assert query("SELECT sum(spend) FROM llmlog.spend_logs") == [(Decimal("0.0250"),)]
    (told,) = lines(run("reprice", "--since", "1d", "--price-map", price_map, "--json"))
    assert (told["changed"], told["written"], told["difference"]) == (2, False, "139.9750")
    done = run("reprice", "--since", "1d", "--price-map", price_map, "--yes").stdout
    assert "2 calls have another cost" in done
    assert query("SELECT sum(spend) FROM llmlog.spend_logs") == [(140,)]
    assert "all equal" in run("db", "check").stdout
    assert "0 calls would have another cost" in run("reprice", "--since", "1d", "--price-map", price_map).stdout
    assert lines(run("audit", "list", "--json"))[0]["operation"] == "spend.reprice"


@pytest.mark.parametrize(("answer", "cost"), [(b"n\n", Decimal("0.0125")), (b"y\n", Decimal(70))])
def test_reprice_asks_a_person(
    database_url: str,
    exporter: PostgresExporter,
    price_map: str,
    query: Any,
    tmp_path: Path,
    answer: bytes,
    cost: Decimal,
) -> None:
    exporter.export([priced()])
    command = [str(Path(sys.executable).parent / "llmlog"), "reprice", "--since", "1d", "--price-map", price_map]
    environment = {"LLMLOG_DATABASE_URL": database_url, "HOME": str(tmp_path), "PATH": ""}
    terminal, end = pty.openpty()
    try:
        os.write(terminal, answer)
        done = subprocess.run(
            command, stdin=end, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        os.close(terminal)
        os.close(end)
    assert "Change 1 calls, +69.9875 USD?" in done.stdout
    assert query("SELECT spend FROM llmlog.spend_logs") == [(cost,)]


def test_reconcile_shows_what_is_missing_and_fails_if_anything_is(
    run: Run, exporter: PostgresExporter, tmp_path: Path
) -> None:
    exporter.export([record(start_ns=NOON_NS, response_model="gpt-4o-2024-08-06") for _ in range(2)])
    export = tmp_path / "usage.json"
    export.write_bytes(openai_usage(GPT))
    agreed = run("reconcile", "--provider", "openai", str(export)).stdout
    assert agreed.startswith(
        "1 days and models compared by requests, input_tokens, cached_tokens, output_tokens: all agree"
    )
    export.write_bytes(openai_usage(GPT, {**GPT, "model": "gpt-unseen"}, has_more=True))
    apart = run("reconcile", "--provider", "openai", str(export), code=1).stdout
    assert "not in the table" in apart
    assert "1 do not agree" in apart
    assert "more pages" in apart
    (line,) = lines(run("reconcile", "--provider", "openai", str(export), "--json", code=1))
    assert (line["model"], line["requests_theirs"], line["requests_ours"]) == ("gpt-unseen", "2", None)
    rows = csv.DictReader(
        io.StringIO(run("reconcile", "--provider", "openai", str(export), "--csv", "--all", code=1).stdout)
    )
    assert [row["finding"] for row in rows] == ["agrees", "not in the table"]
    bill = tmp_path / "bill.csv"
    bill.write_text("date,model,cost\n2026-11-20,gpt-4o,0.025\n", encoding="utf-8")
    assert "all agree" in run("reconcile", "--provider", "csv", "--of", "openai", str(bill)).stdout
    assert "--of must name" in run("reconcile", "--provider", "csv", str(bill), code=2).stderr
    assert "--provider must be one of" in run("reconcile", "--provider", "x", str(bill), code=2).stderr
    bill.write_text("nothing", encoding="utf-8")
    with pytest.raises(LLMLogError, match="must have the columns"):
        raise run("reconcile", "--provider", "csv", "--of", "openai", str(bill), code=1).exception or AssertionError
