"""How well found personal data agree with labels: recall and precision, exact and by overlap."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from public_data import json_lines

Place = tuple[int, int]
"""Start and end, characters; end exclusive."""

_LABELS = {
    "ADDRESS": "ADDRESS",
    "STREET_ADDRESS": "ADDRESS",
    "CREDIT_CARD": "BANK_CARD",
    "EMAIL": "EMAIL",
    "EMAIL_ADDRESS": "EMAIL",
    "IBAN_CODE": "IBAN",
    "ID_NUMBER": "NATIONAL_ID",
    "IP_ADDRESS": "IP_ADDRESS",
    "PERSON": "PERSON",
    "PHONE": "PHONE",
    "PHONE_NUMBER": "PHONE",
    "US_SSN": "US_SSN",
}
"""Types by the labels of the data sets; other labels are no personal data that we look for."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its labelled places by type."""

    id: str
    corpus: str
    language: str
    text: str
    places: Mapping[str, tuple[Place, ...]]


@dataclass(frozen=True, slots=True)
class Quality:
    """Counts over a corpus for one type."""

    labelled: int
    found: int
    exact: int
    """Found places that are labelled ones to the character."""
    labelled_met: int
    """Labelled places that some found place overlaps."""
    found_met: int
    """Found places that overlap some labelled place."""

    def figures(self) -> dict[str, float | None]:
        """None where there is nothing to divide by."""
        return {
            "exact recall": _share(self.exact, self.labelled),
            "exact precision": _share(self.exact, self.found),
            "overlap recall": _share(self.labelled_met, self.labelled),
            "overlap precision": _share(self.found_met, self.found),
        }


def load_labelled(root: Path) -> list[Labelled]:
    """The labelled records of presidio_pii and multipriv_pii."""
    return [*_presidio(root / "presidio_pii"), *_multipriv(root / "multipriv_pii")]


def _presidio(directory: Path) -> Iterator[Labelled]:
    for name in ("synth_dataset_v2.shared", "generated_large"):
        records = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
        for number, record in enumerate(records):
            spans = [
                (span["entity_type"], span["start_position"], span["end_position"])
                for span in record["spans"]
            ]
            corpus = f"presidio_pii {name.split('.')[0]}"
            yield Labelled(f"{name}-{number}", corpus, "en", record["full_text"], _places(spans))


def _multipriv(directory: Path) -> Iterator[Labelled]:
    for record in json_lines(directory / "persons_with_spans.jsonl.gz"):
        spans = [(span["label"], span["start"], span["end"]) for span in record["spans"]]
        language = record["lang"]
        key = f"multipriv-{language}-{record['id']}"
        yield Labelled(key, f"multipriv_pii {language}", language, record["text"], _places(spans))


def _places(spans: Sequence[tuple[str, int, int]]) -> dict[str, tuple[Place, ...]]:
    found: dict[str, set[Place]] = {}
    for label, start, end in spans:
        if label in _LABELS:
            found.setdefault(_LABELS[label], set()).add((start, end))
    return {name: tuple(sorted(places)) for name, places in found.items()}


def score(
    records: Sequence[Labelled], found: Mapping[str, Sequence[Mapping[str, Any]]], type_: str
) -> Quality:
    """Agreement for one type.

    Args:
        found: spans {start, end, type} by record id.
    """
    counts = [0] * 5
    for record in records:
        gold = record.places.get(type_, ())
        own = sorted({(s["start"], s["end"]) for s in found[record.id] if s["type"] == type_})
        exact = len(set(gold) & set(own))
        met = sum(any(_overlap(place, other) for other in own) for place in gold)
        meeting = sum(any(_overlap(place, other) for other in gold) for place in own)
        for index, value in enumerate((len(gold), len(own), exact, met, meeting)):
            counts[index] += value
    return Quality(*counts)


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
