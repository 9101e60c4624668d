"""Which of the values that search found govern a request."""

from __future__ import annotations

import re
from typing import Protocol

from plumbline.core.characters import HAN
from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.composing.system_messages import SYSTEM_MESSAGE_CATEGORY
from plumbline.retriever.search.tokens import normalise

_USUAL_HASHED, _USUAL = 0.2, 0.45
_UNIT = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")


class Found(Protocol):
    """What search says of a value; `search.index.Hit` is one."""

    @property
    def value(self) -> ValueSpec:
        """The value itself."""

    @property
    def dense_score(self) -> float:
        """Cosine, -1 to 1."""


def usual_min_cosine(embedder: str) -> float:
    """From which similarity on a value without triggers governs, by the name of the embedder.

    Cosines of hashed n-grams are far lower than those of sentence models. Over 26 228 articles of
    law, 0.2 lets the right article govern 32 of 100 questions (search has it among the first three
    for 48) and any article 1 of 150 unrelated prompts; over 20 English rules 18 of 20 questions
    and 3 of 300. At 0.45, which suits sentence models, nothing ever did.
    """
    return _USUAL_HASHED if embedder == "hashed" else _USUAL


def governs(hit: Found, query: str, *, min_cosine: float) -> bool:
    """Does a value that was found govern the query?

    Search always finds something. A value with triggers governs what mentions one of them, as
    whole words; one without governs always (see `always_governs`), or what is similar enough.
    """
    if hit.value.category == SYSTEM_MESSAGE_CATEGORY:
        return False
    if always_governs(hit.value):
        return True
    if not hit.value.triggers:
        return hit.dense_score >= min_cosine
    haystack = f" {' '.join(_units(query))} "
    units = (" ".join(_units(trigger)) for trigger in hit.value.triggers)
    return any(phrase and f" {phrase} " in haystack for phrase in units)


def _units(text: str) -> list[str]:
    """Words, and each Han character by itself: Chinese writes no spaces between words."""
    return _UNIT.findall(normalise(text))


def always_governs(value: ValueSpec) -> bool:
    """Does the value hold for every request that it is in force for?

    What is the same for all (fixed) and a tenant's own choice (customisable) do, unless triggers
    narrow them; laws and policies hold where they are relevant. A system message is no rule.
    """
    standing = value.kind in (ValueKind.FIXED, ValueKind.CUSTOMISABLE)
    return standing and not value.triggers and value.category != SYSTEM_MESSAGE_CATEGORY
