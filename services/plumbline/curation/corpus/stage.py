"""Stages of CurateCorpus: the whole, and the parts that it hands to other workers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plumbline.core.delegation import StageRequest
from plumbline.core.stages import StageContext, StageInputs, StageResult
from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.careful import Processor
from plumbline.curation.corpus.copies import Copies, band_groups, find_copies
from plumbline.curation.corpus.isolated import IsolatedProcessor, engine_command
from plumbline.curation.corpus.merge import merge_shards
from plumbline.curation.corpus.part_configs import (
    CurateShardConfig,
    FindCopiesConfig,
    ImportDocumentsConfig,
)
from plumbline.curation.corpus.shard import (
    RowRange,
    curate_shard,
    document_rows,
    kept_documents,
    plan_shards,
    write_json,
)
from plumbline.curation.engine import open_engine
from plumbline.data.readers import open_artifact_dataset
from plumbline.data.records import Document
from plumbline.data.tables import write_records

DOCUMENTS = "documents.parquet"
READ_REPORT = "read.json"
_COPIES_INLINE = 500_000
"""Kept documents up to which one process looks for copies faster than several start."""


def run_curate(config: CurationConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """Curate a corpus in one piece, or in shards that any worker may take."""
    filters = [artifact.path for artifact in inputs.many("filters")]
    engine = open_engine(config, filters)
    corpus = inputs.one("corpus")
    temporary: list[str] = []
    documents = document_rows(corpus.path)
    corpus_id = corpus.id
    if documents is None:
        request = StageRequest(
            "curation.import_documents", {"on_error": config.on_error}, {"corpus": [corpus.id]}
        )
        [corpus_id] = context.outputs_of([request])
        temporary.append(corpus_id)
        documents = context.materialise(corpus_id) / DOCUMENTS
    shards = plan_shards(documents, config.sharding.shard_documents)
    if len(shards) == 1:
        directories, copies = _in_one_piece(config, filters, documents, shards[0], context)
    else:
        filter_ids = [artifact.id for artifact in inputs.many("filters")]
        directories, copies, made = _in_shards(config, corpus_id, filter_ids, shards, context)
        temporary += made
    context.progress(0, 1, "merging")
    steps = [(rule.id, rule.version) for rule in engine.rules]
    report = merge_shards(directories, copies, context.output_dir, config, steps)
    read = documents.parent / READ_REPORT
    if read.is_file():
        report["read"] = json.loads(read.read_text(encoding="utf-8"))
    report["lexicon_digest"] = engine.lexicon_digest
    write_json(context.output_dir / "report.json", report)
    return StageResult(metrics=_metrics(report), temporary=temporary)


def run_import_documents(
    config: ImportDocumentsConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Read a data file of any known format into rows that can be cut into shards."""
    _import(inputs.one("corpus").path, context.output_dir, config.on_error)
    return StageResult()


def run_curate_shard(
    config: CurateShardConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Judge, anonymize and sketch a range of rows."""
    filters = [artifact.path for artifact in inputs.many("filters")]
    rows = RowRange(config.first_row, config.last_row)
    corpus = inputs.one("corpus").path
    with _processor(config.curation, filters, context.attempt) as processor:
        curate_shard(
            document_rows(corpus) or corpus / DOCUMENTS,
            rows,
            processor,
            context.output_dir,
            config.curation,
            progress=lambda done, total: context.progress(done, total, "curating"),
        )
    return StageResult()


def run_find_copies(
    config: FindCopiesConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Confirm the candidates of some bands."""
    copies = find_copies(
        [artifact.path for artifact in inputs.many("shards")],
        (config.first_band, config.last_band),
        config.curation,
        progress=lambda done, total: context.progress(done, total, "comparing"),
    )
    copies.write(context.output_dir)
    return StageResult()


def _in_one_piece(
    config: CurationConfig,
    filters: Sequence[Path],
    documents: Path,
    rows: RowRange,
    context: StageContext,
) -> tuple[list[Path], Copies]:
    directory = context.work_dir / "shard"
    directory.mkdir()
    with _processor(config, filters, context.attempt) as processor:
        curate_shard(
            documents,
            rows,
            processor,
            directory,
            config,
            progress=lambda done, total: context.progress(done, total, "curating"),
        )
    return [directory], _all_copies([directory], config, context)


def _all_copies(
    directories: Sequence[Path], config: CurationConfig, context: StageContext
) -> Copies:
    if not config.near_duplicates.enabled:
        return Copies.joined([])
    return find_copies(
        directories,
        (0, config.near_duplicates.bands),
        config,
        progress=lambda done, total: context.progress(done, total, "comparing"),
    )


def _in_shards(
    config: CurationConfig,
    corpus_id: str,
    filter_ids: Sequence[str],
    shards: Sequence[RowRange],
    context: StageContext,
) -> tuple[list[Path], Copies, list[str]]:
    """Directories of the shards, the copies among them, and the artifacts made on the way."""
    own = config.model_dump(mode="json")
    shard_ids = context.outputs_of(
        [
            StageRequest(
                "curation.curate_shard",
                {
                    "curation": own,
                    "first_row": rows.first,
                    "last_row": rows.last,
                },
                {"corpus": [corpus_id], "filters": list(filter_ids)},
            )
            for rows in shards
        ]
    )
    copy_ids: list[str] = []
    directories = [context.materialise(shard_id) for shard_id in shard_ids]
    if sum(kept_documents(directory) for directory in directories) <= _COPIES_INLINE:
        return directories, _all_copies(directories, config, context), shard_ids
    if config.near_duplicates.enabled:
        groups = band_groups(config.near_duplicates.bands, config.sharding.copy_jobs)
        copy_ids = context.outputs_of(
            [
                StageRequest(
                    "curation.find_copies",
                    {"curation": own, "first_band": first, "last_band": last},
                    {"shards": shard_ids},
                )
                for first, last in groups
            ]
        )
    copies = Copies.joined([Copies.read(context.materialise(made)) for made in copy_ids])
    return directories, copies, [*shard_ids, *copy_ids]


@contextlib.contextmanager
def _processor(
    config: CurationConfig, filters: Sequence[Path], attempt: int
) -> Iterator[Processor]:
    """The engine; in a process of its own where an earlier attempt may have crashed."""
    if attempt == 1:
        yield open_engine(config, filters)
        return
    with IsolatedProcessor(engine_command(config, filters)) as isolated:
        yield isolated


def _import(directory: Path, output: Path, on_error: Any) -> Path:
    """Write a data file's documents as `documents.parquet`, and how reading went beside them."""
    reader = open_artifact_dataset(directory, Document, on_error=on_error)
    write_records(output / DOCUMENTS, reader, Document)
    write_json(output / READ_REPORT, reader.report.to_json())
    return output / DOCUMENTS


def _metrics(report: Mapping[str, Any]) -> dict[str, float]:
    metrics: dict[str, float] = {
        name: report[name]
        for name in ("documents_in", "documents_out", "documents_with_pii", "quarantined")
    }
    metrics |= {f"removed.{rule['id']}": rule["removed"] for rule in report["rules"]}
    metrics |= {f"pii.{name.lower()}": count for name, count in report["pii"].items()}
    noise = report.get("noise", {})
    metrics |= {f"noise_recall.{kind}": share for kind, share in noise.get("recall", {}).items()}
    return metrics
