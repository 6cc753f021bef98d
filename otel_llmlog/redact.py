"""Pure rules for what may leave the process: key hashing, credential masks, clean text, cut content.

Always true: nothing returned here holds a raw key, a NUL or a lone surrogate (Postgres and OTLP refuse both);
cost is linear in the input and nesting is bounded.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from typing import Any

MASK = "[redacted]"
# Levels of nested content that are kept. Real messages and tool schemas stay below 20.
MAX_DEPTH = 64
TOO_DEEP = "[nested too deep]"
# Characters of a name (model, id, user, tag, …) that are kept. The longest real ones are Bedrock ARNs, below 300.
MAX_NAME = 512

# Headers that SDKs add by themselves: generated ones describe themselves, nine to a request; AWS's sign the request,
# and one of them is a hash of its content.
_SDK_HEADERS = ("x-stainless-", "x-amz-")

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Words that mark a field or header as a credential, wherever they stand in its name.
_CREDENTIAL_NAME = re.compile(
    r"auth(?!or(?!i[sz]))|token(?!s|i[sz]|[-_.]?(?:count|limit|budget|usage))|secret(?!ar)|passw|pwd|passphrase"
    r"|credential|cookie|session-?key|signature"
    r"|(?:api|access|private|subscription|functions|client|goog|master)[-_.]?keys?(?-i:(?![a-z]))"
    r"|(?:^|[-_.])key(?:$|[-_.])",
    re.IGNORECASE,
)
# Values that are credentials whatever they are called: bearer and basic headers, vendor key prefixes, JWTs. A JWT is
# looked for once in each run of its characters: a search from every `ey` would take time quadratic in the run.
_CREDENTIAL_VALUE = re.compile(
    r"\b(?:bearer|basic)\s+\S+|\b(?:(?:sk|pk|rk|gsk|xai|key|pat|ghp|glpat|hf|r8)[-_]|AKIA|AIza)[A-Za-z0-9_-]{16,}"
    r"|(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*\bey)[A-Za-z0-9_-]{12,}+\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+)*",
    re.IGNORECASE,
)

# More of them, for what an app hands over to be audited: there a mask too many is better than a key. LiteLLM's keys
# may be as short as its documentation's `sk-1234`; a URL holds a password; a private key spans lines.
_CREDENTIAL_IN_AUDIT = re.compile(
    r"\bsk-[A-Za-z0-9_-]{4,}|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|(?<=://)[^/\s:@]{0,256}:[^/\s@]{1,256}(?=@)"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]{0,20000}(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?"
)
# Names of lists of keys. As a number, `tokens` is a count.
_CREDENTIALS_NAME = re.compile(r"(?:^|[-_.]|(?<=[a-z]))(?:keys|tokens)$", re.IGNORECASE)
# What a request to AWS is signed with: the id of the access key is in it, the secret never is.
_SIGNED = re.compile(r"AWS4-HMAC-SHA256\s.{0,64}?Credential=([A-Za-z0-9_]{1,128})/")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def key_hash(credential: str) -> str:
    """SHA-256 (hex) of an API key, `Bearer ` stripped: the same value LiteLLM stores for the same key.

    Of a signature of AWS: of the id of the access key, for the signature itself is another one each time.
    """
    if (signed := _SIGNED.match(credential.strip())) is not None:
        credential = signed[1]
    scheme, separator, rest = credential.strip().partition(" ")
    key = rest.strip() if separator and scheme.lower() == "bearer" else credential.strip()
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def clean(text: str) -> str:
    """The text with every NUL and lone surrogate replaced by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def name(value: Any) -> str | None:
    """A name from an untrusted place, as clean text of at most `MAX_NAME` characters; None when it is no name."""
    if value.__class__ is str and len(value) <= MAX_NAME and value.isascii() and "\0" not in value:
        return value or None  # nearly all are so
    if isinstance(value, str):
        return clean(value[:MAX_NAME]) or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if -(10**18) < value < 10**18 else None
    return None


def mask(text: str) -> str:
    """The text with everything that has the shape of a credential masked."""
    return _CREDENTIAL_VALUE.sub(MASK, text)


def is_credential(field: str) -> bool:
    """Whether a header or field of this name holds a credential."""
    return _CREDENTIAL_NAME.search(field) is not None


def mask_in_audit(text: str) -> str:
    """The text with everything masked that has the shape of a credential, short keys and passwords in URLs included."""
    return mask(_CREDENTIAL_IN_AUDIT.sub(MASK, text))


def is_credential_in_audit(field: str, value: Any) -> bool:
    """Whether a field of this name holds a credential, or a list of them; a number under such a name is a count."""
    if is_credential(field):
        return value is not None and not isinstance(value, bool)
    return isinstance(value, str | list | tuple | set | frozenset) and _CREDENTIALS_NAME.search(field) is not None


def key_id(given: str) -> str:
    """The hash of a key that may have been hashed already: a SHA-256 in hex stays what it is."""
    return given if _SHA256.fullmatch(given) else key_hash(given)


def object_id(given: str) -> str:
    """The name of an object from an untrusted place: a raw key is hashed, as LiteLLM names its keys."""
    text = clean(given[:MAX_NAME])
    return key_hash(given) if text.startswith("sk-") else mask_in_audit(text)


def custom_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The caller's own `x-` headers, not those in which an SDK describes itself; credentials are masked."""
    return {
        clean(lower[:MAX_NAME]): MASK if is_credential(field) else mask(clean(value[:MAX_NAME]))
        for field, value in headers
        if (lower := field.lower()).startswith("x-") and not lower.startswith(_SDK_HEADERS)
    }


def storable(value: Any, limit: int | None = None, depth: int = MAX_DEPTH) -> Any:
    """JSON-like data made fit to store: clean strings, each cut to `limit` characters, depth bounded.

    What JSON does not know, an app's own object in its metadata say, becomes text.
    """
    if isinstance(value, str):
        return clean(value if limit is None else cut(value, limit))
    if isinstance(value, dict | list | tuple) and depth <= 0:
        return TOO_DEEP
    if isinstance(value, dict):
        return {
            clean((k if isinstance(k, str) else _shown(k))[:MAX_NAME]): storable(v, limit, depth - 1)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [storable(item, limit, depth - 1) for item in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return storable(_shown(value), limit)


def _shown(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an object of the app's may fail in its own ways
        return f"[{type(value).__name__}]"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of a string: 35 % head, 65 % tail and between them how much was left out.

    The proportion is LiteLLM's, whose users know it: the end of a prompt is what was asked.
    """
    if len(text) <= limit:
        return text
    marker = f"... [{len(text) - limit} characters skipped] ..."
    head = limit * 35 // 100
    return text[:head] + marker + text[len(text) - (limit - head) :]


def masked(value: Any) -> Any:
    """JSON-like data (of bounded depth) with credentials masked, by the name of their field and by their shape."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {field: MASK if is_credential(field) and v is not None else masked(v) for field, v in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value
