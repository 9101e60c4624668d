"""How long a reply is, in the units that rules speak of.

A word is a run of letters and digits, hyphens, apostrophes and decimal points inside it included.
Chinese and Japanese write no spaces: each Han or kana character counts as one word, which is also
what Chinese rules call a 字.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum

from plumbline.retriever.checking.folding import UNIT
from plumbline.retriever.checking.sentences import sentences as split_sentences


class Unit(StrEnum):
    """What is counted; a text never has more sentences than words, nor words than characters."""

    SENTENCES = "sentences"
    WORDS = "words"
    CHARACTERS = "characters"


def count(text: str, unit: Unit) -> int:
    """How many of a unit a text has."""
    return _COUNTS[unit](text)


def words(text: str) -> int:
    """Words, each Han or kana character one of them."""
    return len(UNIT.findall(unicodedata.normalize("NFC", text)))


def characters(text: str) -> int:
    """Code points after NFC, white space at both ends left out."""
    return len(unicodedata.normalize("NFC", text).strip())


def sentences(text: str) -> int:
    """Sentences that hold a word; see `sentences.sentence_borders` for where they end."""
    return sum(bool(UNIT.search(piece)) for piece in split_sentences(text))


_COUNTS = {Unit.SENTENCES: sentences, Unit.WORDS: words, Unit.CHARACTERS: characters}
