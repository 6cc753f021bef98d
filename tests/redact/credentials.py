"""Credentials as vendors make them, built from parts so that no scanner takes them for real ones; names; carriers."""

from __future__ import annotations

import base64
import csv
import io
import json
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

_ALNUM = "h7Gq2Xv9Kd4Mz8Rt1Wb6Yc3Nf5Jp0LsTuAeQiVoDgHk"
_HEX = "4f1c9a7be02d863fa15bc470d9e28f36b07a5d1ec84932fb60d7ea18c35f9b24"


def _a(count: int) -> str:
    return (_ALNUM * 4)[:count]


def _j(*parts: str) -> str:
    return "".join(parts)


def _jwt(*parts: dict[str, Any]) -> str:
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, _a(43)])


SHAPED: dict[str, str] = {
    "OpenAI": _j("sk", "-", _a(48)),
    "OpenAI project": _j("sk-", "proj-", _a(40), "_", _a(30), "-", _a(10)),
    "OpenAI service account": _j("sk-", "svcacct-", _a(60)),
    "OpenAI admin": _j("sk-", "admin-", _a(60)),
    "OpenAI session": _j("sess", "-", _a(40)),
    "Anthropic": _j("sk-", "ant-api03-", _a(93), "AA"),
    "Anthropic OAuth": _j("sk-", "ant-oat01-", _a(90)),
    "LiteLLM": _j("sk", "-", "1234"),
    "LiteLLM long": _j("sk", "-", _a(22)),
    "OpenRouter": _j("sk-", "or-v1-", _HEX),
    "DeepSeek": _j("sk", "-", _HEX[:32]),
    "Langfuse secret": _j("sk-", "lf-", _HEX[:8], "-", _HEX[8:12], "-4a11-9c1d-", _HEX[20:32]),
    "Langfuse public": _j("pk-", "lf-", _HEX[:8], "-", _HEX[8:12], "-4a11-9c1d-", _HEX[20:32]),
    "Groq": _j("gsk", "_", _a(52)),
    "xAI": _j("xai", "-", _a(80)),
    "Perplexity": _j("pplx", "-", _a(48)),
    "Replicate": _j("r8", "_", _a(37)),
    "Fireworks": _j("fw", "_", _a(22)),
    "Cerebras": _j("csk", "-", _a(48).lower()),
    "Voyage": _j("pa", "-", _a(43)),
    "Nvidia": _j("nvapi", "-", _a(64)),
    "Together": _j("tgp_v1", "_", _a(43)),
    "Google": _j("AIza", "Sy", _a(33)),
    "Google new": _j("AQ", ".", "Ab8", _a(47)),
    "Google OAuth": _j("ya29", ".", "a0", _a(60)),
    "Google client": _j("GOCSPX", "-", _a(28)),
    "Hugging Face": _j("hf", "_", _a(34)),
    "LangSmith": _j("lsv2", "_pt_", _HEX[:32], "_", _HEX[:10]),
    "LlamaCloud": _j("llx", "-", _a(48)),
    "Jina": _j("jina", "_", _HEX[:32], _a(20)),
    "Tavily": _j("tvly", "-", _a(32)),
    "Pinecone": _j("pcsk", "_", _a(5), "_", _a(50)),
    "Bedrock": _j("ABSK", _a(100), "=="),
    "ElevenLabs": _j("sk", "_", _HEX[:48]),
    "AWS": _j("AKIA", "IOSFODNN7", "ABCDEFG"),
    "AWS temporary": _j("ASIA", "IOSFODNN7", "ABCDEFG"),
    "Azure": _j(_a(52), "JQQJ9", "9BCAC", _a(22)),
    "Azure AD": _j("aB3", "8Q~", _a(31)),
    "Azure storage": _j(_a(43), "+/", _a(41), "=="),
    "GitHub": _j("ghp", "_", _a(36)),
    "GitHub app": _j("ghs", "_", _a(36)),
    "GitHub fine": _j("github", "_pat_", _a(22), "_", _a(59)),
    "GitLab": _j("glpat", "-", _a(20)),
    "GitLab runner": _j("glrt", "-", _a(20)),
    "Slack bot": _j("xoxb", "-", "263594206564", "-", "2343594206574", "-", _a(24)),
    "Slack app": _j("xapp", "-1-", "A0123456789", "-", "1234567890123", "-", _HEX),
    "HashiCorp": _j("hvs", ".", _a(90)),
    "Terraform": _j(_a(14), ".atlasv1.", _a(60)),
    "npm": _j("npm", "_", _a(36)),
    "PyPI": _j("pypi", "-AgEIcHlwaS5vcmc", _a(70)),
    "SendGrid": _j("SG", ".", _a(22), ".", _a(43)),
    "Stripe": _j("sk", "_live_", _a(24)),
    "Stripe restricted": _j("rk", "_test_", _a(24)),
    "Stripe webhook": _j("whsec", "_", _a(32)),
    "Databricks": _j("dapi", _HEX[:32]),
    "DigitalOcean": _j("dop", "_v1_", _HEX),
    "Shopify": _j("shpat", "_", _HEX[:32]),
    "Notion": _j("ntn", "_", _a(46)),
    "Grafana": _j("glsa", "_", _a(32), "_", _HEX[:8]),
    "Telegram": _j("110201543", ":AA", _a(33)),
    "JWT": _jwt({"alg": "HS256", "typ": "JWT"}, {"sub": "1234", "name": "Ada"}),
    "bearer": _j("Bea", "rer ", "Zq-", _a(20)),
    "basic": _j("Ba", "sic ", base64.b64encode(b"ada:opensesame").decode()),
}
_BODY = "\n".join(_a(160)[i : i + 64].ljust(64, "x") for i in range(0, 160, 32))
PRIVATE_KEYS: dict[str, str] = {
    kind: _j("-----BEG", f"IN {kind}PRIVATE ", "KEY-----\n", _BODY, "\n-----E", f"ND {kind}PRIVATE ", "KEY-----")
    for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")
}

