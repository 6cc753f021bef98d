"""URLs without what must not be known: user info, signatures, keys and tokens in query, fragment and path.

More than the semantic conventions ask for: OpenTelemetry's own instrumentations mask user info and the signatures of
S3, Azure and Google, and leave `?key=` and `?access_token=`.
"""

from __future__ import annotations

import re

from otel_llmlog.redact.names import is_credential
from otel_llmlog.redact.shapes import MASK

_URL = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{1,40}+://)([^\s\"'<>`\\]++)")
# As the semantic conventions have it; brackets in its place would make it no URL.
_USER = "REDACTED"
_HOST_END = re.compile(r"[/?#]")
# A password may hold what ends a host, where its writer forgot to encode it; a port is none.
_UNENCODED = re.compile(r"[^/?#@:]*+:(?!\d{1,5}(?:[/?#,]|\Z))[^@]++@")
_PARAMETER = re.compile(r"([?&#;])([^=&#;?]{1,128})=([^&#;]++)")
# Credentials that are called so in URLs alone: what an OAuth server gives out once, and what it asks for it.
_PARAMETERS = frozenset({"assertion", "code", "code_verifier", "samlresponse", "ticket"})
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
# Paths that are secret as a whole behind their beginning.
_SECRET_PATH = re.compile(
    r"((?:hooks\.slack(?:-gov)?\.com/\w{1,20}|discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks|webhook\.office\.com/webhookb?2?)/"
    r"|api\.telegram\.org/(?:file/)?bot)[^?#]+"
)
_OPAQUE = re.compile(r"[\w=~-]{24,}", re.ASCII)
_TURN = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[a-z0-9])|(?<=[0-9])(?=[A-Za-z])")


def mask_urls(text: str) -> str:
    """The text with every absolute URL in it masked."""
    return _URL.sub(lambda found: found[1] + _masked(found[2]), text)


def unescaped(text: str) -> str:
    """The text without its percent encoding."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    try:
        return plain.encode("latin-1").decode()
    except UnicodeError:
        return plain


def _masked(rest: str) -> str:
    end = found.start() if (found := _HOST_END.search(rest)) else len(rest)
    if (at := rest.rfind("@", 0, end)) >= 0:
        rest = rest if rest[:at] == "git" else _USER + rest[at:]
    elif "@" in rest and (found := _UNENCODED.match(rest)):
        rest = _USER + rest[found.end() - 1 :]
    rest = _SECRET_PATH.sub(rf"\1{MASK}", rest)
    path, mark, query = rest, "", ""
    if found := re.search(r"[?#]", rest):
        path, mark, query = rest[: found.start()], found[0], rest[found.end() :]
    return mask_path(path) + _PARAMETER.sub(_parameter, mark + query)


def mask_relative(url: str) -> str:
    """The rest of a URL from its path on, or from its query on, masked."""
    if "=" in url and not url.startswith("/"):
        return _PARAMETER.sub(_parameter, f"?{url}")[1:]
    path, mark, query = url.partition("?")
    return mask_path(path) + _PARAMETER.sub(_parameter, mark + query)


def mask_path(path: str) -> str:
    """A path with the parts masked that are random, as keys are."""
    return "/".join([MASK if _is_opaque(part) else part for part in path.split("/")])


def _parameter(found: re.Match[str]) -> str:
    name = unescaped(found[2])
    secret = is_credential(name) or name.lower() in _PARAMETERS or _is_opaque(found[3])
    if not secret and "%" in found[3]:  # a URL in the URL
        inner = unescaped(found[3])
        secret = mask_urls(inner) != inner
    return f"{found[1]}{found[2]}={MASK}" if secret else found[0]


def _is_opaque(part: str) -> bool:
    """Whether a part of a URL is random: of long keys nearly all turn from letters to digits and capitals all the time.

    Names and numbers, ids in hex and UUIDs do not.
    """
    if len(part) < 24 or _OPAQUE.fullmatch(part) is None or not any(map(str.isdigit, part)):
        return False
    return len(_TURN.findall(part)) >= 0.35 * len(part) and part != part.lower() and part != part.upper()
