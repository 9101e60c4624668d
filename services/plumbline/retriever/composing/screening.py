"""Does a value's text speak to the model about its instructions?

A rule says how to answer; it has no reason to speak of prompts and instructions, unless to ban such
talk. The phrases are a first net with holes: new wordings pass. What holds in any case is that
constraints are checked on the reply.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib import resources

import yaml

from plumbline.core.validation import FrozenConfig, parse_config
from plumbline.retriever.checking.folding import folded_text

_BETWEEN = 40
"""Most characters from a verb to what it sets aside."""


class _Lexicon(FrozenConfig):
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    phrases: tuple[str, ...]
    reported: tuple[str, ...]
    """What stands before an override that is only spoken of: `never ignore`, `asks you to`."""


@lru_cache(maxsize=1024)
def override_found(text: str) -> str:
    """The words with which a text sets itself above the instructions; empty where it does not."""
    view = folded_text(text)
    for override, reported in _patterns():
        for match in override.finditer(view):
            if not reported.search(view[max(0, match.start() - _BETWEEN) : match.start()]):
                return match.group()
    return ""


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]:
    """By language: what overrides, and what before it takes that back."""
    file = resources.files("plumbline.retriever.composing") / "lexicons" / "overrides.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return tuple(
        _compiled(parse_config(_Lexicon, words, where=f"overrides.yaml, {language}"))
        for language, words in content.items()
    )


def _compiled(lexicon: _Lexicon) -> tuple[re.Pattern[str], re.Pattern[str]]:
    verbs, objects, phrases, reported = (
        f"(?:{'|'.join(part)})"
        for part in (lexicon.verbs, lexicon.objects, lexicon.phrases, lexicon.reported)
    )
    gap = rf"[^.!?。！？]{{0,{_BETWEEN}}}?"
    # Word edges hold for Latin letters only: Chinese writes no spaces.
    start, end = r"(?<![a-z])", r"(?![a-z])"
    return (
        re.compile(f"{start}{verbs}{end}{gap}{start}{objects}{end}|{start}{phrases}{end}"),
        re.compile(f"{start}{reported}$"),
    )
