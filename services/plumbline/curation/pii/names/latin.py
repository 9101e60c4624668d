"""People's names in Latin script: gazetteers of given names and surnames, and what stands around.

A name needs a given name that is nothing else, or two words that fit together, or words before it
that ask for a name. A word that is both a name and something else (May, Paris, Baker) never counts
alone. The cost lies in one pass over the capitalised words; cues are looked for as fixed strings,
which is many times faster than one pattern of all of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from plumbline.curation.pii.names.gazetteer import sections, words
from plumbline.curation.pii.spans import Span

_RECOGNIZER = "names"
_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĴĶĹĻĽĿŁŃŅŇŊŌŎŐŒŔŖŘŚŜŞŠŢŤŦŨŪŬŮŰŲŴŶŸŹŻŽȘȚ"
_PARTICLE = r"(?:van|von|der|den|de|del|della|di|da|dos|la|le|el|al|bin|ibn|ter|ten|zu|y|af|av)"
_REST = r"[\w.-]*(?:['’](?!(?:s|m|d|ll|re|ve|t)\b)\w[\w.-]*)?"
_WORD = rf"[{_UPPER}]{_REST}"
_RUN = re.compile(rf"[{_UPPER}](?<![\w@/\\.#$-].){_REST}(?: (?:{_PARTICLE} ){{0,2}}{_WORD})*")
_ASCII_RUN = re.compile(_RUN.pattern.replace(_UPPER, "A-Z"), re.ASCII)
_CAPITALISED = re.compile(rf"[{_UPPER}]\w+")
_PART_OF_WORD = frozenset("_@/\\.#$-")
"""What a name does not stand behind: addresses, paths, code."""

_CONTEXT = {name: frozenset(entries) for name, entries in sections("latin_context").items()}
_TITLES, _RANKS, _SUFFIXES = _CONTEXT["titles"], _CONTEXT["ranks"], _CONTEXT["suffixes"]
_CUES: dict[str, tuple[tuple[str, bool], ...]] = {
    **{word: ((word, False),) for word in _CONTEXT["weak"]},
    **{word: ((word, True),) for word in _CONTEXT["strong"]},
    **{word: ((word + "\n", False),) for word in _CONTEXT["closings"]},
    "named": (("named", True), ("named him", True), ("named her", True)),
    "am": (("I am", False),),
    "Hello,": (("this is", False),),
    "Hi,": (("this is", False),),
    "speak": (("speak to", False), ("speak with", False)),
    "ask": (("ask for", False),),
    "change": (("change it to", True),),
    "care": (("care of", True),),
    "behalf": (("behalf of", True),),
    "directed": (("directed by", True),),
    "written": (("written by", True),),
    "signed": (("signed by", False),),
}
"""Words that ask for a name after them, under a word of theirs that tells that they may occur;
and whether what follows is a name even where no list holds it."""
_CUE_WORDS = frozenset(_CUES)
_AFTER_LABEL = re.compile(
    r"[\"']?(?: on (?:it|the card|file))?(?: is| was|'s)?[ \t]*[:=]?\s{0,3}[\"']?"
)
_ANY_WORD = re.compile(r"[^\W\d_][\w.-]*(?:['’](?!(?:s|m|d|ll|re|ve|t)\b)\w[\w.-]*)?")
_WORD_AFTER = re.compile(r" ([a-z]+)")
_LIST = re.compile(
    rf"([{_UPPER}](?<![\w@&-].)[\w'’-]+), ([{_UPPER}][\w'’-]+),? (?:and|&|or) "
    rf"([{_UPPER}][\w'’-]+)\b(?! [{_UPPER}&])"
)
_FIRM = re.compile(r"(?:[Tt]he|at|for|from) $")
"""Ahead of such a list it makes the list a firm's name."""
_SHORTEST_BARE = 3
_MOST_WORDS = 5


