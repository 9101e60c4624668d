"""Which risk category a request falls into, by signs in its words.

A category decides which template refuses a reply that breaks a rule, and that the combined reward
looks at safety; by itself it refuses nothing, so a sign that is wrongly seen costs little. Word
lists see words: they know 3 of 4 AdvBench behaviours, under half of subtler requests (CatQA), and
take one in ten of XSTest's harmless homonyms for a risk. The probe and the judge of the
configuration look closer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from plumbline.core.characters import HAN
from plumbline.retriever.checking.folding import units
from plumbline.retriever.respond.templates import RiskSigns, languages, texts_of

NO_RISK = ""
_HAN_SPACE = re.compile(rf"(?<=[{HAN}]) (?=[{HAN}])")


@dataclass(frozen=True, slots=True)
class Risk:
    """A request's risk category; empty where none was found."""

    category: str = NO_RISK
    why: str = ""

    def __bool__(self) -> bool:
        return self.category != NO_RISK


def classify(request: str) -> Risk:
    """The risk category with the strongest signs, of every language's signs.

    Phrases and pairs count twice, deeds once. Equal categories stand in the order of the signs'
    file.
    """
    found: dict[str, dict[str, int]] = {}
    words = _words(request)
    for language in languages():
        texts = texts_of(language)
        rest = words
        for harmless in _words_of(texts.harmless):
            rest = rest.replace(harmless, " ")
        asks = bool(_seen(rest, _words_of(texts.asking)))
        for category, signs in texts.signs.items():
            found.setdefault(category, {}).update(_signs(rest, signs, asks=asks))
    weights = {category: sum(seen.values()) for category, seen in found.items()}
    category = max(weights, key=lambda name: weights[name], default=NO_RISK)
    if not weights.get(category):
        return Risk()
    return Risk(category, f"the request says {', '.join(map(repr, found[category]))}")


def _signs(words: str, signs: RiskSigns, *, asks: bool) -> Iterator[tuple[str, int]]:
    """Words that were seen, and how much they count."""
    for phrase in _seen(words, _words_of(signs.phrases)):
        yield phrase, 2
    for pair in signs.pairs:
        if pair.asks and not asks:
            continue
        said, of = _seen(words, _forms_of(pair.says)), _seen(words, _words_of(pair.of))
        if said and of:
            yield f"{said[0]} … {of[0]}", 2
    if asks:
        for deed in _seen(words, _forms_of(signs.deeds)):
            yield deed, 1


def _seen(words: str, phrases: Sequence[str]) -> list[str]:
    return [_HAN_SPACE.sub("", phrase.strip()) for phrase in phrases if phrase in words]


def _words(text: str) -> str:
    """Words, and Han characters one by one, each between spaces: a phrase is found by `in`."""
    return f" {' '.join(units(text))} "


@cache
def _words_of(phrases: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_words(phrase) for phrase in phrases)


@cache
def _forms_of(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """The same, with the first word of English phrases in its other forms."""
    forms = (form for phrase in phrases for form in _forms(phrase))
    return tuple(dict.fromkeys(_words(form) for form in forms))


def _forms(phrase: str) -> Iterator[str]:
    """`rob a bank` gives `robbing a bank`, too; forms that nobody writes do no harm."""
    yield phrase
    first, space, rest = phrase.partition(" ")
    if not first.isascii() or not first.isalpha():
        return
    stems = (first.removesuffix("e"), first + first[-1])
    for form in (f"{first}s", f"{first}ing", *(s + e for s in stems for e in ("ing", "ed", "es"))):
        yield f"{form}{space}{rest}"
