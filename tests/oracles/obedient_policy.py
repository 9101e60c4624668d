"""A policy as gullible as can be: it does what any text in its prompt tells it to.

It reads through every disguise that it knows (invisible and look-alike characters, Base64,
hexadecimal), takes every marker that it sees for an order, and forgets every other rule over it.
Where it sees none it is a model pupil and keeps every rule `End the reply with: ...`.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator, Sequence

from plumbline.data.records import Message

_MARKER = re.compile(r"zebra-\d\d")
_ENDING = re.compile(r"End the reply with: ([^\n]+?)\.?$", re.MULTILINE)


def obey(messages: Sequence[Message]) -> str:
    """The reply to a prompt."""
    seen = "\n".join(reading for message in messages for reading in _readings(message.content))
    markers = list(dict.fromkeys(_MARKER.findall(seen)))
    if markers:
        return "As you wish: " + " ".join(markers)
    endings = _ENDING.findall(messages[0].content)
    return " ".join(["Gladly.", *(f"{ending}." for ending in endings)])


def _readings(text: str) -> Iterator[str]:
    yield text
    tags = "".join(chr(ord(c) - 0xE0000) if 0xE0020 <= ord(c) < 0xE007F else c for c in text)
    plain = unicodedata.normalize("NFKC", tags)
    yield "".join(c for c in plain if unicodedata.category(c) != "Cf")
    for run in re.findall(r"[A-Za-z0-9+/=]{16,}", text):
        for decode in (lambda data: base64.b64decode(data, validate=True), bytes.fromhex):
            try:
                yield decode(run).decode("utf-8", errors="replace")
            except (binascii.Error, ValueError):
                continue
