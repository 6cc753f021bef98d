"""Settings: `LLMLOG_*` environment variables, and a YAML file named by `LLMLOG_CONFIG`.

Always true: settings are frozen once loaded; the environment wins over the file; a bad value raises one
`ConfigError` line that names the setting, the value and what is allowed. The file may be LiteLLM's own: known keys
of its `general_settings` and `litellm_settings` are read, and the rest of it is left alone.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from otel_llmlog import address, config_values, files, settings_file
from otel_llmlog.errors import ConfigError

# Stands in an id before the name of the sender that it belongs to (see `sink.ownership`). In no other name.
SENDER_MARK = "\u203a"
ENV_PREFIX = "LLMLOG_"
_SHA256 = re.compile(r"[0-9a-f]{64}")

_PLACEHOLDER = re.compile(r"\{[^{}]*\}")

Names = Annotated[tuple[str, ...], NoDecode]
Table = Annotated[dict[str, str], NoDecode]


class _Part(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The YAML file's values come in as keywords; the environment must win over them.
        return (env_settings, init_settings)


def _file(limit: int) -> AfterValidator:
    """A file that can be read, of up to so many bytes."""

    def is_file(path: Path | None) -> Path | None:
        if path is not None:
            try:
                files.check(path, limit)
            except OSError as error:
                raise ValueError(f"must name a readable file: {files.reason(error)}") from None
        return path

    return AfterValidator(is_file)


PriceFile = Annotated[Path | None, _file(files.MAX_PRICES)]
SmallFile = Annotated[Path | None, _file(files.MAX_SMALL)]


class ContentSettings(_Part):
    """What may be kept of a call's content."""

    store_prompts_in_spend_logs: bool = False
    """Keep messages and responses, in spans and in `spend_log_contents`. Off: no content anywhere."""
    max_string_length_prompt_in_db: int = Field(2048, ge=64)
    """Characters of one string of content that are kept; the middle of a longer one is cut out and marked."""


class CaptureSettings(_Part):
    """How calls are read on the wire."""

    inject_stream_usage: bool = False
    """Ask for usage in OpenAI streams that did not ask: adds `stream_options.include_usage` to the request."""
    max_body_bytes: int = Field(64 << 20, ge=1 << 16)
    """Bytes of one request or response that are looked at. Of a longer stream, its beginning and end are kept."""
    max_pending: int = Field(10_000, gt=0)
    """Finished calls that may wait to be read. When full, new ones are dropped and counted."""
    max_pending_bytes: int = Field(256 << 20, ge=1 << 20)
    """Bytes those calls may hold. Above, a call keeps its row but not its bodies."""
    provider_hosts: Table = {}
    """Which provider stands behind a host of your own: `llm.corp.example=azure,10.0.0.7=vllm`."""

    _read_table = field_validator("provider_hosts", mode="before")(config_values.table)
    _check_hosts = field_validator("provider_hosts")(config_values.hosts)


class IdentitySettings(_Part):
    """Who calls, for calls that do not say so themselves."""

    user_id: str | None = None
    """User that calls without one are booked on."""
    team_id: str | None = None
    """Team that calls without one are booked on."""
    team_alias: str | None = None
    """Readable name of that team."""
    organization_id: str | None = None
    """Organisation that calls without one are booked on."""
    end_user: str | None = None
    """End user that calls without one are booked on."""
    session_id: str | None = None
    """Session of calls that name none, such as one batch run. Unset: that of the call they follow, or none."""
    tags: Names = ()
    """Tags added to every call, separated by commas."""
    api_key_aliases: Table = Field({}, repr=False)
    """Readable names of API keys: `<sha256 of the key>=alias,…`. A raw key given here is hashed when read."""

    _read_names = field_validator("tags", mode="before")(config_values.names)
    _read_table = field_validator("api_key_aliases", mode="before")(config_values.table)

    @field_validator("api_key_aliases")
    @classmethod
    def _hash_raw_keys(cls, aliases: dict[str, str]) -> dict[str, str]:
        return {
            key if _SHA256.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest(): alias
            for key, alias in aliases.items()
        }


