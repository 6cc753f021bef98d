"""The settings file: what the README says of it, and files that are wrong, hostile or somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from otel_llmlog import config, files, settings_file
from otel_llmlog.errors import ConfigError
from otel_llmlog.pricing import names
from otel_llmlog.provider_names import KNOWN
from otel_llmlog.providers import hosts

BIN = Path(sys.executable).parent
Load = Callable[..., config.Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Settings with this file and these variables."""

    def settings(text: str | bytes, **environ: str) -> config.Settings:
        file = tmp_path / "c.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LLMLOG_CONFIG", str(file))
        return config.load()

    return settings


def _refusal(load: Load, text: str | bytes, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(text, **environ)
    told = str(refused.value)
    assert told.isprintable()  # one line
    assert len(told) < 600
    return told


# What the README says.


def test_settings_have_their_names_in_lower_case_under_our_section(load: Load) -> None:
    found = load("llmlog:\n  batch_size: 7\n  team_id: blue\n  flush_interval: 2\n  store_audit_logs: off\n")
    assert (found.pipeline.batch_size, found.identity.team_id) == (7, "blue")
    assert (found.pipeline.flush_interval, found.audit.store_audit_logs) == (2.0, False)


def test_every_setting_can_be_in_the_file(load: Load) -> None:
    assert load("llmlog:\n" + "".join(f"  {name}:\n" for part in config.PARTS for name in part.model_fields))


def test_the_environment_wins_and_an_empty_variable_says_nothing(load: Load) -> None:
    text = "llmlog:\n  batch_size: 7\n  team_id: t1\n"
    found = load(text, LLMLOG_BATCH_SIZE="9", LLMLOG_TEAM_ID="")
    assert (found.pipeline.batch_size, found.identity.team_id) == (9, "t1")


def test_the_sections_of_litellm_are_read_and_ours_wins_over_them(load: Load) -> None:
    text = "litellm_settings:\n  batch_size: 1\n  tags: a\n  team_id: x\ngeneral_settings:\n  batch_size: 2\n  tags: b\nllmlog:\n  batch_size: 3\n"
    found = load(text)
    assert (found.pipeline.batch_size, found.identity.tags, found.identity.team_id) == (3, ("b",), "x")


LITELLM = """
model_list:
  - &one {model_name: "gpt-4o", litellm_params: {model: azure/gpt-4o, api_key: os.environ/AZURE_KEY, rpm: 6}}
  - {<<: *one, model_name: "gpt-4o-eu"}
litellm_settings:
  drop_params: true
  num_retries: 3
  num_retries: 4
  callbacks: [otel_llmlog.integrations.litellm.handler]
  max_string_length_prompt_in_db: 100
  store_audit_logs: true
  cache_params: {type: redis, host: os.environ/REDIS_HOST}
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: os.environ/DATABASE_URL
  store_prompts_in_spend_logs: true
  disable_spend_logs: null
  maximum_spend_logs_retention_period: "30d"
  maximum_spend_logs_retention_interval: 12h
  alerting: ["slack"]
  pass_through_endpoints: [{path: "/v1/rerank", target: !!python/name:os.system ""}]
router_settings: {routing_strategy: usage-based-routing}
environment_variables:
  DATABASE_URL: postgresql://from@the.file/x
"""


def test_litellms_file_is_read_as_it_is(load: Load) -> None:
    found = load(LITELLM)
    assert found.content.store_prompts_in_spend_logs is True
    assert found.content.max_string_length_prompt_in_db == 100
    assert found.retention.maximum_spend_logs_retention_period == timedelta(days=30)
    assert found.retention.maximum_spend_logs_retention_interval == timedelta(hours=12)
    assert found.store.database_url is not None
    assert found.store.database_url.get_secret_value() == "postgresql://from@the.file/x"  # LiteLLM sets them, too
    assert load(LITELLM, DATABASE_URL="postgresql://of@the.environment/x").store.database_url is not None


def test_a_file_of_litellms_without_a_section_of_ours_is_no_error(load: Load) -> None:
    assert load("model_list: []\nrouter_settings: {}\n").pipeline.batch_size == 512


@pytest.mark.parametrize(
    "text",
    [
        "llmlog:\n  team_id: os.environ/T\n",
        "llmlog: {tags: [a, os.environ/T]}",
        "llmlog: {api_key_aliases: {k: os.environ/T}}",
    ],
)
def test_os_environ_takes_a_value_from_the_environment(load: Load, text: str) -> None:
    found = load(text, T="blue").identity
    assert "blue" in (found.team_id, *found.tags, *found.api_key_aliases.values())
    assert "takes its value from T2, which is not set" in _refusal(load, text.replace("/T", "/T2"))
    assert load("llmlog:\n  team_id: os.environ/E\n", E="").identity.team_id is None


@pytest.mark.parametrize("door", ["opentelemetry-instrument", "llmlog run", "OTEL_TRACES_EXPORTER", "instrument()"])
def test_a_wrong_value_stops_the_program_at_once_in_one_line(tmp_path: Path, door: str) -> None:
    (tmp_path / "c.yaml").write_text("llmlog:\n  bacth_size: 7\n")
    environment = {**os.environ, "LLMLOG_CONFIG": str(tmp_path / "c.yaml"), "OTEL_TRACES_EXPORTER": "none"}
    program = "print('it runs')"
    command = [sys.executable, "-c", program]
    if door == "instrument()":
        command[2] = "import otel_llmlog; otel_llmlog.instrument(); " + program
    elif door == "llmlog run":
        command = [str(BIN / "llmlog"), "run", "--", *command]
    else:
        command = [str(BIN / "opentelemetry-instrument"), *command]
        if door == "OTEL_TRACES_EXPORTER":
            # As a distribution of OpenTelemetry has it, which is what reads that variable.
            distribution = tmp_path / "distribution-1.dist-info"
            distribution.mkdir()
            configurator = "configurator = opentelemetry.sdk._configuration:_OTelSDKConfigurator"
            (distribution / "entry_points.txt").write_text(f"[opentelemetry_configurator]\n{configurator}\n")
            (distribution / "METADATA").write_text("Name: distribution\nVersion: 1\n")
            environment |= {
                "PYTHONPATH": str(tmp_path),
                "OTEL_TRACES_EXPORTER": "llmlog",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "llmlog",
            }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    told = [line for line in done.stderr.splitlines() if line]
    assert f"llmlog.bacth_size in {tmp_path / 'c.yaml'}, line 2, is no setting; did you mean batch_size?" in told[-1]
    if door != "instrument()":  # there it is the app's to catch
        assert len(told) == 1


@pytest.mark.slow
def test_the_commands_say_it_in_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("llmlog:\n  batch_size: many\n")
    environment = {**os.environ, "LLMLOG_CONFIG": str(tmp_path / "c.yaml")}
    for command in ("status", "spend", "spool", "db"):
        arguments = {"spool": ["spool", "drain"], "db": ["db", "upgrade"]}.get(command, [command])
        done = subprocess.run(
            [BIN / "llmlog", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert f"llmlog.batch_size in {tmp_path / 'c.yaml'}, line 2, must be a valid integer" in done.stderr


# Files that are wrong.


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("llmlog:\n  bacth_size: 7\n", "llmlog.bacth_size in FILE, line 2, is no setting; did you mean batch_size?"),
        ("llmlog:\n  llmlog_batch_size: 7\n", "llmlog.llmlog_batch_size in FILE, line 2, is no setting; did you mean batch_size?"),
        ("llmlog:\n  LLMLOG_TEAM_ID: x\n", "did you mean team_id?"),
        ("llmlog:\n  Batch-Size: 7\n", "did you mean batch_size?"),
        ("general_settings:\n  llmlog_tags: x\n", "general_settings.llmlog_tags in FILE, line 2, is no setting; did you mean tags?"),
        ("llmlog:\n  zzzzzz: 7\n", "llmlog.zzzzzz in FILE, line 2, is no setting"),
        ("batch_size: 7\n", "batch_size in FILE, line 1, stands outside of a section; put batch_size under `llmlog:`"),
        ("llmlog_batch_size: 7\n", "put batch_size under `llmlog:`"),
        ("model_list: []\nspool_dir: /x\n", "spool_dir in FILE, line 2, stands outside of a section"),
        ("llmlogs:\n  batch_size: 7\n", "llmlogs in FILE, line 1, is no section; did you mean llmlog?"),
        ("general_setting:\n  x: 7\n", "did you mean general_settings?"),
        ("LLMLOG:\n  batch_size: 7\n", "did you mean llmlog?"),
        ("whatever:\n  batch_size: 7\n", "whatever in FILE, line 1, is no section; settings stand under `llmlog:`"),
        ("bacth_size: 7\n", "did you mean batch_size under `llmlog:`?"),
        ("- llmlog\n", "FILE must hold sections, such as litellm_settings, general_settings, llmlog; found a list"),
        ("llmlog\n", "found text"),
        ("", "found nothing"),
        ("# all commented out\n", "found nothing"),
        ("llmlog: 7\n", "llmlog in FILE, line 1, must be a mapping of settings, found text"),
        ("general_settings: [a]\n", "general_settings in FILE, line 1, must be a mapping of settings, found a list"),
        ("llmlog:\n  tags: a\n  team_id: x\n  tags: b\n", "tags in FILE is there twice, in lines 2 and 4"),
        ("llmlog: {}\nllmlog: {tags: a}\n", "llmlog in FILE is there twice, in lines 1 and 2"),
        ("general_settings:\n  database_url: a\n  database_url: b\n", "database_url in FILE is there twice"),
        ("llmlog:\n  team_id: [a]\n", "llmlog.team_id in FILE, line 2, must be one value, found a list"),
        ("llmlog:\n  batch_size: {a: 1}\n", "must be one value, found a mapping"),
        ("llmlog:\n  tags: {a: 1}\n", "must be a list, or names separated by commas, found a mapping"),
        ("llmlog:\n  tags: [[a]]\n", "must hold plain values, found a list"),
        ("llmlog:\n  provider_hosts: [a]\n", "must be a mapping, or name=value pairs"),
        ("llmlog:\n  batch_size: true\n", "llmlog.batch_size in FILE, line 2, must be a valid integer"),
        ("llmlog:\n  store_audit_logs: 1.5\n", "must be a valid boolean"),
        ("llmlog:\n  batch_size: 7.5\n", "must be a valid integer"),
        ("llmlog:\n  batch_size: " + "9" * 6000 + "\n", "llmlog.batch_size in FILE, line 2, "),
        ("llmlog:\n  store_prompts_in_spend_logs: 2\n", "llmlog.store_prompts_in_spend_logs in FILE, line 2, must be a valid boolean"),
        ("llmlog:\n  exporter: otpl\n", "must be 'postgres' or 'otlp', found 'otpl'"),
        ("llmlog:\n  maximum_spend_logs_retention_period: 30 moons\n", "must be a period such as 30d"),
        ("llmlog:\n  database_url: mysql://u:geheim@h/d\n", "llmlog.database_url in FILE, line 2, must "),
        ("llmlog:\n  provider_hosts: {llm.corp: opnai}\n", "'opnai' is none; did you mean openai?"),
        ("llmlog:\n\tbatch_size: 7\n", "line 2"),
        ("llmlog: {batch_size: 7\n", "line 2"),
        ("llmlog: *nothing\n", "line 1"),
        ("llmlog: {}\n---\nllmlog: {}\n", "line 2"),
        ("llmlog:\n  team_id: !!python/object/apply:os.system [ls]\n", "llmlog.team_id in FILE, line 2, must be one value"),
        ("llmlog:\n  team_id: !!python/name:os.system\n", "must be a plain value, found the tag python/name:os.system"),
        ("llmlog:\n  team_id: !own x\n", "found the tag !own"),
        ("llmlog:\n  team_id: !!binary aGVsbG8=\n", "found the tag binary"),
        ('llmlog:\n  team_id: "a\\u202eb"\n  "bad\\u202ekey\\e[31m": 1\n', "is no setting"),
        (b"llmlog:\n  team_id: \xff\xfe\n", "byte 19 is no UTF-8"),
        ("llmlog:\n  team_id: x\n".encode("utf-16"), "is no UTF-8"),
        (b"llmlog:\n  team_id: \x00\n", "FILE is none: "),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line_with_key_file_line_and_the_nearest_right_name(
    load: Load, tmp_path: Path, text: str | bytes, says: str
) -> None:
    told = _refusal(load, text)
    assert says.replace("FILE", str(tmp_path / "c.yaml")) in told
    assert "geheim" not in told


def _bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"llmlog: {{tags: *a{levels - 1}}}", ""])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_bomb(9), "it has more than 500,000 values, its aliases expanded, line 6"),
        ("x: &a [*a, *a]\nllmlog: {}\n", "line 1"),
        ("llmlog: &a {<<: *a}\n", "line 1"),
        ("llmlog: {tags: " + "[" * 100_000 + "]" * 100_000 + "}\n", "it nests deeper than 64 levels, line 1"),
        ("llmlog: " + "{a: " * 5000 + "\n", "it nests deeper than 64 levels, line 1"),
        ("- " * 50_000, "it nests deeper than 64 levels, line 1"),
        ("llmlog: [" + "x," * 600_000 + "]\n", "it has more than 500,000 values"),
        (
            "llmlog: {tags: a}\n#" + "x" * settings_file.MAX_BYTES,
            f"it is larger than {settings_file.MAX_BYTES:,} bytes",
        ),
    ],
)
def test_files_that_would_take_all_memory_or_time_are_refused(load: Load, text: str, says: str) -> None:
    assert says in _refusal(load, text)


