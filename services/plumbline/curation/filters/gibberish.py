"""Signs that a text is noise: symbols, unpronounceable words, unlikely letters, repetition.

No dictionary is used, so that names, slang and code pass; each sign is a share or a mean over the
whole document, so that one odd word does not condemn it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from plumbline.curation.filters.config import GibberishConfig
from plumbline.curation.filters.text_batch import MAX_CHARACTERS, TextBatch
from plumbline.curation.normalize import tokens

_LETTER_SHARES = {
    "a": 8.2, "b": 1.5, "c": 2.8, "d": 4.3, "e": 12.7, "f": 2.2, "g": 2.0, "h": 6.1, "i": 7.0,
    "j": 0.15, "k": 0.77, "l": 4.0, "m": 2.4, "n": 6.7, "o": 7.5, "p": 1.9, "q": 0.095, "r": 6.0,
    "s": 6.3, "t": 9.1, "u": 2.8, "v": 0.98, "w": 2.4, "x": 0.15, "y": 2.0, "z": 0.074,
}  # fmt: skip
"""Per cent of English letters. Source: R. Lewand, Cryptological Mathematics, 2000."""
_SURPRISAL = {letter: -math.log2(share / 100) for letter, share in _LETTER_SHARES.items()}

_LATIN_WORD = re.compile(r"[A-Za-z]+")
_LETTER = re.compile(r"[^\W\d_]")
_CONSONANT_RUN = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}")
_VOWEL = re.compile(r"[aeiouy]")
_SYMBOL = re.compile(r"[^\w\s.,;:!?'\"()\-–—…‘’“”、。，；：！？（）《》「」]")
_MIN_WORD_LETTERS = 3
_MAX_ABBREVIATION_LETTERS = 5
_MIN_WORDS = 5
_MIN_LETTERS = 40
_MIN_WORDS_FOR_REPETITION = 20
_ROOM = 0.8
"""Factor on bounds where documents are screened."""
_MAX_SUSPICIOUS_VOWEL_SHARE = 0.35
"""English has 0.39 with y; words without vowels bring it down."""
_SCREENING_BITS = 0.5
_LETTER_BITS = np.array([_SURPRISAL[chr(ord("a") + place)] for place in range(26)])
_VOWEL_COLUMNS = [ord(letter) - ord("a") for letter in "aeiouy"]


def gibberish_signs(text: str, config: GibberishConfig) -> list[str]:
    """The signs that a normalized text gives, in words; none for ordinary text."""
    if len(text) < config.min_characters:
        return []
    return list(_signs(text, config))


def may_be_gibberish(batch: TextBatch, config: GibberishConfig) -> NDArray[np.bool_]:
    """[N] whether a document is worth looking at: what is not cannot be or is not noise.

    Symbols, entropy and repeated words are bounded, with room for what case folding changes. For
    letters the whole document's frequencies are screened: noise has few vowels or unlikely letters
    before its words are looked at one by one.
    """
    judged = batch.characters >= _ROOM * config.min_characters
    symbols = batch.symbols > _ROOM * config.max_symbol_share * batch.visible
    # Characters that share a bin make the entropy smaller, never greater.
    shares = batch.histogram / np.maximum(1, batch.characters)[:, None]
    bits = np.where(shares > 0, shares, 1.0)
    entropy = -(shares * np.log2(bits)).sum(axis=1)
    poor = entropy < config.min_character_entropy / _ROOM
    latin = batch.latin.sum(axis=1)
    vowels = batch.latin[:, _VOWEL_COLUMNS].sum(axis=1)
    surprisal = batch.latin @ _LETTER_BITS
    odd = (vowels < _MAX_SUSPICIOUS_VOWEL_SHARE * latin) | (
        surprisal > (config.max_letter_surprisal - _SCREENING_BITS) * latin
    )
    # A word that is more than half of all words stands next to itself.
    twice = 2 * config.max_repeated_word_share - 1
    repeated = batch.unit_repeats > _ROOM * twice * batch.unit_counts - 2
    long = batch.characters >= MAX_CHARACTERS
    repeated &= batch.unit_counts >= _ROOM * _MIN_WORDS_FOR_REPETITION
    suspicious: NDArray[np.bool_] = judged & (symbols | poor | odd | repeated | long)
    return suspicious


def _signs(text: str, config: GibberishConfig) -> Iterator[str]:
    symbols = symbol_share(text)
    if symbols > config.max_symbol_share:
        yield f"{symbols:.0%} symbols (at most {config.max_symbol_share:.0%})"
    entropy = character_entropy(text)
    if entropy < config.min_character_entropy:
        yield f"{entropy:.2f} bits per character (at least {config.min_character_entropy})"
    latin = latin_words(text)
    if len(latin) >= _MIN_WORDS:
        unpronounceable = sum(map(_is_unpronounceable, latin)) / len(latin)
        if unpronounceable > config.max_unpronounceable_share:
            yield (
                f"{unpronounceable:.0%} unpronounceable words "
                f"(at most {config.max_unpronounceable_share:.0%})"
            )
    surprisal = letter_surprisal(latin)
    if surprisal is not None and surprisal > config.max_letter_surprisal:
        yield f"{surprisal:.2f} bits per letter (at most {config.max_letter_surprisal})"
    words = tokens(text)
    if len(words) >= _MIN_WORDS_FOR_REPETITION:
        word, count = Counter(words).most_common(1)[0]
        if count / len(words) > config.max_repeated_word_share:
            yield (
                f"{word!r} is {count / len(words):.0%} of the words "
                f"(at most {config.max_repeated_word_share:.0%})"
            )


def symbol_share(text: str) -> float:
    """Share of the non-space characters that are neither letters, digits nor punctuation."""
    visible = sum(map(len, text.split()))
    return len(_SYMBOL.findall(text)) / visible if visible else 0.0


def character_entropy(text: str) -> float:
    """Shannon entropy of the text's characters, bits."""
    total = len(text)
    if not total:
        return 0.0
    # fsum, and the counts sorted: the sum must not depend on the order of characters.
    return math.fsum(
        -count / total * math.log2(count / total) for count in sorted(Counter(text).values())
    )


def latin_words(text: str) -> list[str]:
    """Words of three letters and more, in lower case, without abbreviations in capitals.

    Returns:
        none where less than half of the letters are Latin: terms in a text of another script say
        nothing about it.
    """
    words = _LATIN_WORD.findall(text)
    if 2 * sum(map(len, words)) < len(_LETTER.findall(text)):
        return []
    return [
        word.lower()
        for word in words
        if len(word) >= _MIN_WORD_LETTERS
        and not (len(word) <= _MAX_ABBREVIATION_LETTERS and word.isupper())
    ]


def letter_surprisal(words: Sequence[str]) -> float | None:
    """Mean surprise of Latin letters under English letter frequencies, bits.

    Returns:
        None for fewer than 40 letters, which say too little.
    """
    letters = Counter("".join(words))
    total = letters.total()
    if total < _MIN_LETTERS:
        return None
    return math.fsum(_SURPRISAL[k] * letters[k] for k in sorted(letters)) / total


def _is_unpronounceable(word: str) -> bool:
    return not _VOWEL.search(word) or bool(_CONSONANT_RUN.search(word))
