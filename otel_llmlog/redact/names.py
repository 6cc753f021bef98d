"""Which names of fields, headers, variables and options say that a credential stands behind them.

A name is split into words at case, `_`, `-`, `.` and digits, so that `signingKey`, `SIGNING_KEY` and `x-signing.key`
are one name, and `monkey`, `author` and `max_tokens` are none.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import lru_cache


class Holds(Enum):
    """What stands behind a name."""

    NOTHING = auto()
    """Nothing secret."""
    CREDENTIAL = auto()
    """A credential, whatever its type."""
    CREDENTIALS = auto()
    """Credentials if it is text or a list: as a number, `tokens` is a count."""


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
# Characters at the end of a name that are looked at.
_MAX_NAME = 256

# Wherever they stand in a word, for many are written as one: `authtoken`, `PGPASSWORD`, `dbpwd`.
_WITHIN = re.compile(
    r"passw|passphrase|passcode|passkey|pwd|secret(?!ar|ion)|credential|cookie|apikey|oauth"
    r"|token(?!s|i[sz])|auth(?!or(?!i[sz])|ent(?!icat))|signature"
    r"|(?:access|account|admin|aes|client|deploy|encryption|functions?|goog|hmac|host|license|master|private|root|rsa|server"
    r"|service|session|shared|signing|ssh|storage|subscription|webhook)key"
    r"|(?<!com)(?<!by)(?<!encom)(?<!sur)(?<!tres)(?<!over)(?<!under)(?<=.)pass$|connstr|conninfo|passwort|kennwort"
)
# The same in a name whose words cannot be told: `PaSsWoRd`.
_WITHIN_ANY = re.compile(r"password|passwd|secret(?!ar|ion)|credential|apikey(?![a-z])|authorization|accesstoken")
# Words by themselves.
_ANYWHERE = frozenset({
    "bearer", "cred", "creds", "dsn", "htpasswd", "jwe", "jws", "jwt", "kubeconfig", "mnemonic", "netrc", "otp", "pat",
    "pem", "pfx", "psk", "sig", "totp",
})  # fmt: skip
# Words that end a name, or stand before one of the next: `db_pass`, `pin`, `pin_code`, `sas_url`; not `pass_through`.
_AT_END = frozenset({"cvc", "cvv", "pass", "pin", "pins", "sas"})
_AFTER_END = frozenset({"code", "number", "phrase", "uri", "url", "value", "word"})
# Of a key, token, signature or scheme of authentication: what is told of it is not the thing itself.
_ABOUT = frozenset({
    "algorithm", "alias", "aliases", "budget", "budgets", "count", "counts", "cost", "duration", "enabled", "error",
    "errors", "exception", "expired", "expires", "expiry", "failed", "failure", "hash", "invalid", "length", "limit",
    "limits", "method", "mode", "name", "names", "policy", "provider", "rate", "required", "rotation", "scheme", "size",
    "spend", "status", "ttl", "type", "types", "usage", "version",
})  # fmt: skip
# Keys that are none of a lock: of tables, caches, messages.
_PLAIN_KEYS = frozenset({
    "cache", "foreign", "group", "idempotency", "map", "partition", "primary", "public", "routing", "sort", "unique",
})  # fmt: skip
# Tokens that are pieces of text.
_PIECES = frozenset({
    "audio", "bos", "cached", "completion", "eos", "first", "image", "input", "max", "min", "next", "output", "pad",
    "per", "prompt", "reasoning", "special", "stop", "text", "thinking", "total", "unk", "used", "video",
})  # fmt: skip
_CODES = frozenset({"activation", "backup", "confirmation", "mfa", "recovery", "reset", "security", "verification"})
# Databases and brokers: their addresses hold passwords.
_ADDRESSES = frozenset({
    "amqp", "backend", "broker", "database", "databases", "db", "jdbc", "mongo", "mongodb", "mysql", "postgres",
    "postgresql", "rabbitmq", "redis", "sqlalchemy",
})  # fmt: skip
# Names by which LiteLLM tells of a key: `user_api_key_alias`, `user_api_key_team_id`.
_OF_KEY = ["user", "api", "key"]


# Apps have few names of fields. Whoever makes up new ones all the time only loses the profit.
@lru_cache(maxsize=4096)
def holds(name: str) -> Holds:
    """What stands behind a field, header, variable or option of this name."""
    name = name[-_MAX_NAME:]
    words = [word.lower() for word in _WORDS.findall(name)]
    if words[:3] == _OF_KEY and len(words) > 3:
        words = words[3:]
    if not words or words[-1] == "at":  # a time: `password_changed_at`
        return Holds.NOTHING
    about = len(words) > 1 and words[-1] in _ABOUT
    for before, word in zip(["", *words], words, strict=False):
        if found := _WITHIN.search(word):
            strong = found[0] not in {"token", "auth", "oauth", "signature", "apikey"} and not found[0].endswith("key")
            if strong or not (about or (word == "token" and before in _PIECES)):
                return Holds.CREDENTIAL
        elif word in _ANYWHERE or word.removesuffix("s") in _ANYWHERE:
            if not about:
                return Holds.CREDENTIAL
        elif word == "key" and not about and before not in _PLAIN_KEYS:
            return Holds.CREDENTIAL
    return _by_end(words)


def _by_end(words: list[str]) -> Holds:
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in _AT_END or (before in _AT_END and last in _AFTER_END):
        return Holds.CREDENTIAL
    if last in {"code", "codes"} and before in _CODES:
        return Holds.CREDENTIAL
    if last in {"uri", "url", "urls"} and not _ADDRESSES.isdisjoint(words):
        return Holds.CREDENTIAL
    if (before.startswith("conn") and last in {"str", "string", "strings"}) or words == ["id", "rsa"]:
        return Holds.CREDENTIAL
    if _WITHIN_ANY.search("".join(words)) and not (len(words) > 1 and last in _ABOUT):
        return Holds.CREDENTIAL
    if last == "keys" and before not in _PLAIN_KEYS:
        return Holds.CREDENTIAL if before in {"api", "access", "private"} else Holds.CREDENTIALS
    if last == "tokens" and before not in _PIECES:
        return Holds.CREDENTIALS
    return Holds.NOTHING


def is_credential(name: str, value: object = "") -> bool:
    """Whether a field of this name holds a credential. Truth values and nothing are none, whatever they are called."""
    if value is None or value is True or value is False:
        return False
    found = holds(name)
    return found is Holds.CREDENTIAL or (
        found is Holds.CREDENTIALS and isinstance(value, str | list | tuple) and not _is_number(value)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, str) and len(value) < 12 and value.isascii() and value.isdigit()