@pytest.mark.parametrize("setting", ["LLMLOG_CONFIG", "LLMLOG_PRICE_MAP", "LLMLOG_SINK_TLS_CERT"])
@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "device", "10 GB"])
def test_what_is_no_file_to_be_read_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, kind: str
) -> None:
    place = tmp_path / "file"
    if kind == "directory":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place = Path("/dev/zero")
    elif kind == "10 GB":
        with place.open("wb") as file:
            file.truncate(10 << 30)
    monkeypatch.setenv(setting, str(place))
    with pytest.raises(ConfigError) as refused:
        config.load()
    told = str(refused.value)
    assert told.startswith(f"{setting} must name a readable ")
    assert {"missing": "No such file", "pipe": "a named pipe", "10 GB": "larger than"}.get(kind, f"a {kind}") in told


def test_a_command_takes_prices_from_a_pipe_but_not_without_end(tmp_path: Path) -> None:
    prices = '{"m": {"litellm_provider": "openai", "input_cost_per_token": 0.5, "output_cost_per_token": 1}}'
    show = f"{BIN / 'llmlog'} prices show m --provider openai --json --price-map"
    done = subprocess.run(
        ["bash", "-c", f"{show} <(echo '{prices}')"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "price_map" in done.stdout
    done = subprocess.run(["bash", "-c", f"{show} /dev/zero"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"it is larger than {files.MAX_PRICES:,} bytes" in done.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("team_id: 42", "42"),
        ("team_id: 0042", "0042"),
        ("team_id: 2026-11-01", "2026-11-01"),
        ("team_id: yes", "yes"),
        ("team_id: 1e3", "1e3"),
        ("team_id: 'os.environ'", "os.environ"),
        ("team_id: ''", None),
        ("team_id: ~", None),
        ("team_id: &x blue\n  user_id: *x", "blue"),
        ("<<: {team_id: merged, tags: a}\n  tags: b", "merged"),
        ("<<: [{team_id: first}, {team_id: second}]", "first"),
        ("<<: {team_id: merged}\n  team_id: own", "own"),
    ],
)
def test_text_is_taken_as_it_is_written(load: Load, text: str, value: str | None) -> None:
    assert load(f"llmlog:\n  {text}\n").identity.team_id == value


@pytest.mark.parametrize("text", ["a, b", "[a, b]", "\n    - a\n    - b", "[a, ~, b]"])
def test_lists_are_taken_however_they_are_written(load: Load, text: str) -> None:
    assert load(f"llmlog:\n  tags: {text}\n").identity.tags == ("a", "b")


@pytest.mark.parametrize(
    "text",
    ["Llm.Corp=azure,10.0.0.7:8000=vllm", "{Llm.Corp: azure, '10.0.0.7:8000': vllm}", "['Llm.Corp=azure', '10.0.0.7:8000=vllm']",
     "[{Llm.Corp: azure}, {'10.0.0.7:8000': vllm}]", "'{\"Llm.Corp\": \"azure\", \"10.0.0.7:8000\": \"vllm\"}'"],
)  # fmt: skip
def test_tables_are_taken_however_they_are_written(load: Load, text: str) -> None:
    found = load(f"llmlog:\n  provider_hosts: {text}\n").capture.provider_hosts
    assert found == {"llm.corp": "azure", "10.0.0.7:8000": "vllm"}


@pytest.mark.parametrize(("text", "value"), [("0x10", 16), ("1_000", 1000), ("'7'", 7), ("8.0", 8)])
def test_numbers_are_read_by_the_rules_of_yaml(load: Load, text: str, value: int) -> None:
    assert load(f"llmlog:\n  batch_size: {text}\n").pipeline.batch_size == value


# Providers behind hosts.


def test_every_name_that_our_own_tables_give_is_known() -> None:
    ours = {*hosts._HOSTS.values(), *hosts._DOMAINS.values(), *hosts._PORTS.values(), *hosts._AGENTS.values()}
    assert (
        ours | {"openai", "anthropic", "cohere", "gemini", "bedrock", "mistral", "ollama"} | set(names._PROVIDERS)
        <= KNOWN
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [("opnai", "openai"), ("OpenAI", "openai"), ("openaii", "openai"), ("antropic", "anthropic"), ("gorq", "groq"),
     ("azur", "azure"), ("bedrok", "bedrock"), ("mistrall", "mistral"), ("vlm", "vllm"), ("vertex-ai", "vertex_ai")],
)  # fmt: skip
def test_a_misspelt_provider_is_refused_and_the_nearest_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv("LLMLOG_PROVIDER_HOSTS", f"llm.corp={name}")
    with pytest.raises(ConfigError, match=f"LLMLOG_PROVIDER_HOSTS .*{name}.* is none; did you mean {meant}"):
        config.load()


@pytest.mark.parametrize(
    "name",
    [*sorted(KNOWN), "our-gateway", "corp", "openai-eu", "azure2", "eu_openai", "llm_farm", "mistral-on-prem", "x"],
)
def test_known_providers_and_names_of_ones_own_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LLMLOG_PROVIDER_HOSTS", f"llm.corp={name}")
    assert config.load().capture.provider_hosts == {"llm.corp": name}


@pytest.mark.parametrize("host", ["https://llm.corp", "llm.corp/v1", "", "a b"])
def test_what_is_no_host_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("LLMLOG_PROVIDER_HOSTS", f"{host}=azure")
    with pytest.raises(ConfigError, match="must name hosts, without scheme and path"):
        config.load()


def test_an_unknown_variable_stops_nothing(load: Load) -> None:
    assert load("llmlog: {}", LLMLOG_BACTH_SIZE="7").pipeline.batch_size == 512
    assert config.unknown_variables({"LLMLOG_BACTH_SIZE": "7"}) == {"LLMLOG_BACTH_SIZE": "LLMLOG_BATCH_SIZE"}