# Secrets that have no shape: only their name tells of them.
SHAPELESS = ["hunter2", "correct-horse-9", "Tr0ub4dor&3!", "4821", "p@ss,w0rd", "päßwort7", "x" * 40, "abc/def+ghi=="]

NAMES = """
authorization Proxy-Authorization x-authorisation x-auth api_key apikey apiKey X-Api-Key openaiApiKey OPENAI_API_KEY
apiKeyId accessKeyId key private_key sshPrivateKey Ocp-Apim-Subscription-Key x-goog-api-key x-functions-key token
access_token x-amz-security-token csrfToken secret client_secret aws_secret_access_key password passwd db_pwd passphrase
credential credentials cookie set-cookie session-key sessionKey signature x-hub-signature-256 signingKey AccountKey dsn
pass pin otp jwt sas DATABASE_URL connectionString DB_PASS dbpass PGPASSWORD smtpPass userPin pin_code otp_code
totpSecret sas_token SENTRY_DSN redis_url CELERY_BROKER_URL connection_string ConnectionStrings authToken GITHUBTOKEN
gh_pat recoveryCodes X-Vault-Token VAULT_SECRET_ID API_KEY_1 apiKey2 PaSsWoRd APIKEY encryptionKey masterKey
ANTHROPIC_AUTH_TOKEN webhookSecret SharedAccessSignature hf.token _authToken user_api_key secrets passwords password_hash
AWSAccessKeyId refreshToken id_token x-signing.key
""".split()  # noqa: SIM905 - a list of so many is not read

HARMLESS = """
max_tokens prompt_tokens completion_tokens cachedTokens tokenizer tokenization tokenise token_count token-limit
tokenBudget token_usage author authors authority co-author keyword keywords api_keyword keyboard monkey turkey hockey
keynote secretary secretariat passenger passage compass bypass model user tags team k client access private hash salt
key_alias primary_key foreign_key public_key passed pinned passthrough pass_through_endpoints pass_through
input_cost_per_token output_cost_per_token user_api_key_hash user_api_key_alias user_api_key_team_id key_name token_hash
cache_key sort_key eos_token_id bos_token auth_type auth_method AuthenticationError KeyError authenticated_at
password_changed_at pin_memory spinner pinboard passes input_tokens_details time_to_first_token tokens_per_second
session_id response_id AuthorName design signal assignee opinion base_url api_version maxTokens stop_tokens
idempotency_key hashed content_type patent pattern patient path patch hotkeys expires key_type key_count
""".split()  # noqa: SIM905 - the same

