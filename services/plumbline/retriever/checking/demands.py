"""What the prose of a rule plainly demands of a reply, in English and Chinese.

Only demands that name their words, number or language are understood; of anything else nothing is
said, because a rule that was misread would be reported as followed when it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import lru_cache

from plumbline.retriever.checking.counting import Unit
from plumbline.retriever.checking.kinds import Checker, Language, Length, Phrase, Place

_MAX_RULE = 4_000
"""Characters; longer texts are laws and policies, whose demands are not on the reply's wording."""
_MAX_LITERAL = 300
_MAX_BARE_WORDS = 4
_MAX_BARE_HAN = 8

_QUOTE = rf"[\"“‘「『](?:[^\"”’」』\n]{{1,{_MAX_LITERAL}}})[\"”’」』]"
_QUOTED = rf"(?P<quoted>{_QUOTE}(?:\s*[,，、]?\s*(?:and|n?or|或者?|以及|和)?\s*{_QUOTE}){{0,20}})"
_STATED = rf"(?:{_QUOTED}|(?P<stated>[^\n]{{1,{_MAX_LITERAL}}}?)\s*(?:[.。!！](?=\s|$)|$|\n))"
_REPLY = r"(?:the|your|every|each|all|any)\s+(?:reply|replies|answers?|responses?)"
_WITH = r"\s+with(?:\s*[:：]\s*|\s+(?=[\"“‘]))"

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10}
_HAN_NUMBERS = dict(zip("一二三四五六七八九十", range(1, 11), strict=True)) | {"两": 2}
_NUMBER = rf"(?P<number>\d{{1,6}}|{'|'.join(_NUMBERS)})"
_HAN_NUMBER = rf"(?P<number>\d{{1,6}}|[{''.join(_HAN_NUMBERS)}])"
_UNITS = {
    "word": Unit.WORDS,
    "sentence": Unit.SENTENCES,
    "character": Unit.CHARACTERS,
    "字": Unit.WORDS,
    "个字": Unit.WORDS,
    "字符": Unit.CHARACTERS,
    "个字符": Unit.CHARACTERS,
    "句": Unit.SENTENCES,
    "句话": Unit.SENTENCES,
    "个句子": Unit.SENTENCES,
}
_UNIT = r"(?P<unit>word|sentence|character)s?\b"
_HAN_UNIT = r"(?P<unit>个?字符|个?字|句话|个句子|句)"

_LANGUAGES = {
    "english": "en",
    "german": "de",
    "french": "fr",
    "spanish": "es",
    "italian": "it",
    "portuguese": "pt",
    "dutch": "nl",
    "chinese": "zh",
    "japanese": "ja",
    "korean": "ko",
    "russian": "ru",
    "arabic": "ar",
    "英语": "en",
    "英文": "en",
    "中文": "zh",
    "汉语": "zh",
    "日语": "ja",
    "日文": "ja",
    "韩语": "ko",
    "法语": "fr",
    "德语": "de",
    "西班牙语": "es",
    "俄语": "ru",
}
_LANGUAGE = f"(?P<language>{'|'.join(_LANGUAGES)})"

_VAGUE = re.compile(
    r"\b(?:an?|any\w*|all|some\w*|that|this|these|those|your|their|its?|his|her|our|my|how|what|when"
    r"|where|why|who|whom|which|whether|if|them|things?|others?|more|yet"
    r"|but|has|have|is|are|be|includes?|contains?|so|because|unless|then)\b",
    re.IGNORECASE,
)
"""What follows `mention` in these words describes, and does not quote."""
_VAGUE_HAN = re.compile(r"任何|其他|其它|下列|以下|上述|有关|相关|自己|这|那|哪|什么|的$|是否|如何")
_AND_OR = re.compile(r"\s*(?:,|，|、)\s*(?:and |or )?|\s+(?:and|or)\s+|或者?|以及|和")

_OR = re.compile(r"\bor\b|或", re.IGNORECASE)


class _Negation(StrEnum):
    """Whether a demand is turned round by what stands before it."""

    NONE = "none"
    ADJACENT = "adjacent"
    """`never mention`, `do not ever mention`."""
    NEAR = "near"
    """Elsewhere in the clause: what it belongs to cannot be told."""


_Reader = Callable[[re.Match[str], _Negation], Iterator[Checker]]

