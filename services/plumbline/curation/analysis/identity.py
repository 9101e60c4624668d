"""Mentions of demographic groups, by terms in the format of HolisticBias descriptors.

A file holds `{axis: {bucket: [term, ...]}}`, or `{axis: [term, ...]}`; a term is a string, or an
object with `descriptor` and, where wanted, `preference` and `ambiguous`. Terms and texts are
compared as runs of tokens (`normalize.tokens`), so that `hard-of-hearing` is found in any spelling,
words are matched whole, and Han terms are found in unspaced text. Where terms overlap the longest
counts: `Native American` says nothing about nationality. Everyday words count only before a word
for persons: `white men`, but not `white paint`.

Source: Smith et al. 2022, arXiv:2205.09209.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import ahocorasick

from plumbline.core.characters import HAN
from plumbline.core.errors import InvalidInputError
from plumbline.curation.analysis.config import IdentityConfig
from plumbline.curation.normalize import normalize, tokens

_HAN = re.compile(f"[{HAN}]")
_POSSESSIVE = re.compile("['’]s(?= )")
_TAKES_S = re.compile(r"[a-z]{2}[a-rt-wyz]$")
_SIBILANT = re.compile(r"(?:ch|sh|ese|x|z)$")
_CONSONANT_Y = re.compile(r"[^aeiou]y$")
ALL_TERMS = "all"
"""Bucket of an axis that has no buckets of its own; HolisticBias uses the name too."""


@dataclass(frozen=True, slots=True)
class IdentityTerm:
    """One descriptor."""

    axis: str
    bucket: str
    term: str
    preference: str = ""
    """As the file says: reviewed, polarizing, dispreferred, or nothing."""
    ambiguous: bool = False
    """Mostly means something else, so that it is no mention unless a word for persons follows."""

    @property
    def key(self) -> str:
        return f"{self.axis}/{self.bucket}/{self.term}"

    @property
    def groups(self) -> tuple[str, str, str]:
        """What a mention of the term mentions: the axis, the bucket and the term itself."""
        return self.axis, f"{self.axis}/{self.bucket}", self.key


@dataclass(frozen=True, slots=True)
class Mentions:
    """What was found in one document; each term once, in the order of their keys."""

    terms: tuple[IdentityTerm, ...] = ()
    ambiguous: tuple[IdentityTerm, ...] = ()
    """Terms that occur only where they need not describe a person."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes that the document mentions, sorted; ambiguous terms do not count."""
        return tuple(sorted({term.axis for term in self.terms}))

    @property
    def groups(self) -> tuple[str, ...]:
        """Axes, `axis/bucket` and `axis/bucket/term`, sorted; ambiguous terms do not count."""
        return tuple(sorted({group for term in self.terms for group in term.groups}))


NO_MENTIONS = Mentions()


@dataclass(frozen=True, slots=True)
class _Form:
    """A run of tokens that is looked for, and the terms, by index, that it mentions."""

    length: int
    """Characters that the term takes up; a noun after it is left to other terms."""
    certain: set[int] = field(default_factory=set)
    ambiguous: set[int] = field(default_factory=set)


class IdentityMatcher:
    """Finds terms in documents; building it costs once, searching is linear in the text."""

    def __init__(
        self,
        terms: Iterable[IdentityTerm],
        *,
        plurals: bool = True,
        person_nouns: Sequence[str] = (),
    ) -> None:
        """
        Args:
            person_nouns: right before one of them an ambiguous term counts as any other.
        Raises:
            InvalidInputError: no term is left, or one has neither letters nor digits.
        """
        self.terms: tuple[IdentityTerm, ...] = _distinct(terms)
        if not self.terms:
            raise InvalidInputError("no identity terms; at least one is needed")
        forms: dict[str, _Form] = {}
        for index, term in enumerate(self.terms):
            for text in _forms(term.term, plurals=plurals):
                known = forms.setdefault(text, _Form(len(text)))
                (known.ambiguous if term.ambiguous else known.certain).add(index)
            spelt = _spelt(term.term)
            for noun in person_nouns if term.ambiguous else ():
                described = spelt.rstrip() + _spelt(noun)
                forms.setdefault(described, _Form(len(spelt))).certain.add(index)
        self._automaton = ahocorasick.Automaton()
        for text, form in sorted(forms.items()):
            entry = (tuple(sorted(form.certain)), tuple(sorted(form.ambiguous)))
            self._automaton.add_word(text, (len(text), form.length, *entry))
        self._automaton.make_automaton()

    def find(self, words: Sequence[str]) -> Mentions:
        """What one document mentions.

        Args:
            words: the document's `normalize.tokens`.
        """
        hits = [
            (last + 1 - whole, whole - last - length, certain, ambiguous)
            for last, (whole, length, certain, ambiguous) in self._automaton.iter(_joined(words))
        ]
        if not hits:
            return NO_MENTIONS
        hits.sort()
        found: set[int] = set()
        unsure: set[int] = set()
        free_from = taken_from = 0
        for start, minus_last, certain, ambiguous in hits:
            # Neighbours share the space between them, so a hit may begin where one ended; the
            # same words may be found with and without the noun after them.
            if start >= free_from or (start, -minus_last) == (taken_from, free_from):
                found.update(certain)
                unsure.update(ambiguous)
                taken_from, free_from = start, -minus_last
        return Mentions(
            tuple(self.terms[index] for index in sorted(found)),
            tuple(self.terms[index] for index in sorted(unsure - found)),
        )


