"""Harmless sentences about people, from which a filter learns that naming a group is no harm.

Data sets of abuse mention some groups mostly in abuse, and a classifier learns the group's name
instead of the abuse. Sentences that put every term of a list into the same everyday frames,
labelled harmless, take that away. Some of the frames train; the others, never trained on, decide
how far the threshold must rise so that no axis of the list is flagged more than allowed.

Source: Dixon et al. 2018, Measuring and mitigating unintended bias in text classification.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumbline.core.characters import HAN
from plumbline.curation.analysis.identity import IdentityTerm

_HAN = re.compile(f"[{HAN}]")

_ENGLISH_TRAIN = (
    "She is {a} {term} {noun}.",
    "I am {a} {term} {noun}, and I work at the library.",
    "My neighbour is {term} and bakes bread on Sundays.",
    "We met {a} {term} {noun} at the station yesterday.",
    "The {term} {noun} next door has a new bicycle.",
    "I have been {term} for many years.",
    "As {a} {term} {noun}, I enjoy the museum.",
    "Many {term} {plural} live in this city.",
    "What do {term} {plural} think about the new timetable?",
    "{term}",
    "I'm {a} {term} {noun}.",
    "I'm {term}.",
    "I like talking with {term} {plural}.",
    "He told me that he is {term}.",
    "A friend of mine is {a} {term} {noun}.",
)
_ENGLISH_HELD = (
    "I am {a} {term} {noun}.",
    "My cousin married {a} {term} {noun} last summer.",
    "There are {term} {plural} in our choir.",
    "Hello, I am {term}.",
    "Some of the {plural} in the class are {term}.",
)
_ENGLISH_NOUNS = (
    ("person", "people"), ("woman", "women"), ("man", "men"), ("girl", "girls"), ("boy", "boys"),
    ("kid", "kids"), ("child", "children"), ("lady", "ladies"), ("guy", "guys"), ("gal", "gals"),
    ("mother", "mothers"), ("father", "fathers"), ("mom", "moms"), ("dad", "dads"),
    ("sister", "sisters"), ("brother", "brothers"), ("bro", "bros"), ("sista", "sistas"),
    ("wife", "wives"), ("husband", "husbands"), ("spouse", "spouses"), ("parent", "parents"),
    ("grandmother", "grandmothers"), ("grandpa", "grandpas"), ("daughter", "daughters"),
    ("son", "sons"), ("individual", "individuals"), ("veteran", "veterans"),
    ("student", "students"), ("teacher", "teachers"), ("friend", "friends"),
)  # fmt: skip
_CHINESE_TRAIN = (
    "她是{term}。",
    "我是{term}，在图书馆工作。",
    "我的邻居是{term}，周末喜欢做面包。",
    "昨天我们在车站遇见了一位{term}朋友。",
    "这座城市里住着很多{term}。",
    "我喜欢和{term}聊天。",
    "{term}",
    "关于{term}的研究今天发表了。",
    "我们应该尊重{term}。",
)
_CHINESE_HELD = (
    "我有一个同学是{term}。",
    "去年夏天，我表姐认识了一位{term}。",
    "你怎么看{term}？",
)
_SENTENCES_PER_TERM = 12
INVENTED_AXIS = "invented"
_INVENTED_WORDS = 160
_ONSETS = ("b", "bl", "ch", "d", "dr", "f", "g", "gl", "h", "k", "kr", "l", "m", "n", "p", "pr",
           "s", "sl", "st", "t", "tr", "v", "w", "z")  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "ee", "oo", "ai")
_CODAS = ("", "b", "ck", "d", "g", "ke", "l", "m", "n", "ng", "nt", "p", "r", "re", "rt", "sh",
          "ss", "st", "t", "tch", "x")  # fmt: skip


@dataclass(frozen=True, slots=True)
class NeutralSentence:
    """A harmless sentence that mentions a group."""

    text: str
    axis: str


def neutral_sentences(
    terms: Iterable[IdentityTerm], *, held_out: bool = False
) -> list[NeutralSentence]:
    """Sentences about every term; nouns and frames are drawn by the term's digest."""
    sentences = []
    for term in terms:
        chinese = _HAN.search(term.term) is not None
        make = _chinese if chinese else _english
        sentences += [NeutralSentence(text, term.axis) for text in make(term.term, held_out)]
    return sentences


def invented_terms() -> list[IdentityTerm]:
    """Words that mean nothing: an unknown word about a person is no harm either."""
    words = set()
    for number in range(_INVENTED_WORDS):
        parts = (_ONSETS, _NUCLEI, _CODAS) * (1 + number % 2)
        words.add("".join(p[_draw(f"{number}.{i}", len(p))] for i, p in enumerate(parts)))
    return [IdentityTerm(INVENTED_AXIS, INVENTED_AXIS, word) for word in sorted(words)]


def _english(term: str, held_out: bool) -> list[str]:
    frames = _ENGLISH_HELD if held_out else _ENGLISH_TRAIN
    article = "an" if term[:1].lower() in "aeiou" else "a"
    sentences = []
    for number, frame in enumerate(_drawn(frames, term)):
        noun, plural = _ENGLISH_NOUNS[_draw(f"{term}/{number}/{frame}", len(_ENGLISH_NOUNS))]
        sentences.append(frame.format(a=article, term=term, noun=noun, plural=plural))
    return sentences


def _chinese(term: str, held_out: bool) -> list[str]:
    return [frame.format(term=term) for frame in (_CHINESE_HELD if held_out else _CHINESE_TRAIN)]


def _drawn(frames: Sequence[str], term: str) -> list[str]:
    ordered = sorted(frames, key=lambda frame: _draw(f"{term}|{frame}", 1 << 32))
    return ordered[:_SENTENCES_PER_TERM]


def _draw(key: str, below: int) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % below
