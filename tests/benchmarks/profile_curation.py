"""Prints what each part of the default curation pipeline costs, in CPU microseconds per document.

The parts are called one after the other on the same batches, each with what it needs computed
before, so that shared work (normalising, folding, the arrays of a batch) shows in lines of its own.
Their sum is compared with the engine's own `process`, where dropped documents stop early.

    .venv/bin/python tests/benchmarks/profile_curation.py [--documents 2000] [--language en|zh|mix]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from public_data import mixed, prose

from plumbline.curation.config import CurationConfig
from plumbline.curation.dedup.sketch import digest
from plumbline.curation.engine import CurationEngine
from plumbline.curation.filters.rules import ClassifierRule, Rule
from plumbline.curation.filters.text_batch import place
from plumbline.curation.pii.detector import PiiDetector
from plumbline.curation.pii.patterns import PatternRecognizer
from plumbline.curation.view import DocumentView

BATCH = 256
TARGET_US = 333
"""3 000 documents of 1 kB per second and core."""
LANGUAGES = ("en", "zh", "mix")
Part = tuple[str, Callable[[], object]]


def parts(
    engine: CurationEngine, texts: Sequence[str], *, each_recognizer: bool = True
) -> Iterator[Part]:
    """The pipeline's parts over one batch, in an order in which each finds what it needs."""
    views = [DocumentView(text, engine.config.language) for text in texts]
    yield "normalise", lambda: [view.normalized for view in views]
    yield "language", lambda: [view.language for view in views]
    yield "fold", lambda: [view.folded for view in views]
    yield "tokens", lambda: [view.tokens for view in views]
    yield "batch arrays", lambda: _measure(views)
    for rule in engine.rules:
        yield f"rule {rule.id}", lambda rule=rule: rule.judge(views)  # type: ignore[misc]
    yield "sketch", lambda: engine._sketches(views)
    yield "digest", lambda: [digest(view.normalized.text) for view in views]
    detector = engine._pii
    yield "PII, whole", lambda: detector.anonymize_all(texts, [view.normalized for view in views])
    if each_recognizer:
        yield from _recognizers(detector, [view.normalized.text for view in views])


def _measure(views: Sequence[DocumentView]) -> None:
    """What the rules share: code points, bins, histogram, word hashes."""
    for batch, _, _ in place(views):
        _ = batch.histogram, batch.unit_hashes


def _recognizers(detector: PiiDetector, normalized: Sequence[str]) -> Iterator[Part]:
    """Each recognizer, and each finder of the pattern recognizer; parts of "PII, whole"."""
    for recognizer in detector._recognizers:
        name = type(recognizer).__name__
        yield f"  {name}", lambda recognizer=recognizer: recognizer.find(normalized)  # type: ignore[misc]
        if isinstance(recognizer, PatternRecognizer):
            yield from _finders(recognizer._finders, normalized)


def _finders(finders: Sequence[Callable[..., object]], normalized: Sequence[str]) -> Iterator[Part]:
    from plumbline.curation.pii.scan import Scan

    scans: list[Scan] = []
    yield "    scan", lambda: scans.extend(Scan.of(text) for text in normalized)
    for find in finders:
        name = getattr(find, "__name__", None) or find.func.__name__  # type: ignore[attr-defined]
        yield f"    {name}", lambda find=find: [list(find(scan)) for scan in scans]  # type: ignore[misc]


def profile(engine: CurationEngine, texts: Sequence[str]) -> dict[str, float]:
    """CPU microseconds per document of each part, and of `process` as a whole."""
    spent: dict[str, float] = {}
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        for name, run in parts(engine, batch):
            spent[name] = spent.get(name, 0.0) + _cpu_s(run)
        whole = _cpu_s(lambda batch=batch: engine.process(batch))  # type: ignore[misc]
        spent["process"] = spent.get("process", 0.0) + whole
    return {name: seconds / len(texts) * 1e6 for name, seconds in spent.items()}


def _cpu_s(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def best_of(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The least of each part over several rounds: the machine may be shared."""
    return {name: min(round_[name] for round_ in rounds) for name in rounds[0]}


def show(title: str, spent: dict[str, float]) -> None:
    print(f"\n{title}: CPU microseconds per document")
    for name, cost in spent.items():
        if name != "process":
            print(f"  {name:<28}{cost:9.1f}")
    total = sum(cost for name, cost in spent.items() if name[0] != " " and name != "process")
    whole = spent["process"]
    print(f"  {'sum of the parts':<28}{total:9.1f}")
    print(f"  {'process() as a whole':<28}{whole:9.1f}  target {TARGET_US}")
    print(f"  {1e6 / whole:,.0f} documents per second and core")


def load_classifier(directory: Path | None) -> tuple[Rule, ...]:
    """The rule of a filter that `plumbline train-filter` wrote, if one is given."""
    if directory is None:
        return ()
    from plumbline.curation.filters.classifier import load_filter

    return (ClassifierRule(load_filter(directory)),)


def show_profiles(
    languages: Sequence[str], *, documents: int, rounds: int, filter_: Path | None
) -> None:
    """Profile the default pipeline on 1 kB of prose of each language, or on the mixed corpus."""
    engine = CurationEngine(CurationConfig(), load_classifier(filter_))
    for language in languages:
        texts = mixed(documents) if language == "mix" else prose(language, documents)
        spent = best_of([profile(engine, texts) for _ in range(rounds)])
        show(f"{language}, {len(texts)} documents of {_mean_kb(texts):.2f} kB", spent)


def _mean_kb(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / max(1, len(texts)) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--language", choices=LANGUAGES, help="All unless given.")
    parser.add_argument("--rounds", type=int, default=3, help="The least of so many counts.")
    parser.add_argument("--filter", type=Path, help="Directory of a trained filter.")
    given = parser.parse_args()
    languages = [given.language] if given.language else LANGUAGES
    show_profiles(languages, documents=given.documents, rounds=given.rounds, filter_=given.filter)


if __name__ == "__main__":
    main()
