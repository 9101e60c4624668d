"""Chinese people's names: surnames, characters of given names, and what stands around.

Chinese writes no spaces, so a name is a surname with one or two characters that is no ordinary
word, and whose neighbours leave a border there: punctuation, a title, a verb of saying, a word
that introduces people. The more of these agree, the surer; a name once found is found again
elsewhere in the text without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from plumbline.core.characters import HAN
from plumbline.curation.pii.names.gazetteer import sections, words
from plumbline.curation.pii.spans import Span

_RECOGNIZER = "names"
_CONTEXT = sections("han_context")
_TITLES = frozenset(_CONTEXT["titles"])
_DEEDS = frozenset(_CONTEXT["deeds"])
_BEFORE = frozenset(_CONTEXT["before"])
_SURE_AFTER = re.compile(r",?(?:\d{1,3}岁|[男女][,性。])|是一[名位]|[((][男女,\d]")
_INTRODUCES = frozenset(",(（是0123456789男女")
_RIGHT_ONE = frozenset("说讲问答笑喊")
_RIGHT_WEAK = frozenset("的在是和与因为出对被把将从也都已曾还就给向有及从去来于让等")
_LEFT_WEAK = frozenset("由经请和与及跟同向对给让被把将叫是为找替在受据")
_COPULAS = frozenset("是为叫:：即由")
_LABEL = re.compile(
    r"(?:姓名|系人|责人|件人|货人|卡人|请人|代表人|办人|托人|户名|户主|签名|签字|署名|患者|客户|名字)"
    r"(?:[:是为叫]|\s|是:){1,2}\s?|[我他她名]叫(?:做|作)?"
)
_LABEL_SIGNS = ("人:", "名:", "字:", "者:", "叫", "姓名", "户")
_DOT = "·"


class HanNames:
    """Finds Chinese names, and foreign ones in Chinese characters with a dot between."""

    def __init__(self) -> None:
        surnames = sections("han_surnames")
        characters = sections("han_given_characters")
        self._compound = frozenset(surnames["compound"])
        self._common = frozenset("".join(surnames["common"]))
        self._single = self._common | frozenset("".join(surnames["rare"]))
        self._telling = frozenset("".join(characters["telling"]))
        self._given = self._telling | frozenset("".join(characters["ordinary"]))
        self._words = words("han_words")
        self._not_given = words("han_not_given")
        seconds = "".join(sorted(self._given | {name[1] for name in self._compound}))
        firsts = "".join(sorted(self._single | {name[0] for name in self._compound}))
        # A look-ahead, so that a false beginning does not hide the true one behind it.
        self._candidate = re.compile(rf"[{firsts}](?=[{seconds}])")
        self._short = re.compile(
            rf"(?:(?<![{HAN}])|(?<=[和与及跟对向由给请被老小]))"
            rf"([{''.join(sorted(self._common))}])(?={'|'.join(_CONTEXT['address'])})"
        )
        self._whole = re.compile(
            rf"(?:{'|'.join(sorted(self._compound))}|[{firsts}])[{HAN}]{{1,2}}(?![{HAN}])"
        )
        self._any = re.compile(f"[{HAN}]")
        sounds = "".join(sections("han_surnames")["sounds"])
        self._dotted = re.compile(rf"[{sounds}]{{1,7}}(?:·[{sounds}]{{1,7}})+")

    def find(self, text: str) -> list[Span]:
        """Proposals in a normalized text."""
        if text.isascii() or not self._any.search(text):
            return []
        found = list(self._candidates(text))
        if any(sign in text for sign in _LABEL_SIGNS):
            found.extend(self._labelled(text))
        found.extend(self._surname_with_title(text))
        if _DOT in text:
            found.extend(self._foreign(text))
        if found:
            found.extend(_mentions(text, found))
        return found

    def _candidates(self, text: str) -> Iterator[Span]:
        last = 0
        for match in self._candidate.finditer(text):
            start = match.start()
            if start < last:
                continue
            confidence, end = self._name_at(text, start)
            if confidence:
                last = end
                yield Span(start, end, "PERSON", confidence, _RECOGNIZER)

    def _name_at(self, text: str, start: int) -> tuple[float, int]:
        """(confidence, end) of the name that begins at a character; confidence 0 for none."""
        surname = 2 if text[start : start + 2] in self._compound else 1
        is_word = surname == 1 and self._begins_a_word(text, start)
        left = self._left(text, start)
        if (is_word and left < 2) or (surname == 1 and text[start] not in self._single):
            return 0.0, start
        points = 2 * (surname > 1 or text[start] in self._common)
        confidence, end = self._with_two(text, start + surname, left, points, is_word)
        if not is_word and confidence < 0.75:
            shorter = self._with_one(text, start + surname, left, points, surname > 1)
            if shorter > confidence:
                return shorter, start + surname + 1
        return confidence, end

    def _with_two(
        self, text: str, given: int, left: int, points: int, is_word: bool
    ) -> tuple[float, int]:
        """The confidence in a given name of two characters, and where it ends."""
        end = given + 2
        name = text[given:end]
        if len(name) < 2 or name in self._not_given:
            return 0.0, end
        right = self._right(text, end)
        if left >= 2 and right >= 4 and points and name[0] in self._given:
            # Who is introduced so fully may have any given name.
            return (0.8 if self._any.match(name[1]) else 0.0), end
        if is_word or name[0] not in self._given or name[1] not in self._given:
            return 0.0, end
        telling = (name[0] in self._telling) + (name[1] in self._telling)
        points += left + right + 2 * telling
        if right >= 4 and points >= 6 and (left or telling):
            return 0.8, end
        if (left + right >= 5 and points >= 7) or (left == 3 and right and points >= 7):
            return 0.75, end
        return (0.65 if left + right >= 3 and points >= 9 else 0.0), end

    def _with_one(self, text: str, given: int, left: int, points: int, compound: bool) -> float:
        """The confidence in a given name of one character."""
        if text[given : given + 1] not in self._given or not points:
            return 0.0
        right = self._right(text, given + 1)
        if (right >= 3 and left) or (left == 3 and right >= 2):
            return 0.7
        return 0.6 if compound and left and right else 0.0

    def _labelled(self, text: str) -> Iterator[Span]:
        """Whole values of fields for a name; any character may be in a given name there."""
        for label in _LABEL.finditer(text):
            name = self._whole.match(text, label.end())
            if name and name.group() not in self._words:
                yield Span(name.start(), name.end(), "PERSON", 0.85, _RECOGNIZER)

    def _begins_a_word(self, text: str, start: int) -> bool:
        return text[start : start + 2] in self._words or text[start : start + 3] in self._words

    def _left(self, text: str, start: int) -> int:
        """3 where people are introduced, 2 at a border, 1 after a word that joins, else 0."""
        if start == 0:
            return 2
        before = text[start - 1]
        if text[max(0, start - 2) : start] in _BEFORE:
            return 3
        if before in _COPULAS and text[max(0, start - 3) : start - 1] in _BEFORE:
            return 3
        if not ("\u4e00" <= before <= "\u9fff"):
            return 2
        return 1 if before in _LEFT_WEAK else 0

    def _right(self, text: str, end: int) -> int:
        """4 before a title, 3 before what people do, 2 at a border, 1 before a joining word."""
        after = text[end : end + 2]
        if after in _TITLES or (after[:1] in _INTRODUCES and _SURE_AFTER.match(text, end)):
            return 4
        if after in _DEEDS or after[:1] in _RIGHT_ONE:
            return 3
        if not after or not ("\u4e00" <= after[0] <= "\u9fff"):
            return 2
        return 1 if after[0] in _RIGHT_WEAK else 0

    def _foreign(self, text: str) -> Iterator[Span]:
        """Foreign names, by the characters that stand for sounds and the dot between parts."""
        for match in self._dotted.finditer(text):
            yield Span(match.start(), match.end(), "PERSON", 0.7, _RECOGNIZER)

    def _surname_with_title(self, text: str) -> Iterator[Span]:
        """A surname that only a title follows, such as the one in 王女士."""
        for match in self._short.finditer(text):
            yield Span(match.start(), match.end(), "PERSON", 0.7, _RECOGNIZER)


def _mentions(text: str, found: list[Span]) -> Iterator[Span]:
    """The names that were found, where nothing else shows them."""
    covered = {span.start for span in found}
    for name in sorted({text[span.start : span.end] for span in found}):
        if len(name) < 3:
            continue
        place = text.find(name)
        while place >= 0:
            if place not in covered:
                yield Span(place, place + len(name), "PERSON", 0.7, _RECOGNIZER)
            place = text.find(name, place + len(name))
