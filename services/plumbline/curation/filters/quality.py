"""Heuristics of what reads like prose, for spaced languages and for Chinese.

Sources: [G] Rae et al. 2021, arXiv:2112.11446, table A1 (Gopher); [C4] Raffel et al. 2020,
arXiv:1910.10683, section 2.2; [F] Penedo et al. 2024, arXiv:2406.17557, section 3.6 (FineWeb).
The papers' measures count words between spaces, which Chinese has not: there two Han characters
stand for a word, punctuation and function words are its own, and the mean length is that of a
clause. Code, tables and other text without a language are not prose and are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from plumbline.curation.filters.config import QualityConfig
from plumbline.curation.filters.objection import Objection
from plumbline.curation.filters.text_batch import TextBatch
from plumbline.curation.language import UNDETERMINED
from plumbline.curation.view import DocumentView

HAN_PER_WORD = 2
_SHORT_LINE_DIVISOR = 4
"""Latin characters to the Han characters that say as much."""
UNSPACED = frozenset({"zh", "ja"})
_OTHER_UNSPACED = frozenset({"th", "lo", "km", "my", "bo", "dz"})
"""Written without spaces, and no version of the measures fits them."""

_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
"""[G]"""
_FUNCTION_CHARACTERS = "的了是在和有不这也就与为对及以之其或等们着过把被到"
_BULLETS = ("•", "‣", "▪", "●", "○", "◦", "·", "*", "-", "–", "—", "+", "▶", "■", "□", "※")
_ELLIPSES = ("...", "…")
_TERMINALS = (
    ".", "!", "?", '"', "'", "”", "’", ")", ";", ":", "。", "！", "？", "；", "：", "）", "」",
    "』", "》", "…",
)  # fmt: skip
_PLACEHOLDERS = ("lorem ipsum", "占位文本", "占位文字", "请在此输入", "此处输入内容")
_BOILERPLATE = (
    "javascript", "cookie", "terms of use", "terms of service", "privacy policy",
    "all rights reserved", "sign up for our newsletter", "隐私政策", "隐私声明", "使用条款",
    "服务条款", "用户协议", "版权所有", "未经授权", "icp备", "启用脚本", "扫码关注", "点击下载",
)  # fmt: skip
_BOILERPLATE_STEMS = ("javascript", "cookie", "terms of ", "privacy p", "rights r", "newsletter")
"""In every phrase of the Latin alphabet; fewer to look for."""
_SHOWN = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted of one document in a batch."""

    characters: int
    visible: int
    letters: int
    words: int
    """Between white space; in unspaced text half its Han characters, and its other words."""
    alphabetic_words: int
    hashes: int
    braces: int
    clauses: int


