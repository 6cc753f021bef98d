"""What is in collector_config is what the programs take, and its files fit one another."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_llmlog import config
from tests.collector.programs import BACKENDS, CONFIGURATION, OTELCOL, ROOT, Collector, clean, jaeger, need_backends

FILES = sorted(CONFIGURATION.rglob("*.yaml"))
# A configuration, and the files that it is read together with.
COLLECTORS = {
    "otelcol.yaml": ["processors.yaml", "otelcol.yaml"],
    "agent": ["processors.yaml", "kafka/agent.yaml"],
    "gateway": ["processors.yaml", "kafka/gateway.yaml"],
}
# `${env:NAME:-default}` in the collector's and Jaeger's files.
_VARIABLE = re.compile(r"\$\{env:([A-Z_]+)(?::-([^}]*))?\}")


def _load(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CONFIGURATION / name).read_text(encoding="utf-8"))
    return read


def _validated(program: Path, *files: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), "validate", *(part for file in files for part in ("--config", str(CONFIGURATION / file)))]
    return subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("files", COLLECTORS.values(), ids=COLLECTORS)
def test_the_real_collector_takes_the_configuration(files: list[str]) -> None:
    need_backends()
    done = _validated(OTELCOL, *files)
    assert done.returncode == 0, done.stderr


def test_the_real_jaeger_takes_its_configuration() -> None:
    need_backends()
    done = _validated(jaeger(), "jaeger.yaml")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["otelcol.yaml", "kafka/agent.yaml"])
def test_a_collector_listens_only_when_all_its_queues_are_open(name: str, tmp_path: Path) -> None:
    # What comes earlier may be written over in the queue's file, and is lost. The order was a matter of chance once.
    need_backends()
    for _ in range(6):
        with Collector(tmp_path, configuration=name) as collector:
            pass
        told = collector.log.read_text(encoding="utf-8")
        collector.log.unlink()
        assert told.rindex("persistent_queue.go") < told.index("Starting GRPC server")


def test_a_collector_without_its_processors_does_not_start() -> None:
    need_backends()
    done = _validated(OTELCOL, "otelcol.yaml")
    assert done.returncode != 0
    assert "memory_limiter" in done.stderr or "no_content" in done.stderr


@pytest.mark.parametrize("name", ["otelcol.yaml", "kafka/agent.yaml", "kafka/gateway.yaml", "jaeger.yaml"])
def test_every_variable_is_told_at_the_top_of_the_file_and_has_a_default_for_one_machine(name: str) -> None:
    text = (CONFIGURATION / name).read_text(encoding="utf-8")
    head = text[: text.index("\n\n")]
    body = text[len(head) :]
    used = _VARIABLE.findall(body)
    assert used
    for variable, _ in used:
        assert variable in head or variable == "OTELCOL_LOG_LEVEL" or variable == "JAEGER_LOG_LEVEL", variable
    # But a token, which nobody but its owner can know.
    assert {variable for variable, default in used if not default} <= {"LLMLOG_SINK_TOKEN"}


def test_every_address_is_this_machine_unless_someone_says_otherwise() -> None:
    for file in FILES:
        if file.name in {"docker-compose.yaml", "builder.yaml"}:
            continue
        for variable, default in _VARIABLE.findall(file.read_text(encoding="utf-8")):
            if variable.endswith(("_HOST", "_ENDPOINT", "_HEALTH", "_BROKERS")):
                assert "127.0.0.1" in default, (file.name, variable)


def test_nothing_waits_outside_the_queues_file_and_nothing_is_too_large_for_what_comes_next() -> None:
    sink = config.SinkSettings.model_fields["sink_max_message_bytes"].default
    for name in ("otelcol.yaml", "kafka/agent.yaml"):
        read = _load(name)
        exporter = read["exporters"].get("otlp_grpc/llmlog") or read["exporters"]["kafka"]
        queue = exporter["sending_queue"]
        assert queue["storage"] == "file_storage"
        assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
        assert read["extensions"]["file_storage"]["fsync"] is True
        protocols = read["receivers"]["otlp"]["protocols"]
        received = protocols["http"]["max_request_body_size"]
        assert received == protocols["grpc"]["max_recv_msg_size_mib"] << 20
        assert received < queue["batch"]["max_size"] < exporter.get("producer", {}).get("max_message_bytes", sink)
        assert queue["sizer"] == "bytes"
        used = {part for pipeline in read["service"]["pipelines"].values() for part in pipeline["processors"]}
        assert not any(part.startswith("batch") for part in used)
    gateway = _load("kafka/gateway.yaml")
    assert gateway["exporters"]["otlp_grpc/llmlog"]["sending_queue"] == {"enabled": False}
    assert gateway["receivers"]["kafka/llmlog"]["message_marking"] == {
        "after": True,
        "on_error": False,
        "on_permanent_error": False,
    }
    agent = _load("kafka/agent.yaml")["exporters"]["kafka"]
    assert (
        agent["producer"]["max_message_bytes"]
        <= gateway["receivers"]["kafka/llmlog"]["max_partition_fetch_size"]
        == sink
    )


def test_what_goes_to_jaeger_goes_through_what_takes_content_off() -> None:
    for name in ("otelcol.yaml", "kafka/gateway.yaml"):
        pipelines = _load(name)["service"]["pipelines"]
        to_jaeger = [line for line in pipelines.values() if any("jaeger" in exporter for exporter in line["exporters"])]
        assert to_jaeger
        for line in to_jaeger:
            assert line["processors"][0] == "memory_limiter"
            assert "transform/no_content" in line["processors"]


def test_the_builder_lists_every_part_that_is_used_and_none_besides_of_one_release() -> None:
    built = _load("builder.yaml")
    version = built["dist"]["version"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"OCB_VERSION := v{version}\n" in makefile
    assert (CONFIGURATION / built["dist"]["output_path"]).resolve() == BACKENDS / "otelcol"
    modules = {
        kind: [line["gomod"] for line in built[kind]] for kind in ("receivers", "processors", "exporters", "extensions")
    }
    assert {line.split()[1] for lines in modules.values() for line in lines} == {f"v{version}"}
    names = {
        kind: {re.sub(rf"{kind[:-1]}$", "", line.split()[0].rsplit("/", 1)[1]) for line in lines}
        for kind, lines in modules.items()
    }
    used: dict[str, set[str]] = {kind: set() for kind in modules}
    for files in COLLECTORS.values():
        for file in files:
            read = _load(file)
            for kind, found in used.items():
                found |= {name.partition("/")[0].replace("_", "") for name in read.get(kind, {})}
    # OTLP's two exporters are named for their modules, with the protocol behind; that over HTTP is there for whoever has a
    # sink behind a proxy that speaks nothing else.
    used["exporters"] = {"otlp" if name == "otlpgrpc" else name for name in used["exporters"]} | {"otlphttp"}
    assert used == names


def test_compose_brings_up_the_same_files_releases_and_settings() -> None:
    services = _load("docker-compose.yaml")["services"]
    assert services.keys() == {"collector", "jaeger", "postgres", "sink"}
    version = _load("builder.yaml")["dist"]["version"]
    assert services["collector"]["image"].endswith(f":{version}")
    for name, own in (("collector", "otelcol.yaml"), ("jaeger", "jaeger.yaml")):
        mounts = dict(volume.split(":")[:2] for volume in services[name]["volumes"])
        for argument in services[name]["command"]:
            inside = argument.removeprefix("--config=")
            outside = next(source for source, target in mounts.items() if target == inside)
            assert (CONFIGURATION / outside).is_file()
        text = "".join((CONFIGURATION / file).read_text(encoding="utf-8") for file in (own, "processors.yaml"))
        known = {variable for variable, _ in _VARIABLE.findall(text)} | {"GOMEMLIMIT"}
        assert services[name]["environment"].keys() <= known
    settings = {f"{config.ENV_PREFIX}{name.upper()}" for part in config.PARTS for name in part.model_fields}
    assert services["sink"]["environment"].keys() <= settings
    for service in services.values():
        # Nothing is open to other machines.
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    build = services["sink"]["build"]
    assert (CONFIGURATION / build["context"] / build["dockerfile"]).resolve() == CONFIGURATION / "Dockerfile"