# (name, value) -> data in which the value stands under the name.
DATA: dict[str, Callable[[str, str], Any]] = {
    "field": lambda n, v: {n: v},
    "field of a list": lambda n, v: {n: [v, v]},
    "field of an object": lambda n, v: {n: {"current": v, "n": 1}},
    "name and value": lambda n, v: [{"name": "REGION", "value": "eu"}, {"name": n, "value": v}],
    "value and name": lambda n, v: [{"value": v, "name": n}],
    "Key and Value": lambda n, v: {"Environment": [{"Key": n, "Value": v}]},
    "field, old and new": lambda n, v: {"changes": [{"field": n, "old": v, "new": v}]},
    "pair": lambda n, v: [[n, v]],
    "pairs": lambda n, v: {"headers": [("accept", "*/*"), (n, v)]},
    "arguments": lambda n, v: ["serve", f"--{n}", v, "--port", "80"],
    "argument": lambda n, v: ["serve", f"--{n}={v}"],
    "beside what is harmless": lambda n, v: {"model": "gpt-4o", "inner": {"a": [1, {n: v}]}, "max_tokens": 5},
}
# (name, value) -> text.
TEXTS: dict[str, Callable[[str, str], str]] = {
    "JSON": lambda n, v: json.dumps({"a": 1, n: v, "b": [2]}),
    "JSON of other spacing": lambda n, v: json.dumps({n: v}, separators=(",", ":"), ensure_ascii=False),
    "JSON over lines": lambda n, v: json.dumps({"x": {n: v}, "y": 1}, indent=2),
    "JSON in JSON": lambda n, v: json.dumps({"body": json.dumps({n: v})}),
    "JSON in JSON in JSON": lambda n, v: json.dumps([json.dumps({"body": json.dumps({n: v, "z": 0})})]),
    "JSON in prose": lambda n, v: f"request failed with {json.dumps({'q': 1, n: v, 'r': 2})} after 3 tries",
    "JSON cut off": lambda n, v: json.dumps({n: v, "messages": ["hello"]})[:-6],
    "escaped JSON in prose": lambda n, v: "sent " + json.dumps(json.dumps({"a": 1, n: v}))[1:-1],
    "escaped twice": lambda n, v: "sent " + json.dumps(json.dumps(json.dumps({n: v})))[1:-1],
    "twice the same name": lambda n, v: f"{{{json.dumps(n)}: {json.dumps(v)}, {json.dumps(n)}: null}}",
    "name and value as JSON": lambda n, v: json.dumps({"env": [{"name": n, "value": v}]}),
    "name and value, cut off": lambda n, v: json.dumps([{"name": n, "value": v}, "rest"])[:-3],
    "lines of JSON": lambda n, v: "\n".join([json.dumps({"a": 1}), json.dumps({n: v})]),
    "repr": lambda n, v: repr({"a": None, n: v, "b": 1}),
    "repr of pairs": lambda n, v: repr([("accept", "*/*"), (n, v)]),
    "repr of bytes": lambda n, v: repr([(b"accept", b"*/*"), (n.encode(), v.encode())]),
    "keyword argument": lambda n, v: f"Client({n}={v!r}, timeout=3)",
    "YAML": lambda n, v: f"model: gpt-4o\n{n}: {v}\nport: 80\n",
    "YAML, nested": lambda n, v: f"litellm_params:\n  model: gpt-4o\n  {n}: '{v}'\n  rpm: 3\n",
    "YAML, a list": lambda n, v: f"a: 1\n{n}:\n  - {v}\n  - {v}\nb: 2\n",
    "YAML, a list at its depth": lambda n, v: f"a: 1\n{n}:\n- {v}\nb: 2\n",
    "YAML, a block": lambda n, v: f"a:\n  {n}: |\n    {v}\n    {v}\n  b: 2\n",
    "YAML, name and value": lambda n, v: f"env:\n- name: {n}\n  value: {v}\n- name: B\n  value: c\n",
    "YAML, value and name": lambda n, v: f"env:\n- value: '{v}'\n  name: {n}\n",
    ".env": lambda n, v: f"# for tests\nA=1\n{n}={v}\nB=2\n",
    ".env, quoted": lambda n, v: f'A=1\nexport {n}="{v}"\nB=2\n',
    "INI": lambda n, v: f"[main]\nhost = db\n{n} = {v}\n",
    "TOML": lambda n, v: f'[main]\nhost = "db"\n{n} = """{v}"""\n',
    "header": lambda n, v: f"accept: */*\r\n{n}: {v}\r\n\r\n",
    "command": lambda n, v: f"serve --port 80 --{n} {shlex.quote(v)} --debug",
    "command, tied": lambda n, v: f"serve --{n}={shlex.quote(v)} --debug",
    "curl": lambda n, v: f"curl -H '{n}: {v}' https://example.com/v1",
    "XML": lambda n, v: f"<config><host>db</host><{n}>{v}</{n}></config>".replace("&", "&amp;"),
    "XML, name and value": lambda n, v: f'<add key="{n}" value="{v}" />',
    "subscript": lambda n, v: f"os.environ['{n}'] = '{v}'",
    "query": lambda n, v: f"https://example.com/v1/x?a=1&{quote(n)}={quote_plus(v)}&b=2",
    "fragment": lambda n, v: f"https://example.com/cb#{quote(n)}={quote_plus(v)}&state=1",
    "relative URL": lambda n, v: f"Max retries exceeded with url: /v1/x?{quote(n)}={quote_plus(v)} (Caused by X)",
    "base64 of JSON": lambda n, v: base64.b64encode(json.dumps({"a": 1, n: v}).encode()).decode(),
    "base64 of JSON for URLs": lambda n, v: base64.urlsafe_b64encode(json.dumps({n: v}).encode()).decode().rstrip("="),
    "base64 over lines": lambda n, v: base64.encodebytes(json.dumps({"pad": "y" * 50, n: v}).encode()).decode(),
    "base64 of base64": lambda n, v: base64.b64encode(base64.b64encode(json.dumps({n: v}).encode())).decode(),
    "base64 of .env": lambda n, v: "config " + base64.b64encode(f"AAAA=1\n{n}={v}\n".encode()).decode() + " end",
    "JSON, encoded for a URL": lambda n, v: "state=" + quote(json.dumps({n: v})),
    "CSV of names and values": lambda n, v: _csv([["name", "value"], [f"{n}", v]]) if "," not in v else f'"{n}", "{v}"',
}