def counts_of(batch: TextBatch) -> list[Counts]:
    """One for each document of the batch."""
    histogram = batch.histogram
    ends = [ord(character) for character in ",.;:!?\n"]
    clauses = histogram[:, ends].sum(axis=1)
    # Han characters are inside the spaced words of mixed text; the greater count is the better one.
    words = [batch.words.tolist(), (batch.han // HAN_PER_WORD).tolist()]
    return [
        Counts(*row)
        for row in zip(
            batch.characters.tolist(),
            batch.visible.tolist(),
            batch.letters.tolist(),
            map(max, *words),
            batch.alphabetic_words.tolist(),
            histogram[:, ord("#")].tolist(),
            (histogram[:, ord("{")] + histogram[:, ord("}")]).tolist(),
            clauses.tolist(),
            strict=True,
        )
    ]


def is_prose(language: str, config: QualityConfig) -> bool:
    """Whether the measures say anything about a document of the language."""
    if language == UNDETERMINED:
        return config.judge_undetermined
    return language not in _OTHER_UNSPACED


def quality_signs(view: DocumentView, counts: Counts, config: QualityConfig) -> Iterator[Objection]:
    """The measures that are out of bounds, most telling first."""
    unspaced = view.language in UNSPACED
    yield from _page_signs(view, counts, config)
    if counts.words < config.min_words:
        yield Objection("TOO_FEW_WORDS", f"{counts.words} words (at least {config.min_words})")
    if counts.words > config.max_words:
        yield Objection("TOO_MANY_WORDS", f"{counts.words} words (at most {config.max_words})")
    if counts.words < config.statistics_from_words:
        return
    if unspaced:
        yield from _unspaced_signs(view, counts, config)
    else:
        yield from _spaced_signs(view, counts, config)
    ellipses = view.folded.count("...")
    symbols = max(counts.hashes, ellipses) / counts.words
    if symbols > config.max_symbol_word_ratio:
        yield _above("SYMBOLS", symbols, "symbols per word", config.max_symbol_word_ratio)
    if len(view.lines) >= config.line_shares_from_lines:
        yield from _line_signs(view, counts, config, unspaced)


def _page_signs(view: DocumentView, counts: Counts, config: QualityConfig) -> Iterator[Objection]:
    """What says of any page, however short, that it is no text. [C4]"""
    found = next((text for text in _PLACEHOLDERS if text in view.folded), None)
    if found and config.drop_placeholder_text:
        yield Objection("PLACEHOLDER_TEXT", f"{found!r} found")
    if counts.braces > config.max_brace_share * counts.characters:
        share = counts.braces / counts.characters
        yield _above("CURLY_BRACES", share, "of the characters", config.max_brace_share)
    lines = view.lines
    if len(lines) >= config.line_shares_from_lines and _may_mention(view.folded):
        share = sum(map(_mentions, lines)) / len(lines)
        if share > config.max_boilerplate_line_share:
            yield _above("BOILERPLATE", share, "of the lines", config.max_boilerplate_line_share)


def _may_mention(text: str) -> bool:
    """Whether a text can hold boilerplate at all; never misses."""
    stems = _BOILERPLATE_STEMS if text.isascii() else _BOILERPLATE
    return any(stem in text for stem in stems)


def _mentions(text: str) -> bool:
    return any(phrase in text for phrase in _BOILERPLATE)


def _spaced_signs(view: DocumentView, counts: Counts, config: QualityConfig) -> Iterator[Objection]:
    """[G] word length, alphabetic words, stop words."""
    length = counts.visible / counts.words
    low, high = config.mean_word_length
    if not low <= length <= high:
        yield _outside("WORD_LENGTH", length, "characters per word", low, high)
    alphabetic = counts.alphabetic_words / counts.words
    if alphabetic < config.min_alphabetic_word_share:
        least = config.min_alphabetic_word_share
        yield _below("ALPHABETIC_WORDS", alphabetic, "of the words", least)
    if view.language == "en":
        found: set[str] = set()
        for word in view.tokens:
            if word in _STOP_WORDS:
                found.add(word)
                if len(found) >= config.min_stop_words:
                    return
        if len(found) < config.min_stop_words:
            yield Objection("STOP_WORDS", f"{len(found)} of 8 (at least {config.min_stop_words})")


def _unspaced_signs(
    view: DocumentView, counts: Counts, config: QualityConfig
) -> Iterator[Objection]:
    """The Chinese versions: clause length, share of letters, function words."""
    marks = sum(map(view.folded.count, "、。")) + counts.clauses
    length = counts.visible / (marks + 1)
    low, high = config.mean_clause_length
    if not low <= length <= high:
        yield _outside("CLAUSE_LENGTH", length, "characters per clause", low, high)
    letters = counts.letters / max(1, counts.visible)
    if letters < config.min_letter_share:
        yield _below("LETTERS", letters, "of the characters", config.min_letter_share)
    if view.language == "zh":
        found = 0
        for character in _FUNCTION_CHARACTERS:
            found += character in view.folded
            if found >= config.min_function_characters:
                return
        if found < config.min_function_characters:
            least = config.min_function_characters
            yield Objection("STOP_WORDS", f"{found} function characters (at least {least})")


def _line_signs(
    view: DocumentView, counts: Counts, config: QualityConfig, unspaced: bool
) -> Iterator[Objection]:
    """[G] bullets and ellipses; [F] terminal punctuation, short lines, lines per word."""
    lines = view.lines
    count = len(lines)
    bullets = sum(line.startswith(_BULLETS) for line in lines) / count
    if bullets > config.max_bullet_line_share:
        yield _above("BULLET_LINES", bullets, "of the lines", config.max_bullet_line_share)
    ellipses = sum(line.endswith(_ELLIPSES) for line in lines) / count
    if ellipses > config.max_ellipsis_line_share:
        yield _above("ELLIPSIS_LINES", ellipses, "of the lines", config.max_ellipsis_line_share)
    ended = sum(line.endswith(_TERMINALS) for line in lines) / count
    if ended < config.min_ended_line_share:
        yield _below("LINE_ENDS", ended, "of the lines", config.min_ended_line_share)
    short = config.short_line_characters
    limit = short // _SHORT_LINE_DIVISOR if unspaced else short
    shorts = sum(len(line) <= limit for line in lines) / count
    if shorts > config.max_short_line_share:
        yield _above("SHORT_LINES", shorts, "of the lines", config.max_short_line_share)
    ratio = count / counts.words
    if ratio > config.max_line_word_ratio:
        yield _above("LIST_LIKE", ratio, "lines per word", config.max_line_word_ratio)


def _above(code: str, value: float, what: str, most: float) -> Objection:
    return Objection(code, f"{value:.{_SHOWN}f} {what} (at most {most})")


def _below(code: str, value: float, what: str, least: float) -> Objection:
    return Objection(code, f"{value:.{_SHOWN}f} {what} (at least {least})")


def _outside(code: str, value: float, what: str, low: float, high: float) -> Objection:
    return Objection(code, f"{value:.{_SHOWN}f} {what} (accepted: {low} to {high})")
