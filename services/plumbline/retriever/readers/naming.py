"""Ids of values that are read from documents, made of the documents' own words."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_REFUSED = re.compile(r"[^\w.-]+")
_LONGEST = 128


def value_id(*parts: str) -> str:
    """An id of a document's title and the place in it: `居民身份证法:14`.

    What an id may not hold becomes a dash. An id that would be too long is cut, and ends with a
    digest of what it says in full.
    """
    joined = ":".join(slug for slug in map(_slug, parts) if slug)
    if len(joined) <= _LONGEST:
        return joined
    digest = hashlib.sha256(joined.encode()).hexdigest()[:8]
    return f"{joined[: _LONGEST - len(digest) - 1]}-{digest}"


def _slug(text: str) -> str:
    return _REFUSED.sub("-", unicodedata.normalize("NFKC", text)).strip("-.")


class Ids:
    """Ids of one document; one that comes again gets `.2`, `.3` and so on behind it."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def take(self, *parts: str) -> str:
        made = value_id(*parts)
        self._times[made] = times = self._times.get(made, 0) + 1
        return made if times == 1 else f"{made[: _LONGEST - 5]}.{times}"