class LatinNames:
    """Finds names in Latin script.

    Args:
        given: further given names.
        surnames: further surnames.
    """

    def __init__(self, given: Iterable[str] = (), surnames: Iterable[str] = ()) -> None:
        own = frozenset(given)
        self._given = words("given_names") | own
        self._surnames = words("surnames") | frozenset(surnames)
        groups = {name: frozenset(entries) for name, entries in sections("not_names").items()}
        self._before = groups["before"]
        self._after = groups["places"] | groups["organisations"] | groups["things"]
        self._no_name = (self._after | groups["before"] | groups["words"]) - own
        ambiguous = (words("ambiguous_names") | self._no_name) - own
        self._telling_given = self._given - ambiguous
        self._telling_surnames = self._surnames - ambiguous
        self._telling = self._telling_given | self._telling_surnames | _TITLES | _RANKS
        self._known = self._given | self._surnames | _TITLES | _RANKS

    def find(self, text: str) -> list[Span]:
        """Proposals in a normalized text."""
        found: list[Span] = []
        # Most texts are done with here: looking for the runs costs three times as much.
        capitalised = _CAPITALISED.findall(text)
        if (
            not self._telling.isdisjoint(capitalised)
            or _has_surname_ending(capitalised)
            or any(word.isupper() and word.title() in self._telling for word in capitalised)
        ):
            found.extend(self._in_runs(text))
            found.extend(self._in_lists(text))
        elif text.islower():
            found.extend(self._in_small_letters(text))
        found.extend(self._after_cues(text))
        if found:
            found.extend(self._bare_mentions(text, found))
        return found

    def _in_runs(self, text: str) -> Iterator[Span]:
        pattern = _ASCII_RUN if text.isascii() else _RUN
        for match in pattern.finditer(text):
            run = match.group()
            if " " in run:
                pieces = run.split(" ")
                if (
                    not self._known.isdisjoint(pieces)
                    or "." in run
                    or run.isupper()
                    or _has_surname_ending(pieces)
                ):
                    yield from self._in_run(text, match.start(), pieces)
            else:
                # Most capitalised words begin a sentence.
                word = _bare(run)
                if word in self._known and self._stands_alone(text, match.start(), word):
                    end = match.start() + len(word)
                    yield Span(match.start(), end, "PERSON", 0.6, _RECOGNIZER)

    def _in_small_letters(self, text: str) -> Iterator[Span]:
        """Given name and surname side by side, in a text that knows no capitals."""
        words_ = list(_ANY_WORD.finditer(text))
        for first, last in itertools.pairwise(words_):
            if last.start() != first.end() + 1 or text[first.end()] != " ":
                continue
            given, surname = first.group().title(), _bare(last.group()).title()
            is_surname = surname in self._surnames or self._is_telling_surname(surname)
            if given in self._telling_given and is_surname and surname not in self._no_name:
                end = last.start() + len(_bare(last.group()))
                yield Span(first.start(), end, "PERSON", 0.6, _RECOGNIZER)

    def _stands_alone(self, text: str, start: int, word: str) -> bool:
        """Whether a given name by itself is a person's."""
        if word in self._telling_given:
            return len(word) >= _SHORTEST_BARE
        verb = _WORD_AFTER.match(text, start + len(word))
        return verb is not None and verb.group(1) in _CONTEXT["verbs"] and word not in self._no_name

    def _is_telling_surname(self, word: str) -> bool:
        if word in self._telling_surnames:
            return True
        return len(word) > 4 and word[-3:] in _CONTEXT["endings"] and word not in _CONTEXT["unlike"]

    def _in_lists(self, text: str) -> Iterator[Span]:
        """Single names side by side, of which most are telling; firms are called so too."""
        if ", " not in text:
            return
        for match in _LIST.finditer(text):
            names = match.groups()
            if _FIRM.search(text, max(0, match.start() - 5), match.start()):
                continue
            telling = sum(n in self._telling_given or self._is_telling_surname(n) for n in names)
            if telling < 2 or not self._no_name.isdisjoint(names):
                continue
            for group in (1, 2, 3):
                yield Span(*match.span(group), "PERSON", 0.55, _RECOGNIZER)

    def _in_run(self, text: str, offset: int, pieces: list[str]) -> Iterator[Span]:
        """Names among words that stand together."""
        starts = [offset]
        for piece in pieces:
            starts.append(starts[-1] + len(piece) + 1)
        index = 0
        while index < len(pieces):
            begin, length, confidence = self._name_at(pieces, index)
            if length and text[max(0, starts[begin] - 2) : starts[begin]].strip().isdigit():
                # A number ahead makes it a street.
                confidence = 0.0
            if confidence:
                end = starts[begin + length - 1] + len(_bare(pieces[begin + length - 1]))
                yield Span(starts[begin], end, "PERSON", confidence, _RECOGNIZER)
            index = begin + max(length, 1)

    def _name_at(self, pieces: list[str], index: int) -> tuple[int, int, float]:
        """(first word, words, confidence) of a name that begins at a word or its title.

        No words where there is none; a confidence of 0 where it is the name of something else.
        """
        word = _bare(pieces[index])
        if index + 1 < len(pieces) and (word in _TITLES or word in _RANKS):
            following = _bare(pieces[index + 1])
            length = self._length(pieces, index + 1)
            if word in _TITLES and following not in self._no_name:
                return index + 1, length, 0.9
            listed = self._given if length > 1 else self._telling
            if following in listed and following not in self._no_name:
                return index + 1, length, 0.8
        length = self._length(pieces, index)
        if word in self._no_name and not _is_initial(word):
            # May and Will may well be given names, ahead of what is nothing but a surname.
            surname = _bare(pieces[index + 1]) if length == 2 else ""
            if word not in self._given or surname not in self._telling_surnames:
                return index, 0, 0.0
        confidence = self._confidence([_bare(piece) for piece in pieces[index : index + length]])
        if not confidence and length == 3 and _is_abbreviated(pieces[index + 1]):
            # Only people carry an initial between two words.
            confidence = 0.55
        if not confidence:
            return index, 0, 0.0
        after = index + length
        is_place = index > 0 and _bare(pieces[index - 1]) in self._before
        if after < len(pieces) and not _ends_sentence(pieces[after - 1]):
            is_place = is_place or _bare(pieces[after]) in self._after
        return index, length, 0.0 if is_place else confidence

    def _length(self, pieces: list[str], index: int) -> int:
        """How many words from here on read as one name."""
        length = 1
        while index + length < len(pieces) and length < _MOST_WORDS:
            last, word = pieces[index + length - 1], _bare(pieces[index + length])
            if _ends_sentence(last) and not _is_initial(_bare(last)):
                break
            if (word in self._no_name and not _is_initial(word)) or word in _TITLES:
                break
            length += 1
        while length > 1 and pieces[index + length - 1][0].islower():
            length -= 1
        return length

    def _confidence(self, name: list[str]) -> float:
        """How surely these words are a person's name; 0 where they are not."""
        while name and name[-1] in _SUFFIXES:
            name = name[:-1]
        if not name:
            return 0.0
        if (
            len(name) > 1
            and len(name[0]) > 1
            and not name[0][1:].islower()
            and name[0] not in self._given
        ):
            # Written in capitals, or in both to be hidden.
            name = [word.title() for word in name]
            if name[0] not in self._telling_given or name[-1] not in self._surnames:
                return 0.0
        first, last = name[0], name[-1]
        if len(name) == 1:
            return 0.6 if first in self._telling_given and len(first) >= _SHORTEST_BARE else 0.0
        if first in self._telling_given:
            return 0.85 if last in self._surnames else 0.7
        has_initial = any(map(_is_initial, name[1:]))
        telling_last = self._is_telling_surname(last)
        if first in self._given:
            if telling_last:
                return 0.7
            return 0.6 if has_initial and last in self._surnames else 0.0
        if _is_initial(first):
            return 0.65 if telling_last else 0.0
        if len(name) == 2 and last in self._telling_given:
            return 0.6
        if telling_last and len(name) == 2:
            return 0.55 if first in self._surnames or last not in self._surnames else 0.0
        return 0.55 if has_initial and telling_last else 0.0

    def _after_cues(self, text: str) -> Iterator[Span]:
        """Names where the words before ask for one."""
        for word in sorted(_CUE_WORDS.intersection(text.split())):
            for cue, strong in _CUES[word]:
                for place in _places(text, cue):
                    if not text[place - 1 : place].isalnum():
                        start = _next_word(text, place + len(cue))
                        yield from self._asked_for(text, start, strong)
        for label in ("name", "Name", "NAME"):
            for place in _places(text, label):
                before = text[max(0, place - 12) : place].lower().replace("_", " ").split()
                after = _AFTER_LABEL.match(text, place + len(label))
                if after and after.end() > place + len(label):
                    whose = bool(before) and before[-1] in _CONTEXT["whose"]
                    yield from self._asked_for(text, after.end(), whose, small=True)
        for place in _places(text, ":"):
            yield from self._around_colon(text, place)

    def _around_colon(self, text: str, place: int) -> Iterator[Span]:
        """The value of a form's field, or who speaks in a dialogue."""
        line = text.rfind("\n", max(0, place - 20), place) + 1
        if not line and place > 20:
            return
        label = text[line:place].strip(" \"'*-")
        if label.lower() in _CONTEXT["labels"]:
            yield from self._asked_for(
                text, place + 1 + (text[place + 1 : place + 2] == " "), False
            )
        elif label in self._given and label not in self._no_name:
            start = text.index(label, line)
            yield Span(start, start + len(label), "PERSON", 0.6, _RECOGNIZER)

    def _asked_for(
        self, text: str, start: int, strong: bool, small: bool = False
    ) -> Iterator[Span]:
        """The name that begins here, if one does.

        Args:
            strong: also a name that no list holds.
            small: also a listed name in lower case.
        """
        end, known, telling, position = start, False, False, start
        for _ in range(_MOST_WORDS):
            match = _ANY_WORD.match(text, position)
            if not match:
                break
            word = _bare(match.group())
            title = word.title()
            surname = self._is_telling_surname(title)
            listed = surname or title in self._given or title in self._surnames
            if title in self._no_name and not _is_initial(word):
                if word[0].isupper() and not telling:
                    # The words go on to name something else, such as a people or a place.
                    return
                break
            if not (word[0].isupper() or (small and listed)):
                break
            known, telling = known or listed, telling or surname or title in self._telling_given
            end = match.start() + len(word)
            ended = _ends_sentence(match.group()) and not _is_initial(word)
            if ended or not text.startswith(" ", match.end()):
                break
            position = match.end() + 1
        if end - start >= 2 and (known or strong):
            yield Span(start, end, "PERSON", 0.75 if known else 0.6, _RECOGNIZER)

    def _bare_mentions(self, text: str, found: list[Span]) -> Iterator[Span]:
        """Parts of the names that were found, where they stand alone."""
        parts: set[str] = set()
        for span in found:
            parts.update(_bare(word) for word in text[span.start : span.end].split())
        parts = {part for part in parts if self._tells(part)}
        covered = {place for span in found for place in range(span.start, span.end)}
        for part in sorted(parts, key=lambda part: (-len(part), part)):
            for start in _places(text, part):
                end = start + len(part)
                if start in covered or not _is_whole_word(text, start, end):
                    continue
                covered.update(range(start, end))
                yield Span(start, end, "PERSON", 0.6, _RECOGNIZER)

    def _tells(self, part: str) -> bool:
        """Whether a part of a name that was found stands for it elsewhere in the text."""
        if len(part) < _SHORTEST_BARE or not part[0].isupper() or part in _SUFFIXES:
            return False
        if part in self._telling_given or part in self._telling_surnames:
            return True
        return part not in self._known and part not in self._no_name


def _bare(piece: str) -> str:
    """A word without the full stop of a sentence or an abbreviation, and what is glued to it."""
    stem, _, _ = piece.partition(".")
    return stem if len(stem) > 1 else piece.rstrip(".-") or piece


def _has_surname_ending(pieces: Iterable[str]) -> bool:
    return not _CONTEXT["endings"].isdisjoint([piece[-3:] for piece in pieces])


def _is_abbreviated(piece: str) -> bool:
    return len(piece) == 2 and piece[1] == "."


def _is_initial(word: str) -> bool:
    return len(word) == 1 or (len(word) == 3 and word[1] == ".")


def _ends_sentence(piece: str) -> bool:
    return "." in piece and not _is_initial(piece.rstrip(".")) and _bare(piece) not in _TITLES


def _is_whole_word(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (
        before.isalnum() or before in _PART_OF_WORD or after.isalnum() or after in ("_", "@")
    )


def _places(text: str, cue: str) -> Iterator[int]:
    place = text.find(cue)
    while place >= 0:
        yield place
        place = text.find(cue, place + len(cue))


def _next_word(text: str, position: int) -> int:
    """Where a space or line ends that begins here; the end of the text where none does."""
    start = position
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position if position > start or text[start - 1] == "\n" else len(text)