def load_terms(files: Sequence[Path], config: IdentityConfig) -> IdentityMatcher:
    """The matcher over descriptor files, completed by the package's own terms where allowed.

    Raises:
        InvalidInputError: a file is not in the format, or no term is left.
    """
    terms = [term for path in files for term in read_descriptors(path)]
    if config.builtin:
        given = {_is_han(term.term) for term in terms}
        terms += [term for term in builtin_terms() if _is_han(term.term) not in given]
    ambiguous = {_spelt(term) for term in config.ambiguous_terms}
    return IdentityMatcher(
        (
            IdentityTerm(
                term.axis,
                term.bucket,
                term.term,
                term.preference,
                term.ambiguous or _spelt(term.term) in ambiguous,
            )
            for term in terms
            if term.axis not in config.excluded_axes
        ),
        plurals=config.plurals,
        person_nouns=config.person_nouns,
    )


@cache
def builtin_terms() -> tuple[IdentityTerm, ...]:
    """The package's own short lists, English and Chinese, over axes named as in HolisticBias."""
    text = (
        resources.files("plumbline.curation.analysis")
        .joinpath("identity_terms.json")
        .read_text("utf-8")
    )
    return tuple(parse_descriptors(json.loads(text), where="identity_terms.json"))


def read_descriptors(path: Path) -> list[IdentityTerm]:
    """The terms of one file.

    Raises:
        InvalidInputError: not JSON, or not in the format.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path.name} is not JSON: {error}") from error
    return list(parse_descriptors(value, where=path.name))


def parse_descriptors(value: Any, *, where: str) -> Iterator[IdentityTerm]:
    """Terms of a parsed file.

    Args:
        where: the file's name, for messages.
    Raises:
        InvalidInputError: something else than axes, buckets and terms.
    """
    for axis, buckets in _object(value, where).items():
        _check_name(axis, where)
        if isinstance(buckets, list):
            buckets = {ALL_TERMS: buckets}
        for bucket, entries in _object(buckets, f"{where}: {axis}").items():
            _check_name(bucket, where)
            place = f"{where}: {axis}/{bucket}"
            if not isinstance(entries, list):
                raise InvalidInputError(
                    f"{place} is {type(entries).__name__}; accepted: a list of terms"
                )
            yield from (_term(axis, bucket, entry, place) for entry in entries)


def _term(axis: str, bucket: str, entry: Any, place: str) -> IdentityTerm:
    fields = {"descriptor": entry} if isinstance(entry, str) else _object(entry, place)
    text = fields.get("descriptor")
    if not isinstance(text, str) or not _spelt(text).strip():
        raise InvalidInputError(f"{place}: {entry!r} holds no descriptor; accepted: words")
    preference = str(fields.get("preference", ""))
    return IdentityTerm(axis, bucket, text, preference, bool(fields.get("ambiguous", False)))


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInputError(f"{place} is {type(value).__name__}; accepted: an object")
    return value


def _check_name(name: str, where: str) -> None:
    if not name or "/" in name:
        raise InvalidInputError(f"{where}: name {name!r} is not accepted; it must not hold '/'")


def _distinct(terms: Iterable[IdentityTerm]) -> tuple[IdentityTerm, ...]:
    """The first of each spelling in a bucket: `LGBTQ` and `LGBTQ+` are the same words."""
    kept = {(term.axis, term.bucket, _spelt(term.term)): term for term in reversed([*terms])}
    return tuple(sorted(kept.values(), key=lambda term: term.key))


def _forms(term: str, *, plurals: bool) -> Iterator[str]:
    """A term as it stands between other tokens, and its regular plural."""
    form = _spelt(term)
    if not form.strip():
        raise InvalidInputError(f"identity term {term!r} has neither letters nor digits")
    yield form
    word = form.rstrip(" ")
    if not plurals:
        return
    if _CONSONANT_Y.search(word):
        yield f"{word[:-1]}ies "
    elif _TAKES_S.search(word) and not _SIBILANT.search(word):
        yield f"{word}s "


def _spelt(term: str) -> str:
    return _joined(tokens(normalize(term).text))


def _joined(words: Sequence[str]) -> str:
    """Tokens with a space before, between and after; possessive endings taken off."""
    joined = f" {' '.join(words)} "
    if "'" in joined or "’" in joined:
        return _POSSESSIVE.sub("", joined)
    return joined


def _is_han(term: str) -> bool:
    return _HAN.search(term) is not None
