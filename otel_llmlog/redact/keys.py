"""API keys as the hashes by which rows and events name them."""

from __future__ import annotations

import hashlib
import re

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


def key_id(given: str) -> str:
    """The hash of a key that may have been hashed already: a SHA-256 in hex stays what it is."""
    return given if _SHA256.fullmatch(given) else key_hash(given)
