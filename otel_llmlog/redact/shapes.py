"""What credentials look like, whatever they are called and wherever they stand.

The prefixes are those that the vendors document for their keys, and that scanners of repositories look for. No scanner
is used itself: detect-secrets knows a fifth of the shapes that our tests plant, and no vendor of models; its rule for
names takes quadratic time (half a minute for 16 KB of hostile text); loading it takes half a second. gitleaks is a
program.

Always true: time is linear in the text. Each shape begins where a word begins, and what it repeats ends at the first
character that no key has.
"""

from __future__ import annotations

import binascii
import re
import string

MASK = "[redacted]"

_SHAPE = re.compile(
    r"""(?<![A-Za-z0-9])(?:
    # Vendors of models, and of what goes with them.
      sk-(?:[\w-]{16,}|(?=[\w-]{0,15}\d)[\w-]{4,15})         # OpenAI, Anthropic, OpenRouter, DeepSeek, LiteLLM
    | sess-[\w-]{16,}                                         # OpenAI's sessions
    | (?:sk|pk|rk)_(?:(?=\w{0,15}\d)[\w-]{16,}|(?:live|test|prod)_\w{8,})  # ElevenLabs, Novita, Stripe
    | [pr]k-[\w-]{16,}                                        # Langfuse's and Helicone's public half
    | gsk_\w{16,} | xai-[\w-]{16,} | pplx-[\w-]{16,}          # Groq, xAI, Perplexity
    | r8_\w{16,} | fw_\w{16,} | csk-[\w-]{16,}                # Replicate, Fireworks, Cerebras
    | pa-(?=[\w-]{0,31}[A-Z0-9])[\w-]{20,}                    # Voyage
    | nvapi-[\w-]{16,} | tgp_v\d_[\w-]{16,}                   # Nvidia, Together
    | AIza[\w-]{16,} | AQ\.[\w-]{20,} | ya29\.[\w.-]{16,} | GOCSPX-[\w-]{16,} | 1//0[\w-]{20,}  # Google
    | hf_\w{16,} | api_org_\w{16,}                            # Hugging Face
    | lsv2_(?:pt|sk)_\w{16,} | ls__\w{16,}                    # LangSmith
    | llx-\w{16,} | jina_\w{16,} | tvly-[\w-]{16,}            # LlamaCloud, Jina, Tavily
    | fc-[0-9a-f]{32} | pcsk_\w{16,} | rpa_\w{16,}            # Firecrawl, Pinecone, RunPod
    | wandb_v1_\w{16,} | vc[kp]_\w{16,}                       # Weights & Biases, Vercel
    | ABSK[A-Za-z0-9+/]{40,}={0,2} | bedrock-api-key-[\w+/=-]{16,}  # Amazon Bedrock
    # Clouds and services.
    | (?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA)[A-Z0-9]{12,}  # AWS
    | [A-Za-z0-9]{40,60}JQQJ9[A-Za-z0-9]{20,}                 # Azure
    | gh[pousr]_\w{16,} | github_pat_\w{16,}                  # GitHub
    | gl(?:pat|dt|rt|rtr|ptt|oas|cbt|imt|ft|soat|ffct|agent|wt)-[\w.-]{16,} | GR1348941[\w-]{16,}  # GitLab
    | xox[a-z](?:\.xox[a-z])?-[\w-]{8,} | xapp-\d-[\w-]{8,} | xwfp-[\w-]{16,}  # Slack
    | hv[bsr]\.[\w-]{16,} | \w{14}\.atlasv1\.[\w=-]{16,}      # HashiCorp
    | npm_\w{16,} | pypi-[\w-]{16,} | rubygems_\w{16,} | cio[A-Za-z0-9]{32}(?![A-Za-z0-9])  # registries of packages
    | SG\.[\w-]{12,}+\.[\w-]{12,} | key-[0-9a-f]{32}         # SendGrid, Mailgun
    | whsec_[\w+/=]{16,}                                      # Stripe
    | dapi[0-9a-f]{32}(?:-\d)?                                # Databricks
    | do[opr]_v1_\w{16,} | shp(?:at|ca|pa|ss)_\w{16,} | dp\.[a-z]{2,5}\.[\w.]{16,}  # DigitalOcean, Shopify, Doppler
    | lin_api_\w{16,} | ntn_\w{16,} | secret_\w{16,}          # Linear, Notion
    | PMAK-[\w-]{16,} | figd_[\w-]{16,}                       # Postman, Figma
    | sntr[ysu]{1,2}_[\w=+/-]{16,} | NRAK-\w{16,}             # Sentry, New Relic
    | gl(?:sa|c)_[\w+/=]{16,} | dt0[a-z]\d\d\.[\w.]{16,}      # Grafana, Dynatrace
    | sbp_\w{16,} | sb_secret_[\w-]{16,} | pscale_\w{2,10}_[\w.=-]{16,}  # Supabase, PlanetScale
    | dckr_\w{2,4}_[\w-]{16,} | tskey-[\w-]{16,}             # Docker, Tailscale
    | AT[AB]TT?3[\w=-]{16,} | pat[A-Za-z0-9]{14}\.[0-9a-f]{32,}  # Atlassian, Airtable
    | SK[0-9a-f]{32} | ops_ey[\w=-]{16,} | A3-[A-Z0-9]{6}-[A-Z0-9-]{20,}  # Twilio, 1Password
    | \d{8,10}:AA[\w-]{30,}                                   # Telegram
    | AGE-SECRET-KEY-1[A-Z0-9]{16,} | fm[12]r?_[\w+/=-]{16,}  # age, Fly
    | (?:key|pat|token)[-_](?=[\w-]{0,31}\d)[\w-]{16,}        # many others
    # JSON Web Tokens, whoever signed them.
    | ey[A-Za-z0-9]{10,}+\.[\w-]{8,}(?:\.[\w-]*)*
    )""",
    re.ASCII | re.VERBOSE,
)
# Most words are shorter than any shape, but for LiteLLM's `sk-1234`, and words are quickly measured.
_LONG = 12
_LONG_WORD = re.compile(rf"(?<!\S)\S{{{_LONG},}}+")
# Schemes of the Authorization header.
_BEARER = re.compile(
    r"\b(?i:bearer)\s++(?!(?:token|auth|scheme|header|and|or|of|for|is|was|in|to|the)[a-z]{0,12}(?:[\s,.;:)'\"]|\Z))[^\s,;'\"<>]++"
)
_BASIC = re.compile(r"\b(?i:basic)\s++([A-Za-z0-9+/_-]{4,}+={0,2})")
_SIGNED = re.compile(r"AWS4-HMAC-SHA256\s[^\r\n\"']{1,1024}")
# Secrets of Azure AD and keys of its storage have their marks in the middle or at the end of what else is random.
_MARKED = re.compile(r"[\w~.]{3}\dQ~[\w~.-]{31,34}|(?<![A-Za-z0-9+])[A-Za-z0-9+/]{86}==(?![A-Za-z0-9+/=])", re.ASCII)
# A private key spans lines, or stands in one with \n between, or with pluses in a form; one that was cut has only its
# beginning or its end.
_KEY_BEGIN = re.compile(r"-{4,5} ?BEGIN[ +][A-Z0-9 +]{0,40}PRIVATE[ +]KEY(?:[ +]BLOCK)? ?-{4,5}")
_KEY_END = re.compile(r"-{4,5} ?END[ +][A-Z0-9 +]{0,40}PRIVATE[ +]KEY(?:[ +]BLOCK)? ?-{4,5}")
_BASE64 = string.ascii_letters + string.digits + "+/=\\ \t\r\n"
_KEY_LINES = _BASE64 + ",:.-"


