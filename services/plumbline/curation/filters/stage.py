"""Stage `curation.train_filter`: labelled data files in, a filter out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from plumbline.core.errors import InvalidInputError
from plumbline.core.stages import StageContext, StageInputs, StageResult
from plumbline.curation.analysis.identity import IdentityTerm, builtin_terms, read_descriptors
from plumbline.curation.filters.config import TrainFilterConfig
from plumbline.curation.filters.neutral import invented_terms
from plumbline.curation.filters.training import LabelledReport, read_labelled, train_filter
from plumbline.data.containers import container_of

GIVEN_AXIS = "given"
_BOOKKEEPING = ("manifest.json", "run.json", "report.json")


def run_train_filter(
    config: TrainFilterConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Writes filter.json, weights.npy and report.json."""
    read = LabelledReport()
    files = [file for given in inputs.many("labelled") for file in data_files(given.path)]
    examples = list(read_labelled(files, config, read))
    terms = neutral_terms([given.path for given in inputs.many("neutral_terms")], config)
    trained = train_filter(
        examples,
        config,
        terms,
        progress=lambda done, total: context.progress(done, total, "fitting"),
    )
    trained.classifier.save(context.output_dir)
    report = trained.report | {"read": read.to_json()}
    text = json.dumps(report, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    (context.output_dir / "report.json").write_text(text + "\n", encoding="utf-8")
    rates = report["neutral_flag_rates"].values()
    return StageResult(
        metrics={
            "texts": report["train"]["texts"],
            "positive": report["train"]["positive"],
            "threshold": report["threshold"],
            "neutral_flag_rate_gap": max(rates, default=0.0) - min(rates, default=0.0),
            **{
                name: report["held_out"][name]
                for name in ("auc", "ece", "recall", "false_positive_rate")
            },
        }
    )


def data_files(directory: Path) -> list[Path]:
    """The data files of an artifact, in the order of their names.

    Raises:
        InvalidInputError: it holds none.
    """
    found = []
    for path in sorted(directory.rglob("*")):
        if not path.is_file() or path.name in _BOOKKEEPING:
            continue
        container_of(path)
        found.append(path)
    if not found:
        raise InvalidInputError(
            "the artifact holds no data file; labelled records are needed",
            field="inputs.labelled",
        )
    return found


def neutral_terms(directories: Sequence[Path], config: TrainFilterConfig) -> list[IdentityTerm]:
    """Terms of the given files, with the package's own where the config wants them.

    A file holds HolisticBias descriptors (.json), or one term a line (.txt).
    """
    terms: list[IdentityTerm] = []
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.suffix == ".json" and path.name not in _BOOKKEEPING:
                terms += read_descriptors(path)
            elif path.suffix == ".txt":
                terms += _listed(path)
    if config.builtin_terms:
        terms += [*builtin_terms(), *invented_terms()]
    # The same term may stand in several lists; the first one says its axis.
    return list({term.term.casefold(): term for term in reversed(terms)}.values())[::-1]


def _listed(path: Path) -> list[IdentityTerm]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path.name} is not UTF-8 text (byte {error.start})") from error
    words = (line.strip() for line in lines)
    return [
        IdentityTerm(GIVEN_AXIS, GIVEN_AXIS, word)
        for word in words
        if word and not word.startswith("#")
    ]