class PricingSettings(_Part):
    """Where prices come from, before the built-in ones."""

    price_map: PriceFile = None
    """A price file in the format of LiteLLM's model_prices_and_context_window.json; its prices win."""


class PipelineSettings(_Part):
    """How finished calls are queued and written."""

    exporter: Literal["postgres", "otlp"] = "postgres"
    """`otlp`: send rows as spans to a collector (OTEL_EXPORTER_OTLP_ENDPOINT); the app needs no database then."""
    disable_spend_logs: bool = False
    """Write no rows at all; spans and metrics go on."""
    disable_error_logs: bool = False
    """Write no rows for failed calls; spans and metrics go on."""
    queue_size: int = Field(2_000, gt=0)
    """Records that may wait in memory, when the spool takes no more. When full, new ones are dropped and counted."""
    batch_size: int = Field(512, gt=0, le=10_000)
    """Calls that fill a batch. When more wait, two batches share a transaction."""
    flush_interval: float = Field(0.5, gt=0, le=60)
    """Seconds between two batches that are not full: a record after a pause goes at once."""
    shutdown_timeout: float = Field(10.0, ge=0, le=300)
    """Seconds the program may take at its end to write what is left; less once a try has failed."""


class AuditSettings(_Part):
    """What is kept of management operations, and which are seen without the app's help."""

    store_audit_logs: bool = True
    """Store what `otel_llmlog.audit` records, and what it sees, in `audit_logs`. Off: log records only."""
    audit_asgi: bool = False
    """Watch the management routes of every Starlette and FastAPI app in the process. LiteLLM's are built in."""
    audit_client: bool = True
    """Record the calls that the app makes to a LiteLLM proxy's management routes over httpx and httpx2."""
    audit_routes: Table = {}
    """Own management routes: `POST /admin/users/{id}=user.update,DELETE /admin/keys/{id}=key.delete`."""
    audit_sync_timeout: float = Field(10.0, gt=0, le=300)
    """Seconds that `sync=True` may wait for the database before it raises AuditNotRecorded."""

    _read_table = field_validator("audit_routes", mode="before")(config_values.table)


class SpoolSettings(_Part):
    """Where records wait on disk, so that they survive the process."""

    spool_dir: Path | None = None
    """Where records wait until they are stored. Unset: `otel-llmlog/spool` in the user's state directory."""
    spool_max_bytes: int = Field(1 << 30, ge=1 << 20)
    """Bytes of disk the spool may use. When full, new records wait in memory, then are dropped and counted."""
    spool_fsync: bool = False
    """Off: records survive the death of the process. On: of the machine, too, at the price of a disk write a call."""


class StoreSettings(_Part):
    """Which database."""

    database_url: SecretStr | None = None
    """`postgresql://user:password@host/database`. Unset: the embedded Postgres, where that extra is installed."""
    embedded_dir: Path | None = None
    """Where the embedded Postgres keeps its data. Unset: `otel-llmlog/postgres` in the user's data directory."""
    auto_migrate: bool = True
    """Create and upgrade the tables at start. Off: run `llmlog db upgrade` with a role that may."""
    connect_timeout: int = Field(10, gt=0, le=300)
    """Seconds to wait for the database to answer."""

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            address.read(url.get_secret_value())
        return url

    def left_out(self) -> str | None:
        """One line on what in the URL is meant for other tools and so not heeded; None when all is."""
        names = address.read(self.database_url.get_secret_value()).left_out if self.database_url else ()
        if not names:
            return None
        tables = "; the tables are in the schema llmlog in any case" if "schema" in names else ""
        return f"{ENV_PREFIX}DATABASE_URL: {', '.join(names)} left out: not PostgreSQL's own{tables}"


