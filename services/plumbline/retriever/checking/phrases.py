"""Does a text begin with, end with or hold a phrase? Spelling variants do not matter.

Compared are folded texts: letter case, width, look-alike letters, invisible characters and the
amount of white space make no difference. A phrase matches whole words only, except in scripts that
write no spaces.
"""

from __future__ import annotations

import re
from functools import lru_cache

from plumbline.core.characters import HAN
from plumbline.retriever.checking.folding import folded_text

_SPACELESS = rf"{HAN}\u3040-\u30ff\u0e00-\u0e7f"
_WORD = rf"[^\W{_SPACELESS}]"
_OPENING = " \t\n\"'“”‘’「『（(【[*_#>`~-…"
_CLOSING = " \t\n.。!！?？…\"'“”‘’」』）)】]*_`~;；,，"
EDGE_MARKS = _OPENING + _CLOSING
"""Marks at the ends of a phrase that a reply may leave out."""


@lru_cache(maxsize=4096)
def phrase_pattern(phrase: str) -> re.Pattern[str]:
    """What finds a phrase in a folded text."""
    folded = folded_text(phrase)
    body = r"\s+".join(re.escape(word) for word in folded.split())
    before = rf"(?<!{_WORD})" if re.match(_WORD, folded) else ""
    after = rf"(?!{_WORD})" if re.search(rf"{_WORD}\Z", folded) else ""
    return re.compile(f"{before}{body}{after}")


def holds(text: str, phrase: str) -> bool:
    """Does the phrase stand anywhere in the text?"""
    return phrase_pattern(phrase).search(folded_text(text)) is not None


def begins_with(text: str, phrase: str) -> bool:
    """Does the text begin with the phrase? Quotation marks and mark-up before it do not count."""
    view, start = folded_text(text), folded_text(phrase)
    if not start.strip(_OPENING):
        return view.startswith(start)
    start = start.lstrip(_OPENING).rstrip(_CLOSING)
    return phrase_pattern(start).match(view.lstrip(_OPENING)) is not None


def finishes_with(text: str, phrase: str) -> bool:
    """Does the text end with the phrase? Closing punctuation and mark-up do not count."""
    view, end = folded_text(text), folded_text(phrase)
    if not end.strip(_CLOSING):
        return view.endswith(end)
    end, view = end.rstrip(_CLOSING), view.rstrip(_CLOSING)
    place = len(view) - len(end)
    return place >= 0 and phrase_pattern(end).match(view, place) is not None