def _csv(rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue()


# Texts that hold a password without a name: (password) -> text.
ADDRESSES: dict[str, Callable[[str], str]] = {
    "Postgres": lambda p: f"postgresql://llmlog:{p}@db.example.com:5432/llmlog?sslmode=require",
    "several hosts": lambda p: f"postgresql://u:{p}@h1:5432,h2:5432,h3/db?target_session_attrs=read-write",
    "key and value": lambda p: f"host=db port=5432 dbname=x user=u password={p} sslmode=require",
    "key and quoted value": lambda p: f"host=db password='{p}' user=u",
    "ADO": lambda p: f"Server=tcp:x.database.example,1433;Initial Catalog=y;User ID=u;Password={p};Encrypt=True;",
    "ODBC": lambda p: f"DRIVER={{PostgreSQL}};SERVER=db;UID=u;PWD={p};",
    "JDBC": lambda p: f"jdbc:postgresql://db/x?user=u&password={p}&ssl=true",
    "Redis": lambda p: f"redis://:{p}@cache:6379/0",
    "AMQP": lambda p: f"amqps://u:{p}@mq/vhost",
    "MongoDB": lambda p: f"mongodb+srv://u:{p}@c0.example.net,c1.example.net/db",
    "Go": lambda p: f"u:{p}@tcp(db:3306)/x?parseTime=true",
    "a token as user": lambda p: f"https://{p}@git.example.com/a/b.git",
    "a token as user, and a word": lambda p: f"https://{p}:x-oauth-basic@git.example.com/a/b.git",
    "curl": lambda p: f"curl -u admin:{p} https://example.com",
    "mysql": lambda p: f"mysql -h db -u root -p{p} app",
    ".netrc": lambda p: f"machine example.com login ada password {p}",
    ".pgpass": lambda p: f"db.example.com:5432:*:llmlog:{p}",
    "Azure storage": lambda p: f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={p};EndpointSuffix=y",
    "SAS": lambda p: f"https://x.blob.core.windows.net/c/b?sv=2022-11-02&se=2027-01-01&sr=b&sp=r&sig={p}",
    "S3": lambda p: f"https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={p}%2F20260101%2Feu&X-Amz-Signature={p}",
    "Google": lambda p: f"https://storage.googleapis.com/b/o?X-Goog-Credential={p}&X-Goog-Signature={p}",
    "OAuth": lambda p: f"https://app.example.com/callback?code={p}&state=1",
    "Gemini": lambda p: f"https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent?key={p}",
}  # fmt: skip