class RetentionSettings(_Part):
    """How long rows are kept. Periods are like `30d`, `12h` or `2w`; a bare number is days."""

    maximum_spend_logs_retention_period: timedelta | None = None
    """How long request logs are kept, such as `30d`; they go by whole days (UTC). Unset: for ever. Sums stay."""
    maximum_spend_log_contents_retention_period: timedelta | None = None
    """How long messages and responses are kept, if shorter than that. Unset: as long as the request logs."""
    maximum_audit_logs_retention_period: timedelta | None = None
    """How long audit logs are kept. What goes is signed off in the chain, which still verifies. Unset: for ever."""
    maximum_spend_logs_retention_interval: timedelta = timedelta(days=1)
    """How often old logs are looked for. One process of all that share the database does it."""

    _read_periods = field_validator("*", mode="before")(config_values.period)


class TraceSettings(_Part):
    """Where traces are looked at."""

    trace_url_template: str | None = None
    """Address of a trace in your tracing backend, such as `http://localhost:16686/trace/{trace_id}` for Jaeger;
    `{span_id}` may stand in it, too. Calls on the command line are links to it then."""

    @field_validator("trace_url_template")
    @classmethod
    def _leads_to_a_trace(cls, template: str | None) -> str | None:
        if template is None:
            return None
        names = set(_PLACEHOLDER.findall(template))
        if "{trace_id}" not in names or names - {"{trace_id}", "{span_id}"}:
            raise ValueError("must contain {trace_id}, may contain {span_id}, and no other name in braces")
        if not template.startswith(("http://", "https://")) or not template.isprintable():
            raise ValueError("must be an address that starts with http:// or https://")
        return template

    def trace_url(self, trace_id: str, span_id: str) -> str | None:
        """Where this span is looked at; None when nobody has said."""
        if self.trace_url_template is None:
            return None
        # A sender's name is ours, not the trace's.
        span_id = span_id.partition(SENDER_MARK)[0]
        # Ids come from whoever sent the span: nothing in them may change where the address leads.
        given = {"{trace_id}": quote(trace_id, safe=""), "{span_id}": quote(span_id, safe="")}
        return _PLACEHOLDER.sub(lambda found: given[found[0]], self.trace_url_template)


class SinkSettings(_Part):
    """How `llmlog sink` receives, and from whom."""

    sink_host: str = "127.0.0.1"
    """Address that `llmlog sink` listens on. Another than loopback needs a token or client certificates."""
    sink_grpc_port: int = Field(4317, ge=0, le=65_535)
    """Port of OTLP/gRPC. 0: any that is free."""
    sink_http_port: int = Field(4318, ge=0, le=65_535)
    """Port of OTLP/HTTP, health and readiness. 0: any that is free."""
    sink_workers: int = Field(1, ge=1, le=64)
    """Processes that receive, each with a connection to the database."""
    sink_token: SecretStr | None = None
    """Bearer token that senders must show: `authorization: Bearer …`, over gRPC and HTTP alike."""
    sink_tokens: SmallFile = None
    """File of senders' tokens, a line each: name, SHA-256 of the token, team or nothing (any)."""
    sink_tls_cert: SmallFile = None
    """PEM file with the server's certificate and its chain. Set with the key: both ports speak TLS only."""
    sink_tls_key: SmallFile = None
    """PEM file with the certificate's private key."""
    sink_tls_client_ca: SmallFile = None
    """PEM file with the CA that senders' certificates must be of (mTLS)."""
    sink_allow_anonymous: bool = False
    """Listen on any address without a token or client certificates: whoever reaches the port may write rows."""
    sink_max_message_bytes: int = Field(16 << 20, ge=1 << 16, le=1 << 30)
    """Bytes of one request, unpacked. A larger one is refused for good: let senders split their batches."""
    sink_max_pending_bytes: int = Field(64 << 20, ge=1 << 20)
    """Bytes of requests that wait for their COMMIT, of one process. Above, senders are told to try again."""
    sink_max_requests: int = Field(256, ge=1, le=100_000)
    """Requests that one process has in hand at a time. Above, senders are told to try again."""
    sink_max_lines: int = Field(10_000, ge=1)
    """Lines of the hourly sums that one sender may begin in an hour. Beyond, names are `(other)` in row and sum."""

    @field_validator("sink_token")
    @classmethod
    def _cannot_be_guessed(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"[!-~]{16,}", token.get_secret_value()):
            raise ValueError("must have at least 16 characters, none of them a space")
        return token


