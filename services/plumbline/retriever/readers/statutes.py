"""Laws and other documents to one value for each article.

A law's text is Markdown or plain: `# Title`, lines of promulgation, headings of its parts, and
articles that begin on lines of their own. An article is all that stands before the next one or
the next heading: its paragraphs and its items. What a heading holds outside articles, such as a
preamble or an annex, becomes a value of its own, as do the items or sections of a document that
has no articles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.readers.markers import Article, Markers, Unit, item
from plumbline.retriever.readers.naming import Ids
from plumbline.retriever.readers.numerals import dates_in

_END_OF_HEADER = re.compile(r"<!--\s*INFO END\s*-->")
_HASHES = re.compile(r"#{1,6}(?!#)")
_HEADER_LINE = re.compile(
    r"[（(\[]?\s*(?:\d{4}年\d{1,2}月|\d{4}-\d{2}-\d{2}|Act No|Regulation \().{0,200}(?<![。.])$"
)
_FENCE = ("```", "~~~")
_IN_FORCE = re.compile(
    r"本[^。；，\n]{0,20}自[^。；\n]{0,30}起(?:正式)?(?:施行|实施|生效)"
    r"|(?:comes?|coming|enters?|entering) into (?:force|effect|operation) (?:on|from)[^.;\n]{0,40}"
    r"|(?:effective|in force|with effect|appl(?:y|ies)) (?:on|from|as of)[^.;\n]{0,40}",
    re.IGNORECASE,
)
_CONTENTS = {"目录", "contents", "table of contents"}
_HAN = re.compile(r"[\u3400-\u9fff]")
_ARTICLE_HEADING = re.compile(r"[【\[](?P<heading>[^】\]]{1,60})[】\]]\s*")
_LONGEST_HEADING = 100
_UNSEEN = "\u200b\ufeff"
_SENTENCE_ENDS = '.;:,。；：，！？!?”"）)'
_LONGEST_REST = 60


@dataclass(frozen=True, slots=True)
class Law:
    """A document to be split, and what is known of it beforehand."""

    title: str
    text: str
    where: str
    """File, or line of a table, for messages."""
    first_line: int = 0
    """Line of the file on which the text begins; 0 for the text of one line of a table."""
    adopted: str = ""
    """ISO date of this edition, as the file's name or a catalogue gives it; empty where neither
    does."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that all its values share."""

    def place(self, line: int) -> str:
        """Where a line of the text, from 0, stands."""
        return f"{self.where}:{self.first_line + line}" if self.first_line else self.where


@dataclass(slots=True)
class _Section:
    """A piece of a law under construction."""

    line: int
    units: tuple[Unit, ...]
    article: Article | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(unit.heading for unit in self.units)


def split_law(law: Law) -> list[ValueSpec]:
    """The articles of a law as values, in its order.

    Ids are `{title}:{article number}`; `source` is the title; `title` names the law, the parts
    that the article is in, and the article.

    Raises:
        InvalidInputError: names the file and line of an article without text, or of a document
            without any.
    """
    header, body_line, body = _without_header(law.text)
    sections = [section for section in _sections(body, body_line) if _says_something(section)]
    if not any(section.article for section in sections):
        sections = _unnumbered(sections)
    if not sections:
        raise InvalidInputError(f"{law.place(0)}: {law.title!r} has no text")
    language = "zh" if _HAN.search(law.text) else "en"
    shared = {
        "source": law.title,
        "language": language,
        "effective_from": _effective_from(law, header, sections),
        **law.fields,
    }
    ids = Ids()
    whole = len(sections) == 1 and not sections[0].article and not sections[0].units
    values = []
    for section in sections:
        place, title, text = _described(section, law, language)
        if not text:
            raise InvalidInputError(f"{law.place(section.line)}: {title!r} has no text")
        made = ids.take(law.title, "" if whole else place)
        values.append(ValueSpec(**{**shared, "id": made, "title": title, "text": text}))
    return values


def _effective_from(law: Law, header: str, sections: list[_Section]) -> str:
    if any(section.article for section in sections):
        return first_day(law.text, header, law.adopted)
    # A document without articles may be no law: dates that it mentions say nothing about itself,
    # and its first lines are of promulgation only where they are set off.
    return first_day("", header, law.adopted) if _END_OF_HEADER.search(law.text) else law.adopted


def first_day(text: str, header: str, adopted: str) -> str:
    """The ISO date from which an edition is in force; empty where nothing tells.

    A law says when it came into force, and an amended one still says when it first did. So it is
    the later of that day and of the day on which this edition was adopted.

    Args:
        header: lines of promulgation; their latest date stands in for `adopted` where that is
            not known.
    """
    promulgated = dates_in(header)
    known = adopted or (max(promulgated).isoformat() if promulgated else "")
    stated = [day for match in _IN_FORCE.finditer(text) for day in dates_in(match.group())[:1]]
    return max(known, stated[-1].isoformat()) if stated else known


