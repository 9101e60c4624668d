"""API keys and private keys: the high-precision patterns of detect-secrets, without its files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from plumbline.curation.pii.scan import Scan
from plumbline.curation.pii.spans import Span

_ANCHORS = {
    "aws": ("A3T", "ABIA", "ACCA", "AKIA", "ASIA"),
    "github_token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    "gitlab_token": ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "glcbt-", "glptt-", "gloas-"),
    "jwt": ("eyJ",),
    "stripe": ("k_live_",),
    "openai": ("T3BlbkFJ",),
    "azure_storage_key": ("AccountKey=",),
    "pypi_token": ("pypi-Ag",),
    "sendgrid": ("SG.",),
    "slack": ("xox", "hooks.slack.com"),
    "square_oauth": ("sq0csp-",),
}
"""Plug-ins whose keys begin with a telling text, and that text. Entropy and key-word detectors
find too much that is no secret."""

_OTHERS = {
    "AIza": r"AIza[0-9A-Za-z_-]{35}",
    "hf_": r"hf_[0-9A-Za-z]{34}",
    "sk-": r"sk-(?:proj-|ant-|svcacct-)?[0-9A-Za-z_-]{20,200}",
    "npm_": r"npm_[0-9A-Za-z]{36}",
    "github_pat_": r"github_pat_[0-9A-Za-z_]{60,90}",
}
"""Keys that detect-secrets has no plug-in for: Google, Hugging Face, newer forms of others."""

_BEGIN = "-----BEGIN "
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<kind>(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?)-----"
    r"(?:[^-]|-(?!----)){0,20000}?-----END (?P=kind)-----"
)
_UNENDED_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s*[0-9A-Za-z+/=]{16,})*"
)


def find_api_keys(scan: Scan) -> Iterator[Span]:
    text = scan.text
    if not scan.digits:
        return
    for anchor, sign, patterns in _patterns():
        if sign not in scan.signals or anchor not in text:
            continue
        for pattern in patterns:
            for match in pattern.finditer(text):
                # Where the pattern has a group, the secret is the group.
                group = 1 if pattern.groups == 1 and match.end(1) == match.end() else 0
                start, end = match.span(group)
                if _is_secret(match.group(group)):
                    yield Span(start, end, "API_KEY", 0.9)


def _is_secret(text: str) -> bool:
    """Keys hold digits and letters; a name such as sk-some-long-kebab-case does not."""
    return any(c.isdigit() for c in text) and any(c.isalpha() for c in text)


def find_private_keys(scan: Scan) -> Iterator[Span]:
    """Whole blocks, BEGIN to END; without an END, as far as the key's lines go."""
    if _BEGIN not in scan.text:
        return
    end = 0
    for match in _PRIVATE_KEY.finditer(scan.text):
        end = match.end()
        yield Span(match.start(), end, "PRIVATE_KEY", 0.99)
    for match in _UNENDED_KEY.finditer(scan.text, end):
        yield Span(match.start(), match.end(), "PRIVATE_KEY", 0.9)


@cache
def _patterns() -> tuple[tuple[str, bytes, tuple[re.Pattern[str], ...]], ...]:
    """(anchor, sign in it that a scan knows of, patterns to try where the anchor occurs).

    The plug-ins are imported here, late.
    """
    from importlib import import_module

    from detect_secrets.plugins.base import RegexBasedDetector

    found: dict[str, tuple[re.Pattern[str], ...]] = {}
    for name, anchors in _ANCHORS.items():
        module = import_module(f"detect_secrets.plugins.{name}")
        patterns = tuple(
            re.compile(rf"(?<![0-9A-Za-z_]){bounded.pattern}", bounded.flags)
            for plugin in vars(module).values()
            if isinstance(plugin, type)
            and issubclass(plugin, RegexBasedDetector)
            and plugin is not RegexBasedDetector
            for bounded in vars(plugin).get("denylist", ())
            if not bounded.pattern.startswith("aws")  # a guess from the words around it
        )
        found |= dict.fromkeys(anchors, patterns)
    for anchor, pattern in _OTHERS.items():
        found[anchor] = (re.compile(rf"(?<![0-9A-Za-z_-]){pattern}(?![0-9A-Za-z])"),)
    return tuple((anchor, _sign_in(anchor), patterns) for anchor, patterns in found.items())


def _sign_in(anchor: str) -> bytes:
    """Looking for one byte among few is faster than for a text in a document."""
    return next((sign.encode() for sign in "_-" if sign in anchor), b"")
