"""How people ask and how rules are written: what a question is about, and the rules' words for it.

The lists in `wording/` are general, and small; they stand in for what an embedding model would
have learnt. They change the query only, so a stored index never depends on them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from plumbline.retriever.search.tokens import normalise

_LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Question:
    """A query as searches take it."""

    text: str
    """As it was asked."""
    subject: str
    """Without the words that make it a question; the text itself where nothing else is left."""
    related: str
    """What the rules may call its subject; empty where the lists know nothing."""


def read_question(text: str) -> Question:
    """What a query is about."""
    plain = normalise(text)
    subject = _ignored().sub(" ", plain)
    known = [words for spelling, words in _meanings() if spelling.search(plain)]
    return Question(text, subject if subject.strip(" ?？!！.。,，") else plain, "\n".join(known))


@functools.cache
def _ignored() -> re.Pattern[str]:
    return re.compile("|".join(_spelling(word) for word in _listed("ignored")))


@functools.cache
def _meanings() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple(
        (re.compile("|".join(_spelling(word) for word in key.split("|"))), "\n".join(words))
        for wording in _wordings()
        for key, words in wording["meanings"].items()
    )


def _listed(section: str) -> list[str]:
    """Words of all languages, the longest first, so that none hides a longer one."""
    return sorted((word for wording in _wordings() for word in wording[section]), key=len)[::-1]


def _spelling(word: str) -> str:
    """A pattern for a word; words of scripts with spaces are matched whole."""
    return rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word)


@functools.cache
def _wordings() -> tuple[Mapping[str, Any], ...]:
    folder = resources.files("plumbline.retriever.search") / "wording"
    return tuple(
        yaml.safe_load((folder / f"{language}.yaml").read_text(encoding="utf-8"))
        for language in _LANGUAGES
    )
