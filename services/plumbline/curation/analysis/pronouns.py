"""Which pronouns a document holds, in the groups of the Llama 2 paper.

A group counts once for a document, however often it occurs. The Chinese groups are the English
ones as far as Chinese has them: 他们 is used for any company of people, 她们 for women only.

Source: Touvron et al. 2023, arXiv:2307.09288, table 9a and appendix A.4.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SHE, HE, UNSPECIFIED = "she", "he", "unspecified"
FIRST, SECOND, THIRD = "first_person", "second_person", "third_person"
GENDERED = (SHE, HE, UNSPECIFIED)
PERSONS = (FIRST, SECOND, THIRD)
LANGUAGES = ("en", "zh")
"""Languages whose pronouns are known."""

_ENGLISH = {
    SHE: ("she", "her", "hers", "herself"),
    HE: ("he", "him", "his", "himself"),
    UNSPECIFIED: ("they", "them", "their", "theirs", "theirself", "themself", "themselves"),
    FIRST: ("i", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"),
    SECOND: ("you", "your", "yours", "yourself", "yourselves"),
    THIRD: ("it", "its", "itself"),
}
_CONTRACTED = {"she": "sd", "he": "sd", "they": "rvd", "i": "mvd", "we": "rvd", "you": "rvd"}
_ENDINGS = {"s": ("s",), "d": ("d", "ll"), "r": ("re",), "v": ("ve",), "m": ("m",)}
_AS_WRITTEN = {
    "i": re.compile(r"(?<![\w.])[Ii](?!\w|\.\w)"),
    "it": re.compile(r"\b[Ii]t\b"),
    "us": re.compile(r"\b[Uu]s\b"),
}
"""Lower case hides that `US` and `IT` are no pronouns, and tokens that `i.e.` is none."""

_CHINESE = {
    SHE: ("她", re.compile("她")),
    # 其他 (other), 他人 (others), 吉他 (guitar), 维他命 (vitamin) and their like hold no pronoun.
    HE: ("他", re.compile("(?<![其吉维維利排])他(?![们們人国國乡鄉日杀殺])")),
    UNSPECIFIED: ("他", re.compile("(?<!其)他[们們]")),
    FIRST: ("我咱俺", re.compile("(?<!自)我|[咱俺]")),
    SECOND: ("你您妳", re.compile("(?<!迷)[你您妳]")),
    THIRD: ("它牠", re.compile("(?<!其)[它牠]")),
}


def _by_token() -> dict[str, str]:
    groups = {word: group for group, words in _ENGLISH.items() for word in words}
    for word, kinds in {**_CONTRACTED, "it": "sd"}.items():
        for ending in (ending for kind in kinds for ending in _ENDINGS[kind]):
            groups[f"{word}'{ending}"] = groups[f"{word}’{ending}"] = groups[word]
    return groups


_GROUP_OF_TOKEN = _by_token()


def pronoun_groups(text: str, tokens: Iterable[str], language: str) -> tuple[str, ...]:
    """Groups of which the document holds a pronoun, sorted.

    Args:
        text: normalized.
        tokens: `normalize.tokens` of the text.
    Returns:
        none for a language outside `LANGUAGES`. Third person includes she, he and they.
    """
    if language == "en":
        found = _english(text, tokens)
    elif language == "zh":
        found = {
            group
            for group, (characters, pattern) in _CHINESE.items()
            if any(character in text for character in characters) and pattern.search(text)
        }
    else:
        return ()
    if not found.isdisjoint(GENDERED):
        found.add(THIRD)
    return tuple(sorted(found))


def _english(text: str, tokens: Iterable[str]) -> set[str]:
    words = _GROUP_OF_TOKEN.keys() & set(tokens)
    for word in words & _AS_WRITTEN.keys():
        if not _AS_WRITTEN[word].search(text):
            words.remove(word)
    return {_GROUP_OF_TOKEN[word] for word in words}
