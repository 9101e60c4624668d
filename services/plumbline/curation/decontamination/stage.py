"""Stage `curation.decontaminate`: training data and evaluation sets in, cleaned data out.

Writes documents.parquet, or conversations.parquet for conversations; report.json; samples.jsonl,
one line for each evaluation sample; contaminated.jsonl, one for each training record with matches.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, TypeAlias

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.stages import InputArtifact, StageContext, StageInputs, StageResult
from plumbline.curation.decontamination.config import DecontaminateConfig
from plumbline.curation.decontamination.cutting import character_spans, cut
from plumbline.curation.decontamination.samples import (
    EvaluationSet,
    data_files,
    read_evaluation_sets,
    text_of,
)
from plumbline.curation.decontamination.search import ContaminationSearch, Match
from plumbline.curation.decontamination.subsets import SUBSETS, subset_names
from plumbline.curation.normalize import normalize, tokens
from plumbline.data.readers import FILE_NAMES, DatasetReader, TableReader
from plumbline.data.records import Conversation, Document
from plumbline.data.tables import write_records

TrainingRecord: TypeAlias = Document | Conversation

_BATCH_RECORDS = 256
_BATCH_CHARACTERS = 1 << 20
_MATCHES_LISTED = 20
_PROGRESS_RECORDS = 1000


def run_decontaminate(
    config: DecontaminateConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """See the module's text for what it writes."""
    corpus = inputs.one("corpus")
    record_type, reader = _open_training(corpus, config)
    if config.remove == "spans" and record_type is Conversation:
        raise ConfigError(
            "remove='spans' cuts documents into pieces, and the input holds conversations; "
            "accepted for them: documents (each conversation goes whole), nothing",
            field="remove",
        )
    sets = read_evaluation_sets(inputs.many("evaluation"), config)
    cleaner = Decontaminator(sets, config)
    output = context.output_dir
    with cleaner.listing(output / "contaminated.jsonl"):
        kept = cleaner.clean(_reported(reader, context))
        write_records(output / FILE_NAMES[record_type], kept, record_type)
    report = {**cleaner.report(), "read": reader.report.to_json()}
    _write_samples(output / "samples.jsonl", cleaner.sample_rows())
    text = json.dumps(report, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    (output / "report.json").write_text(text + "\n", encoding="utf-8")
    return StageResult(metrics=_metrics(report))


class Decontaminator:
    """Cleans records as they pass by, and then knows what was found of every sample."""

    def __init__(self, sets: Sequence[EvaluationSet], config: DecontaminateConfig) -> None:
        self._sets = sets
        self._config = config
        self._search = ContaminationSearch(sets, config)
        self._names = [(given.name, sample.id) for given in sets for sample in given.samples]
        self._counts: Counter[str] = Counter()
        self._listing: IO[str] | None = None

    def listing(self, path: Path) -> ExitStack:
        """Records with matches are listed in this file for as long as the block lasts."""
        stack = ExitStack()
        self._listing = stack.enter_context(path.open("w", encoding="utf-8"))
        return stack

    def clean(self, records: Iterable[TrainingRecord]) -> Iterator[TrainingRecord]:
        """The records without what the config removes, in order."""
        for batch in _batches(records):
            views = [normalize(text_of(record)) for record in batch]
            words = [tokens(view.text) for view in views]
            found = self._search.find([record.id for record in batch], words)
            for record, view, matches in zip(batch, views, found, strict=True):
                self._counts["in"] += 1
                left: Sequence[TrainingRecord] = [record]
                if matches:
                    spans = character_spans(view, matches)
                    left = self._without(record, matches, spans)
                    self._list(record, matches, spans, removed=not left)
                self._counts["out"] += len(left)
                yield from left

    def _without(
        self,
        record: TrainingRecord,
        matches: Sequence[Match],
        spans: Sequence[tuple[int, int]],
    ) -> Sequence[TrainingRecord]:
        self._counts["contaminated"] += 1
        long_enough = [
            span
            for match, span in zip(matches, spans, strict=True)
            if match.words >= self._config.remove_from
        ]
        if not long_enough or self._config.remove == "nothing":
            return [record]
        left: Sequence[TrainingRecord] = []
        if self._config.remove == "spans" and isinstance(record, Document):
            left = cut(record, long_enough, self._config)
        self._counts["cut" if left else "removed"] += 1
        return left

    def _list(
        self,
        record: TrainingRecord,
        matches: Sequence[Match],
        spans: Sequence[tuple[int, int]],
        *,
        removed: bool,
    ) -> None:
        """The longest matches; offsets are of characters of the record's text."""
        longest = sorted(
            zip(matches, spans, strict=True), key=lambda item: (-item[0].words, item[0].start)
        )
        entry = {
            "id": record.id,
            "source": record.source,
            "removed": removed,
            "matches": [
                {
                    "set": self._names[match.sample][0],
                    "sample": self._names[match.sample][1],
                    "words": match.words,
                    "start": start,
                    "end": end,
                }
                for match, (start, end) in longest[:_MATCHES_LISTED]
            ],
            "matches_in_all": len(matches),
        }
        if self._listing is not None:
            self._listing.write(json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n")

    def sample_rows(self) -> Iterator[dict[str, Any]]:
        """What was found of each sample, in the order of the evaluation sets."""
        shares = self._search.shares().tolist()
        contaminated = self._search.contaminated_words().tolist()
        words = self._search.sample_words().tolist()
        for index, (name, sample) in enumerate(self._names):
            yield {
                "set": name,
                "sample": sample,
                "words": words[index],
                "contaminated_words": contaminated[index],
                "share": shares[index],
                "subsets": self._subsets(shares[index], words[index]),
                "longest_match": int(self._search.longest[index]),
                "documents": int(self._search.documents[index]),
                "document_ids": self._search.document_ids[index],
            }

    def _subsets(self, share: float, words: int) -> list[str]:
        if words < self._config.run_words:
            return ["too_short"]
        if self._config.method == "collision":
            return ["not_clean", "dirty"] if share > 0 else ["clean", "not_dirty"]
        return subset_names(
            share, clean_below=self._config.clean_below, dirty_from=self._config.dirty_from
        )

    def report(self) -> dict[str, Any]:
        """JSON-compatible; complete once `clean` has come to its end."""
        rows: dict[str, list[dict[str, Any]]] = {given.name: [] for given in self._sets}
        for row in self.sample_rows():
            rows[row["set"]].append(row)
        return {
            "method": self._config.method,
            "ngram": self._config.run_words,
            "skip_budget": self._config.budget,
            "remove": self._config.remove,
            "remove_from": self._config.remove_from,
            "documents_in": self._counts["in"],
            "documents_out": self._counts["out"],
            "documents_contaminated": self._counts["contaminated"],
            "documents_removed": self._counts["removed"],
            "documents_cut": self._counts["cut"],
            "evaluation": [_summary(name, own) for name, own in rows.items()],
        }


def _summary(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One evaluation set: its subsets, with each sample's contaminated share by id."""
    measured = [row for row in rows if row["subsets"] != ["too_short"]]
    contaminated = [row for row in measured if row["contaminated_words"]]
    return {
        "name": name,
        "samples": len(rows),
        "too_short": [row["sample"] for row in rows if row["subsets"] == ["too_short"]],
        "contaminated": len(contaminated),
        "mean_share": sum(row["share"] for row in measured) / len(measured) if measured else 0.0,
        "shares": {row["sample"]: row["share"] for row in measured},
        "subsets": {
            subset: [row["sample"] for row in measured if subset in row["subsets"]]
            for subset in SUBSETS
        },
        "documents": sorted({key for row in contaminated for key in row["document_ids"]}),
    }


def _open_training(
    corpus: InputArtifact, config: DecontaminateConfig
) -> tuple[type[TrainingRecord], TableReader[Any] | DatasetReader[Any]]:
    """The training data and their type; a data file says by its first record what it holds.

    Raises:
        InvalidInputError: no data file, several, or records that are not trained on as they are.
    """
    for record_type in (Document, Conversation):
        own = corpus.path / FILE_NAMES[record_type]
        if own.is_file():
            return record_type, TableReader(own, record_type)
    files = data_files(corpus.path)
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise InvalidInputError(
            f"the training data hold {len(files)} data files ({names}); exactly one is accepted",
            field="inputs.corpus",
        )
    first = next(iter(DatasetReader[Any](files[0], on_error=config.on_error)))
    if not isinstance(first, Document | Conversation):
        raise InvalidInputError(
            f"{files[0].name} holds {type(first).__name__} records; accepted: documents, "
            "conversations",
            field="inputs.corpus",
        )
    return type(first), DatasetReader(files[0], kind=type(first), on_error=config.on_error)


def _batches(
    records: Iterable[TrainingRecord],
) -> Iterator[list[TrainingRecord]]:
    """Of a bounded number of records and characters; a longer record is alone."""
    batch: list[TrainingRecord] = []
    held = 0
    for record in records:
        size = len(text_of(record))
        if batch and (len(batch) >= _BATCH_RECORDS or held + size > _BATCH_CHARACTERS):
            yield batch
            batch, held = [], 0
        batch.append(record)
        held += size
    if batch:
        yield batch


def _reported(records: Iterable[TrainingRecord], context: StageContext) -> Iterator[TrainingRecord]:
    """Records as they pass; the total of a stream is not known beforehand."""
    done = 0
    for done, record in enumerate(records, start=1):
        yield record
        if done % _PROGRESS_RECORDS == 0:
            context.progress(done, 0, "decontaminating")
    context.progress(done, done, "decontaminating")


def _write_samples(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    names = ("in", "out", "contaminated", "removed", "cut")
    metrics: dict[str, float] = {f"documents_{name}": report[f"documents_{name}"] for name in names}
    sets = report["evaluation"]
    metrics["samples"] = sum(found["samples"] for found in sets)
    metrics["samples_contaminated"] = sum(found["contaminated"] for found in sets)
    metrics |= {
        f"samples_{subset}": sum(len(found["subsets"][subset]) for found in sets)
        for subset in SUBSETS
    }
    return metrics