class Settings:
    """All settings, one part for each part of the program."""

    __slots__ = (
        "audit",
        "capture",
        "content",
        "identity",
        "pipeline",
        "pricing",
        "retention",
        "sink",
        "spool",
        "store",
        "traces",
    )

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        """Read the environment over `values`, plain or with their place in a file. Raises ConfigError."""
        self.content = _read(ContentSettings, values)
        self.capture = _read(CaptureSettings, values)
        self.identity = _read(IdentitySettings, values)
        self.pricing = _read(PricingSettings, values)
        self.pipeline = _read(PipelineSettings, values)
        self.audit = _read(AuditSettings, values)
        self.spool = _read(SpoolSettings, values)
        self.store = _read(StoreSettings, values)
        self.retention = _read(RetentionSettings, values)
        self.traces = _read(TraceSettings, values)
        self.sink = _read(SinkSettings, values)


PARTS: tuple[type[_Part], ...] = (
    StoreSettings,
    ContentSettings,
    IdentitySettings,
    PricingSettings,
    CaptureSettings,
    PipelineSettings,
    AuditSettings,
    SpoolSettings,
    RetentionSettings,
    TraceSettings,
    SinkSettings,
)
# Variables that are no setting of this process, yet not typing errors either.
_OTHER_VARIABLES = {settings_file.VARIABLE}

_P = TypeVar("_P", bound=_Part)


def _read(part: type[_P], values: Mapping[str, object] | None) -> _P:
    said = {
        name: given if isinstance(given, settings_file.Given) else settings_file.Given(given, name)
        for name, given in (values or {}).items()
        if name in part.model_fields
    }
    try:
        return part(**{name: given.value for name, given in said.items()})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "?"
        wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("should be", "must be")
        # A database URL holds a password, an alias map may hold keys: say what is wrong with them, not what they are.
        hidden = name not in part.model_fields or _is_secret(part.model_fields[name])
        found = "" if hidden else f", found {_cut(repr(first['input']))}"
        variable = f"{ENV_PREFIX}{name.upper()}"
        by_environment = any(value for key, value in os.environ.items() if key.upper() == variable)
        where = variable if by_environment or name not in said else said[name].where
        raise ConfigError(f"{where} {wanted}{found}") from None


def _is_secret(field: FieldInfo) -> bool:
    return not field.repr or "SecretStr" in str(field.annotation)


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the YAML file that `LLMLOG_CONFIG` names, if any, then the environment over it. Raises ConfigError."""
    path = environ.get(settings_file.VARIABLE)
    return Settings(settings_file.read(Path(path), environ, _forms()) if path else None)


def _forms() -> dict[str, settings_file.Form]:
    """How each setting is written in a file."""
    return {name: _form(str(field.annotation)) for part in PARTS for name, field in part.model_fields.items()}


def _form(annotation: str) -> settings_file.Form:
    if annotation.startswith("tuple"):
        return "names"
    if annotation.startswith("dict"):
        return "table"
    return {str(bool): "switch", str(int): "number", str(float): "number"}.get(annotation, "text")  # type: ignore[return-value] # literals


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """`LLMLOG_*` variables that no setting reads, each with the setting it may have meant."""
    known = {ENV_PREFIX + name.upper() for part in PARTS for name in part.model_fields} | _OTHER_VARIABLES
    unknown = [name for name in environ if name.startswith(ENV_PREFIX) and name not in known]
    return {name: next(iter(difflib.get_close_matches(name, known, n=1)), None) for name in unknown}