def mask_shapes(text: str) -> str:
    """The text with everything masked that has the shape of a credential."""
    if "PRIVATE" in text:
        text = _without_private_keys(text)
    lower = text.lower()
    if "bearer" in lower:
        text = _BEARER.sub(MASK, text)
    if "basic" in lower:
        text = _BASIC.sub(_basic, text)
    if "AWS4" in text:
        text = _SIGNED.sub(MASK, text)
    if "sk-" in text:
        text = _mask_words(text)
    elif longest_word(text) >= _LONG:
        text = _LONG_WORD.sub(lambda found: _mask_words(found[0]), text)
    return text


def longest_word(text: str) -> int:
    """Characters of the longest run without a space."""
    return max(map(len, text.split()), default=0)


def _mask_words(text: str) -> str:
    text = _SHAPE.sub(MASK, text)
    return _MARKED.sub(MASK, text) if "Q~" in text or "==" in text else text


def is_shape(text: str) -> bool:
    """Whether the text is nothing but one credential."""
    return _SHAPE.fullmatch(text) is not None


def decoded(text: str) -> str | None:
    """What this base64 says, of either alphabet and with or without its padding; None where it is none, or no text."""
    plain = text.rstrip("=").translate(_STANDARD)
    try:
        found = binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True).decode()
    except ValueError:
        return None
    return (
        found
        if found.isprintable() or found.replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
        else None
    )


_STANDARD = str.maketrans("-_", "+/")


def _basic(found: re.Match[str]) -> str:
    """A user and a password; but `Basic Plan` is a name."""
    said = decoded(found[1])
    return MASK if said is not None and ":" in said else found[0]


def _without_private_keys(text: str) -> str:
    kept: list[str] = []
    at = 0
    for end in _KEY_END.finditer(text):
        begin = _KEY_BEGIN.search(text, at, end.start())
        start = at + len(text[at : end.start()].rstrip(_BASE64)) if begin is None else begin.start()
        kept += text[at:start], MASK
        at = end.end()
    rest = text[at:]
    if (begin := _KEY_BEGIN.search(rest)) is not None:
        rest = rest[: begin.start()] + MASK + rest[begin.end() :].lstrip(_KEY_LINES)
    return "".join([*kept, rest])