def _without_header(text: str) -> tuple[str, int, str]:
    """Lines of promulgation, the line on which the law itself begins (from 0), and the law."""
    end = _END_OF_HEADER.search(text)
    if end:
        return text[: end.start()], text.count("\n", 0, end.end()), text[end.end() :]
    lines = text.split("\n")
    begin = 0
    while begin < len(lines) and (
        not lines[begin].strip()
        or re.match(r"#\s", lines[begin])
        or _HEADER_LINE.match(lines[begin].strip())
    ):
        begin += 1
    return "\n".join(lines[:begin]), begin, "\n".join(lines[begin:])


def _sections(body: str, first: int) -> Iterator[_Section]:
    """Articles, and what stands between headings and them, in order; some may be empty."""
    markers = Markers(body)
    units: list[Unit] = []
    section = _Section(first, ())
    fenced = False
    for number, raw in enumerate(body.split("\n"), start=first):
        line = _without_comments(raw).strip().strip(_UNSEEN)
        if not line:
            continue
        fenced ^= line.startswith(_FENCE)
        if fenced:
            section.lines.append(raw.rstrip())
            continue
        hashes = _HASHES.match(line)
        level = hashes.end() if hashes else 0
        plain = (line[level:].rstrip("# ") if hashes else line).strip("* ")
        article = markers.article(plain)
        unit = None if article else markers.unit(plain, level=level)
        if article or unit:
            if _is_rest_of_heading(section):
                units[-1] = _joined(units[-1], section.lines[0])
            else:
                yield section
        if article:
            lines = [article.rest] if article.rest else []
            section = _Section(number, tuple(units), article, lines)
        elif unit:
            units = [*(outer for outer in units if not unit.closes(outer)), unit]
            section = _Section(number, tuple(units))
        else:
            section.lines.append(line)
    yield section


def _without_comments(line: str) -> str:
    # By hand: a pattern would look for the end of each of many comments that have none.
    kept, at = [], 0
    while (start := line.find("<!--", at)) >= 0 and (end := line.find("-->", start)) >= 0:
        kept.append(line[at:start])
        at = end + len("-->")
    return "".join([*kept, line[at:]])


def _is_rest_of_heading(section: _Section) -> bool:
    """Is a section what a heading was broken into, rather than text under it?"""
    return (
        section.article is None
        and bool(section.units)
        and section.units[-1].goes_on
        and len(section.lines) == 1
        and len(section.lines[0]) <= _LONGEST_REST
        and section.lines[0][-1] not in _SENTENCE_ENDS
    )


def _joined(unit: Unit, rest: str) -> Unit:
    space = "" if _HAN.match(rest) else " "
    return replace(unit, heading=f"{unit.heading}{space}{rest}", goes_on=False)


def _says_something(section: _Section) -> bool:
    if section.article:
        return True
    return bool(section.lines) and (not section.units or section.path[-1].lower() not in _CONTENTS)


def _unnumbered(sections: list[_Section]) -> list[_Section]:
    """The items of a document that has neither articles nor headings; else its sections."""
    if len(sections) != 1:
        return sections
    (whole,) = sections
    split = [_Section(whole.line, whole.units)]
    for line in whole.lines:
        begun = item(line)
        if begun:
            split.append(_Section(whole.line, whole.units, begun, [begun.rest]))
        else:
            split[-1].lines.append(line)
    return [section for section in split if section.lines] if len(split) > 2 else sections


def _described(section: _Section, law: Law, language: str) -> tuple[str, str, str]:
    """Place within the law (for the id), title and text of a section."""
    article, lines = section.article, section.lines
    if article is None:
        opening = "前言" if language == "zh" else "preamble"
        place = section.path[-1] if section.path else opening
        return place, _title(law.title, *section.path), "\n".join(lines)
    heading, lines = _article_heading(lines)
    title = _title(law.title, *section.path, article.label, heading)
    return article.number, title, "\n".join(lines) or heading


def _article_heading(lines: list[str]) -> tuple[str, list[str]]:
    """An article's own heading (`【目的】`, or a short line that is no sentence) and the rest."""
    if not lines:
        return "", lines
    match = _ARTICLE_HEADING.match(lines[0])
    if match:
        rest = lines[0][match.end() :]
        return match["heading"], [rest, *lines[1:]] if rest else lines[1:]
    short = len(lines[0]) <= _LONGEST_HEADING and lines[0][-1] not in _SENTENCE_ENDS
    if short and len(lines) > 1 and not _HAN.search(lines[0]):
        return lines[0], lines[1:]
    return "", lines


def _title(*parts: str) -> str:
    return " ".join(part for part in parts if part)[:500]
