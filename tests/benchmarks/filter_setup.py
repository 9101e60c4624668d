"""Trains the filter that the benchmarks' pipelines use, once."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from pathlib import Path

from generate import labelled_texts
from public_data import public_data

from plumbline.core.errors import PlumblineError
from plumbline.curation.filters.classifier import load_filter
from plumbline.curation.filters.config import TrainFilterConfig
from plumbline.curation.filters.stage import neutral_terms
from plumbline.curation.filters.training import LabelledReport, read_labelled, train_filter

_LABELLED = ("davidson_hate/labeled_data_first12000.csv.gz", "cold_zh_offensive/train.csv.gz")
_GENERATED = 4000


def prepare_filter(directory: Path) -> str:
    """Make sure that the directory holds a filter; what it was trained on."""
    root = public_data()
    source = "davidson_hate and cold_zh_offensive" if root else "generated texts"
    directory = directory / ("public" if root else "generated")
    if not _is_filter(directory):
        shutil.rmtree(directory, ignore_errors=True)
        with tempfile.TemporaryDirectory() as scratch:
            files = [root / name for name in _LABELLED] if root else [_generated(Path(scratch))]
            _train(files, directory)
    return source


def filter_directory(directory: Path) -> Path:
    """Where `prepare_filter` put the filter."""
    return directory / ("public" if public_data() else "generated")


def _is_filter(directory: Path) -> bool:
    """Whether a filter is there that this version reads."""
    try:
        load_filter(directory)
    except PlumblineError:
        return False
    return True


def _train(files: list[Path], directory: Path) -> None:
    config = TrainFilterConfig(
        name="toxicity",
        text_fields=("tweet", "TEXT", "text"),
        label_fields=("class", "label"),
        positive=("class=0", "class=1", "label=1"),
    )
    examples = list(read_labelled(files, config, LabelledReport()))
    trained = train_filter(examples, config, neutral_terms([], config))
    trained.classifier.save(directory)


def _generated(directory: Path) -> Path:
    path = directory / "labelled.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for text, label in labelled_texts(_GENERATED):
            file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    return path
