"""Finds personal data and replaces it.

Recognizers propose, in normalized text; here proposals become spans of the original text without
overlaps, further occurrences of a found value are added, and each span is replaced according to
the action for its type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from plumbline.core.characters import HAN
from plumbline.curation.normalize import MappedText, NormalizedText, OffsetMap, normalize
from plumbline.curation.pii.config import PII_TYPES, AnonymizeConfig, AnonymizeOptions
from plumbline.curation.pii.json_text import JsonValues, is_json, read_string, unescaped
from plumbline.curation.pii.names.config import NamesConfig
from plumbline.curation.pii.names.recognizer import AddressRecognizer, NameRecognizer
from plumbline.curation.pii.patterns import PATTERN_TYPES, PatternRecognizer
from plumbline.curation.pii.pseudonyms import Pseudonymizer, stand_ins
from plumbline.curation.pii.remote import RemoteRecognizer
from plumbline.curation.pii.spans import Recognizer, Span, outside, without_overlaps

_ROUNDS = 8
"""Replacing one value may bring another to light, for instance by leaving a word of context next
to it; rarely more than once."""
_REPLACED = re.compile(r"<[A-Z][A-Z_]{2,30}>|\*+")
"""What redaction and masking leave behind."""
_KNOWN_TYPES = frozenset(PII_TYPES)
_SHORTEST_REPEAT = 5
_SHORTEST_HAN_REPEAT = 3
"""Two Han characters are too often part of another word."""


@dataclass(frozen=True, slots=True)
class Anonymized:
    """Text without its personal data, and what was found.

    Args:
        spans: in the original text, in order, without overlaps.
        replacements: what stands for each span; the span's own text where the action is `keep`.
    """

    text: str
    spans: tuple[Span, ...]
    replacements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A span and what it says.

    Args:
        value: its text, without escapes where it stands in JSON.
        is_number: it is a whole JSON number, which only a JSON string can stand for.
    """

    span: Span
    value: str
    is_number: bool = False