_NEGATIVE = (
    r"(?:\b(?:never|not|cannot|avoid|without|no|refuse|refrain|nor)\b|n['’]t\b"
    r"|不得(?!不)|不要|不能|不可|不许|不应|切勿|请勿|禁止|避免|勿|别)"
)
_ADJACENT = re.compile(
    _NEGATIVE + r"(?:[\s,]|\b(?:ever|to|from|in any way|under any circumstances)\b)*$",
    re.IGNORECASE,
)
_NEAR = re.compile(_NEGATIVE, re.IGNORECASE)
_ORDER = re.compile(
    r"(?:^|[.;:,!?\n…“\"(-]|\b(?:always|never|ever|must|should|shall|please|not|to|and|or|also|then"
    r"|cannot|avoid|without|from|way|circumstances)|n['’]t)\s*$",
    re.IGNORECASE,
)
"""What stands before a verb that is an order."""
_CLAUSE_END = re.compile(
    r"[.;!?。；！？\n]|,\s*(?:and|but|then)\b|，(?:并|但|而|同时)", re.IGNORECASE
)


def demands_of(text: str) -> tuple[Checker, ...]:
    """The checkers that a rule's text spells out; none where nothing was understood."""
    return _demands_of(text) if len(text) <= _MAX_RULE else ()


@lru_cache(maxsize=4096)
def _demands_of(text: str) -> tuple[Checker, ...]:
    found: list[tuple[int, Checker]] = []
    for pattern, read in _READERS:
        for match in pattern.finditer(text):
            negation = _negation(text[: match.start()])
            found += [(match.start(), checker) for checker in read(match, negation)]
    found.sort(key=lambda item: item[0])
    return tuple(dict.fromkeys(checker for _, checker in found))


def _negation(before: str) -> _Negation:
    clause = _CLAUSE_END.split(before)[-1]
    if _ADJACENT.search(clause):
        return _Negation.ADJACENT
    return _Negation.NEAR if _NEAR.search(clause) else _Negation.NONE


def _literal(place: Place) -> _Reader:
    def read(match: re.Match[str], negation: _Negation) -> Iterator[Checker]:
        stated = (match.groupdict().get("stated") or "").strip()
        phrases = _quotations(match) or ([stated] if stated else [])
        # Of several endings any would do, which no checker says.
        if len(phrases) == 1 and negation is _Negation.NONE:
            yield Phrase(place, phrases[0])

    return read


def _mentions(match: re.Match[str], negation: _Negation) -> Iterator[Checker]:
    if negation is _Negation.NEAR:
        return
    banned = negation is _Negation.ADJACENT or bool(match.groupdict().get("not"))
    place = Place.NOWHERE if banned else Place.ANYWHERE
    between = re.sub(_QUOTE, " ", match["quoted"]) if match["quoted"] else match["bare"]
    if place is Place.ANYWHERE and _OR.search(between):
        # Either would do, which no checker says.
        return
    if quotations := _quotations(match):
        yield from (Phrase(place, words) for words in quotations)
        return
    words = _AND_OR.split(match["bare"].strip())
    phrases = [re.sub(r"^the\s+", "", word.strip(), flags=re.IGNORECASE) for word in words]
    # Part of a list understood would pass for the whole of it.
    if all(_is_bare(phrase) for phrase in phrases):
        yield from (Phrase(place, phrase) for phrase in phrases)


def _english_mentions(match: re.Match[str], negation: _Negation) -> Iterator[Checker]:
    # `Keepers say hello` states something; only an order demands it.
    if _ORDER.search(match.string[: match.start()]):
        yield from _mentions(match, negation)


def _quotations(match: re.Match[str]) -> list[str]:
    """Each phrase of a list in quotation marks."""
    found = re.findall(_QUOTE, match["quoted"] or "")
    return [words for quote in found if (words := quote[1:-1].strip())]


def _is_bare(phrase: str) -> bool:
    """Does an unquoted phrase stand for its own words?"""
    if re.search("[\u3400-\u9fff]", phrase):
        return len(phrase) <= _MAX_BARE_HAN and not _VAGUE_HAN.search(phrase)
    return 0 < len(phrase.split()) <= _MAX_BARE_WORDS and not _VAGUE.search(phrase)


