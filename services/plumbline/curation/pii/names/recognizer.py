"""The recognizers of people's names and of addresses that need no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plumbline.curation.pii.names.config import NamesConfig
from plumbline.curation.pii.names.han import HanNames
from plumbline.curation.pii.names.han_addresses import HanAddresses
from plumbline.curation.pii.names.latin import LatinNames
from plumbline.curation.pii.names.latin_addresses import LatinAddresses
from plumbline.curation.pii.spans import Span

_Finder = Callable[[str], list[Span]]


class NameRecognizer:
    """Proposes people's names; safe to share between threads."""

    types = frozenset({"PERSON"})

    def __init__(self, config: NamesConfig) -> None:
        self._never = frozenset(map(str.casefold, config.never))
        self._finders: list[_Finder] = []
        if "en" in config.languages:
            latin = LatinNames(config.further_given_names, config.further_surnames)
            self._finders.append(latin.find)
        if "zh" in config.languages:
            self._finders.append(HanNames().find)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Proposals in each normalized text, in that text's offsets."""
        return [_found(text, self._finders, self._never) for text in texts]


class AddressRecognizer:
    """Proposes addresses; safe to share between threads."""

    types = frozenset({"ADDRESS"})

    def __init__(self, config: NamesConfig) -> None:
        self._never = frozenset(map(str.casefold, config.never))
        self._finders: list[_Finder] = []
        if "en" in config.languages:
            self._finders.append(LatinAddresses().find)
        if "zh" in config.languages:
            self._finders.append(HanAddresses().find)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Proposals in each normalized text, in that text's offsets."""
        return [_found(text, self._finders, self._never) for text in texts]


def _found(text: str, finders: Sequence[_Finder], never: frozenset[str]) -> list[Span]:
    spans = [span for find in finders for span in find(text)]
    if never and spans:
        return [span for span in spans if text[span.start : span.end].casefold() not in never]
    return spans