class PiiDetector:
    """Finds personal data of the configured types; safe to share between threads.

    Args:
        recognizers: further ones, beside those that the config describes. What they call by a
            name that is no type of the platform's is always looked for.
        keys: pseudonym keys by name; None reads the file that the environment names.

    Raises:
        ConfigError: pseudonyms are asked for and their key is missing.
    """

    def __init__(
        self,
        config: AnonymizeConfig,
        recognizers: Sequence[Recognizer] = (),
        keys: Mapping[str, bytes] | None = None,
    ) -> None:
        self._config = config
        self._keys = keys
        self._types = frozenset(config.types)
        self._use((*_configured(config), *recognizers))
        pseudonyms = "pseudonymise" in (config.action, *config.actions.values())
        self._pseudonyms = Pseudonymizer(config.pseudonyms, keys) if pseudonyms else None

    def with_options(self, options: AnonymizeOptions) -> PiiDetector:
        """This detector as one request wants it; recognizers are shared.

        Raises:
            ConfigError: the options make no sense, or name a key that there is not.
        """
        if options == AnonymizeOptions():
            return self
        bare = {"names": NamesConfig(enabled=False), "remote": None, "presidio": None}
        changed = options.applied_to(self._config)
        detector = PiiDetector(changed.model_copy(update=bare), (), self._keys)
        # Gazetteers and connections are made once.
        detector._use(self._models)
        return detector

    def _use(self, models: Sequence[Recognizer]) -> None:
        self._models = tuple(models)
        self._recognizers: tuple[Recognizer, ...] = (
            PatternRecognizer(self._config.types, self._config.phone_regions),
            *(r for r in self._models if r.types - _KNOWN_TYPES or r.types & self._types),
        )

    def find(self, text: str) -> tuple[Span, ...]:
        """Spans in the original text, in order, without overlaps."""
        return self.find_all([text])[0]

    def find_all(self, texts: Sequence[str]) -> list[tuple[Span, ...]]:
        """Spans in each original text, in order, without overlaps."""
        views = [_View(text) for text in texts]
        return [tuple(found.span for found in all_) for all_ in self._find(views)]

    def anonymize(self, text: str) -> Anonymized:
        """Replace every span; a second run changes nothing."""
        return self.anonymize_all([text])[0]

    def anonymize_all(
        self, texts: Sequence[str], normalized: Sequence[NormalizedText] | None = None
    ) -> list[Anonymized]:
        """Replace every span of each text; a second run changes nothing.

        Args:
            normalized: `normalize` of each text, where the caller has it already.
        """
        known: Sequence[NormalizedText | None] = normalized or [None] * len(texts)
        views = [_View(text, view) for text, view in zip(texts, known, strict=True)]
        drafts = [
            _Draft(text, self._replacements(found))
            for text, found in zip(texts, self._find(views), strict=True)
        ]
        open_ = [draft for draft in drafts if draft.changes]
        for _ in range(_ROUNDS):
            if not open_:
                break
            again = self._find(
                [_View(draft.text) for draft in open_], known=[draft.values() for draft in open_]
            )
            open_ = [
                draft
                for draft, found in zip(open_, again, strict=True)
                if draft.take(self._replacements(found))
            ]
        return [draft.result() for draft in drafts]

    def _find(
        self, views: Sequence[_View], known: Sequence[Mapping[str, Span]] | None = None
    ) -> list[list[_Found]]:
        """
        Args:
            known: values that each text held before some were replaced, with their spans.
        """
        proposed: list[list[Span]] = [[] for _ in views]
        normalized = [view.normalized.text for view in views]
        for recognizer in self._recognizers:
            for spans, new in zip(proposed, recognizer.find(normalized), strict=True):
                spans.extend(span for span in new if self._counts(span))
        return [
            self._resolve(view, spans, values) if spans or values else []
            for view, spans, values in zip(views, proposed, known or [{}] * len(views), strict=True)
        ]

    def _counts(self, span: Span) -> bool:
        wanted = span.type in self._types or span.type not in _KNOWN_TYPES
        return wanted and span.confidence >= self._config.threshold(span.type)

    def _resolve(
        self, view: _View, proposed: list[Span], known: Mapping[str, Span]
    ) -> list[_Found]:
        """From proposals in the view to spans of the original text."""
        text = view.normalized.text
        taken = [match.span() for match in _REPLACED.finditer(text)]
        if self._pseudonyms:
            taken = sorted([*taken, *stand_ins(text)])
        spans = [
            view.original(part)
            for span in without_overlaps(proposed)
            for part in _free_parts(text, span, taken)
        ]
        # Two characters of a view may come from one of the original: then only one span has it.
        spans = without_overlaps(spans)
        values = {
            **{view.text[span.start : span.end]: span for span in reversed(spans)},
            **known,
        }
        spans = without_overlaps([*spans, *self._repeats(view, values, taken)])
        if spans and view.is_json:
            return _json_values(view.text, spans)
        return [_Found(span, view.text[span.start : span.end]) for span in spans]

    def _repeats(
        self, view: _View, values: Mapping[str, Span], taken: Sequence[tuple[int, int]]
    ) -> list[Span]:
        """Every place of values that were found, also where the context does not show them."""
        covered = [view.original_place(start, end) for start, end in taken]
        repeats = []
        for value, span in values.items():
            pattern = _repeated(value)
            if pattern is None or self._config.action_for(span.type) == "keep":
                continue
            for match in pattern.finditer(view.text):
                repeat = replace(span, start=match.start(), end=match.end())
                if outside(repeat, covered) == [match.span()]:
                    repeats.append(repeat)
        return repeats

    def _replacements(self, found: Sequence[_Found]) -> list[tuple[Span, str | None]]:
        return [(item.span, self._replacement(item)) for item in found]

    def _replacement(self, item: _Found) -> str | None:
        """What stands for a value; None where it stays."""
        action = self._config.action_for(item.span.type)
        if action == "keep":
            return None
        if action == "pseudonymise" and self._pseudonyms:
            stand_in = self._pseudonyms.replacement(item.span.type, item.value)
        else:
            stand_in = "*" * len(item.value) if action == "mask" else f"<{item.span.type}>"
        return f'"{stand_in}"' if item.is_number else stand_in


class _View:
    """A text as recognizers see it: JSON without its escapes, then normalized."""

    def __init__(self, text: str, normalized: NormalizedText | None = None) -> None:
        self.text = text
        self._json: bool | None = None
        self._escapes: OffsetMap | None = None
        if "\\" in text and self.is_json:
            readable, self._escapes = unescaped(text)
            self.normalized = normalize(readable)
        else:
            self.normalized = normalized or normalize(text)

    @property
    def is_json(self) -> bool:
        if self._json is None:
            self._json = is_json(self.text)
        return self._json

    def original(self, span: Span) -> Span:
        start, end = self.original_place(span.start, span.end)
        return replace(span, start=start, end=end)

    def original_place(self, start: int, end: int) -> tuple[int, int]:
        """Where a place of the view stands in the text."""
        start, end = self.normalized.original_span(start, end)
        return self._escapes.span(start, end) if self._escapes and start < end else (start, end)