def _length(bound: str) -> _Reader:
    def read(match: re.Match[str], negation: _Negation) -> Iterator[Checker]:
        if negation is _Negation.NONE:
            yield from _limit(bound, _number(match["number"]), match["unit"])

    return read


def _beyond(bound: str) -> _Reader:
    """`more than 5` is at least 6, and `not more than 5` at most 5."""

    def read(match: re.Match[str], negation: _Negation) -> Iterator[Checker]:
        number = _number(match["number"])
        if negation is _Negation.NONE:
            yield from _limit(bound, number + (1 if bound == "min" else -1), match["unit"])
        else:
            yield from _limit("max" if bound == "min" else "min", number, match["unit"])

    return read


def _limit(bound: str, limit: int, unit: str) -> Iterator[Checker]:
    if limit > 0:
        yield Length(bound, _UNITS[unit.casefold()], limit)


def _number(text: str) -> int:
    known = _NUMBERS.get(text.casefold()) or _HAN_NUMBERS.get(text)
    return known or int(text)


def _languages(match: re.Match[str], negation: _Negation) -> Iterator[Checker]:
    if negation is _Negation.NONE:
        yield Language(_LANGUAGES[match["language"].casefold()])


_BARE = r"(?P<bare>[^\n.。;；:：!！?？\"“”]{1,120})"
_BAN = r"(?P<not>不得(?!不)|不要|不能|不可|不许|不应|切勿|请勿|禁止|避免)"
_MODAL = rf"(?:{_BAN}|必须|务必|应当?|须|请|总是)"
_PLEASE = r"(?:请|必须|须|应当?|一律|统一|只|仅)*"
_AS_END, _AS_START = "(?:结尾|结束|收尾)(?!的)", "(?:开头|开始|开场)(?!的)"

_READERS: tuple[tuple[re.Pattern[str], _Reader], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), read)
    for pattern, read in (
        (rf"\b(?:end|finish|close)\s+{_REPLY}{_WITH}{_STATED}", _literal(Place.END)),
        (rf"\b(?:start|begin|open)\s+{_REPLY}{_WITH}{_STATED}", _literal(Place.START)),
        (
            r"\b(?:mention(?:ing)?|includ(?:e|ing)|say(?:ing)?)\b\s*:?\s*"
            rf"(?:{_QUOTED}|{_BARE})",
            _english_mentions,
        ),
        (rf"{_PLEASE}以{_QUOTED}(?:作为|作|为)?{_AS_END}", _literal(Place.END)),
        (rf"{_PLEASE}以{_QUOTED}(?:作为|作|为)?{_AS_START}", _literal(Place.START)),
        (rf"{_MODAL}(?:提及|提到)[：:]?(?:{_QUOTED}|{_BARE})", _mentions),
        (rf"{_MODAL}(?:说出?|出现|包含|写明)[：:]?{_QUOTED}", _mentions),
        (
            r"\b(?:at most|no more than|up to|maximum of|within|not exceed(?:ing)?|in) "
            rf"{_NUMBER} {_UNIT}",
            _length("max"),
        ),
        (
            rf"\b(?:at least|no fewer than|no less than|minimum of) {_NUMBER} {_UNIT}",
            _length("min"),
        ),
        (rf"\b(?:under|below|fewer than|less than) {_NUMBER} {_UNIT}", _beyond("max")),
        (rf"\bmore than {_NUMBER} {_UNIT}", _beyond("min")),
        (rf"(?:不得?超过|不多于|至多|最多|控制在|限制?在){_HAN_NUMBER}{_HAN_UNIT}", _length("max")),
        (rf"{_HAN_NUMBER}{_HAN_UNIT}(?:以内|之内)", _length("max")),
        (rf"用{_HAN_NUMBER}{_HAN_UNIT}(?:回答|回复|概括|说明)", _length("max")),
        (rf"(?:不得?少于|至少|最少|不低于){_HAN_NUMBER}{_HAN_UNIT}", _length("min")),
        (
            r"\b(?:answer|reply|respond|write|speak)\s+(?:only\s+|always\s+)?in\s+"
            rf"{_LANGUAGE}\b",
            _languages,
        ),
        (
            rf"{_PLEASE}(?:使用|用|以){_LANGUAGE}(?:来|进行)?(?:回答|回复|作答|答复)",
            _languages,
        ),
    )
)
