"""How agreement with labels is counted, and the floors that detection keeps on labelled data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from span_quality import Labelled, Quality, load_labelled, score

from plumbline.curation.pii.config import AnonymizeConfig
from plumbline.curation.pii.detector import PiiDetector

V2 = "presidio_pii synth_dataset_v2"
LARGE = "presidio_pii generated_large"


@dataclass(frozen=True)
class Detection:
    """Labelled records and what the default detector finds in them."""

    records: list[Labelled]
    found: dict[str, list[dict[str, Any]]]

    def quality(self, corpus: str, type_: str) -> Quality:
        return score([r for r in self.records if r.corpus == corpus], self.found, type_)


@pytest.fixture(scope="module")
def detection(public_data: Callable[[str], Path]) -> Detection:
    public_data("multipriv_pii")
    records = load_labelled(public_data("presidio_pii").parent)
    spans = PiiDetector(AnonymizeConfig()).find_all([record.text for record in records])
    rows = [
        [{"start": s.start, "end": s.end, "type": s.type} for s in found_here]
        for found_here in spans
    ]
    return Detection(records, {r.id: row for r, row in zip(records, rows, strict=True)})


def test_places_are_counted_exactly_and_by_overlap() -> None:
    """Of three labelled places one is found exactly, one in part, one not; one find is false.

    Exact: 1 of 3 labelled and of 3 found. By overlap: 2 of 3 labelled, 2 of 3 found.
    """
    record = Labelled("1", "corpus", "en", "", {"EMAIL": ((0, 5), (10, 20), (30, 40))})
    spans = [(0, 5), (12, 25), (50, 60)]
    found = {"1": [{"start": s, "end": e, "type": "EMAIL"} for s, e in spans]}
    found["1"].append({"start": 30, "end": 40, "type": "PHONE"})
    third = pytest.approx(1 / 3)
    assert score([record], found, "EMAIL").figures() == {
        "exact recall": third,
        "exact precision": third,
        "overlap recall": pytest.approx(2 / 3),
        "overlap precision": pytest.approx(2 / 3),
    }
    assert set(score([record], {"1": []}, "PHONE").figures().values()) == {None}


@pytest.mark.parametrize(
    ("corpus", "type_", "recall", "precision"),
    [
        (V2, "EMAIL", 0.99, 0.99),
        (V2, "IBAN", 0.99, 0.99),
        (V2, "IP_ADDRESS", 0.99, 0.99),
        (V2, "BANK_CARD", 0.95, 0.95),
        (V2, "PHONE", 0.85, 0.80),
        (LARGE, "EMAIL", 0.99, 0.99),
        (LARGE, "IBAN", 0.99, 0.99),
        (LARGE, "BANK_CARD", 0.95, 0.95),
        (LARGE, "PHONE", 0.85, 0.80),
        ("multipriv_pii zh", "EMAIL", 0.99, 0.99),
        ("multipriv_pii zh", "NATIONAL_ID", 0.99, 0.99),
        ("multipriv_pii zh", "PHONE", 0.99, 0.99),
    ],
)
def test_patterns_are_found_to_the_character(
    detection: Detection, corpus: str, type_: str, recall: float, precision: float
) -> None:
    quality = detection.quality(corpus, type_)
    assert quality.labelled >= 5
    figures = quality.figures()
    assert (figures["exact recall"] or 0) >= recall
    assert (figures["exact precision"] or 0) >= precision


@pytest.mark.parametrize(
    ("corpus", "type_", "recall", "precision"),
    [
        ("multipriv_pii zh", "PERSON", 0.95, 0.94),
        ("multipriv_pii zh", "ADDRESS", 0.97, 0.97),
        # Many doctors and colleagues of this corpus carry no label, and are found.
        ("multipriv_pii en", "PERSON", 0.90, 0.30),
        ("multipriv_pii en", "ADDRESS", 0.95, 0.95),
        (V2, "PERSON", 0.65, 0.85),
        (V2, "ADDRESS", 0.75, 0.90),
    ],
)
def test_names_and_addresses_are_met(
    detection: Detection, corpus: str, type_: str, recall: float, precision: float
) -> None:
    quality = detection.quality(corpus, type_)
    assert quality.labelled > 100
    figures = quality.figures()
    assert (figures["overlap recall"] or 0) >= recall
    assert (figures["overlap precision"] or 0) >= precision