class _Draft:
    """A text on its way to being anonymized; spans stay in the offsets of the original."""

    def __init__(self, original: str, replaced: Sequence[tuple[Span, str | None]]) -> None:
        self._original = original
        self._replaced = [(span, self._text(span, new)) for span, new in replaced]
        self._build()
        self.changes = self.text != original

    def take(self, replaced: Sequence[tuple[Span, str | None]]) -> bool:
        """Add what was found in the text as it is now; whether that changed it."""
        fresh = []
        for span, new in replaced:
            if new is not None and self.text[span.start : span.end] != new:
                start, end = self._offsets.span(span.start, span.end)
                fresh.append((replace(span, start=start, end=end), new))
        if not fresh:
            return False
        before = self.text
        old = [item for item in self._replaced if not any(_overlap(item[0], n[0]) for n in fresh)]
        self._replaced = sorted([*old, *fresh], key=lambda item: item[0].start)
        self._build()
        return self.text != before

    def values(self) -> dict[str, Span]:
        """What was replaced, by its text in the original."""
        return {
            self._text(span, None): span
            for span, new in self._replaced
            if self._text(span, None) != new
        }

    def result(self) -> Anonymized:
        spans = tuple(span for span, _ in self._replaced)
        return Anonymized(self.text, spans, tuple(new for _, new in self._replaced))

    def _text(self, span: Span, new: str | None) -> str:
        return self._original[span.start : span.end] if new is None else new

    def _build(self) -> None:
        if not self._replaced:
            self.text = self._original
            return
        mapped = MappedText()
        position = 0
        for span, replacement in self._replaced:
            mapped.along(self._original[position : span.start], position)
            mapped.whole(replacement, span.start, span.end)
            position = span.end
        mapped.along(self._original[position:], position)
        self.text, self._offsets = mapped.build()


def _configured(config: AnonymizeConfig) -> list[Recognizer]:
    """What a configuration asks for beside patterns."""
    found: list[Recognizer] = []
    if config.names.enabled:
        found += [NameRecognizer(config.names), AddressRecognizer(config.names)]
    if config.remote is not None:
        found.append(RemoteRecognizer(config.remote))
    if config.presidio is not None:
        from plumbline.curation.pii.presidio import PresidioRecognizer

        found.append(PresidioRecognizer(config.presidio))
    return found


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _free_parts(text: str, span: Span, taken: Sequence[tuple[int, int]]) -> list[Span]:
    """What of a span was not replaced before; a span that met nothing is its only part.

    A name or an address may begin before something replaced and end after it; a part of a number
    is nothing.
    """
    parts = outside(span, taken) if taken else [(span.start, span.end)]
    if parts == [(span.start, span.end)]:
        return [span]
    if span.type in PATTERN_TYPES:
        return []
    stripped = []
    for start, end in parts:
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end -= len(piece) - len(piece.rstrip())
        if any(character.isalnum() for character in text[start:end]):
            stripped.append(replace(span, start=start, end=end))
    return stripped


def _repeated(value: str) -> re.Pattern[str] | None:
    """Finds a value that is not part of a longer word; None where it is too short to tell."""
    if re.search(f"[{HAN}]", value):
        return re.compile(re.escape(value)) if len(value) >= _SHORTEST_HAN_REPEAT else None
    if len(value) < _SHORTEST_REPEAT:
        return None
    return re.compile(rf"(?<![0-9A-Za-z_]){re.escape(value)}(?![0-9A-Za-z_])")


def _json_values(text: str, spans: Sequence[Span]) -> list[_Found]:
    """Spans cut to the value that they begin in."""
    values = JsonValues(text)
    found: dict[tuple[int, int], _Found] = {}
    for span in spans:
        place = values.within(span.start, span.end)
        if place is not None:
            start, end, is_number = place
            cut = replace(span, start=start, end=end)
            found.setdefault((start, end), _Found(cut, read_string(text[start:end]), is_number))
    kept = without_overlaps(item.span for item in found.values())
    return [found[span.start, span.end] for span in kept]
