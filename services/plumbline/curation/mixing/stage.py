"""Stages `curation.mix` and `curation.subset`: several datasets in, one drawn from them out.

Both write documents.parquet where the inputs hold documents, conversations.parquet where they hold
conversations, and report.json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import ConfigError
from plumbline.core.stages import StageContext, StageInputs, StageResult
from plumbline.curation.mixing.catalogue import (
    RECORD_TYPES,
    Catalogue,
    Cataloguer,
    SourceFile,
    open_inputs,
)
from plumbline.curation.mixing.config import MixConfig, SourceConfig, SubsetConfig
from plumbline.curation.mixing.drawing import (
    Drawn,
    amounts_of_sources,
    draw,
    order_of,
    within_caps,
)
from plumbline.curation.mixing.planning import SourceSize, apportion, as_written, plan_mix
from plumbline.curation.mixing.writing import write_drawn
from plumbline.data.readers import FILE_NAMES
from plumbline.data.records import Document


def run_mix(config: MixConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """Weigh sources against each other and draw from them."""
    files = open_inputs(inputs.many("datasets"), context.work_dir, config.on_error)
    catalogue = Cataloguer(
        seed=config.seed,
        sources=config.sources,
        group_by=(config.group_by,),
        unit=config.unit,
        task_field=config.task_field if config.task_cap is not None else "",
        score_field=config.score_field if config.order == "score" else "",
    ).read(files)
    sources = _sources(catalogue, config)
    allowed = within_caps(
        catalogue, [config.cap if s.cap is None else s.cap for s in sources], config.task_cap
    )
    planned = plan_mix(_sizes(catalogue, allowed, sources, config), config)
    times = draw(catalogue, allowed, planned)
    drawn = order_of(
        catalogue,
        times,
        by=config.order,
        phases=np.array([source.phase for source in sources], dtype=np.int64),
        descending=config.descending,
    )
    _write(files, catalogue, drawn, context, annotate=True)
    report = {
        "unit": config.unit,
        "order": config.order,
        **_account(catalogue, allowed, times, planned),
    }
    return _finish(report, context)


def run_subset(config: SubsetConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """Draw some of the records, as many of each stratum as its share of all says."""
    files = open_inputs(inputs.many("datasets"), context.work_dir, config.on_error)
    catalogue = Cataloguer(seed=config.seed, group_by=config.stratify_by).read(files)
    everything = np.ones(len(catalogue.draws), dtype=bool)
    size = subset_size(len(everything), config)
    strata = amounts_of_sources(catalogue, everything).tolist()
    planned = apportion(size, [Fraction(count) for count in strata])
    times = draw(catalogue, everything, planned)
    phases = np.zeros(len(strata), dtype=np.int64)
    drawn = order_of(catalogue, times, by=config.order, phases=phases)
    _write(files, catalogue, drawn, context, annotate=False)
    report = {
        "unit": "records",
        "order": config.order,
        **_account(catalogue, everything, times, planned),
    }
    return _finish(report, context)


def subset_size(records: int, config: SubsetConfig) -> int:
    """How many records a subset has.

    Raises:
        ConfigError: more than there are.
    """
    if config.size is None:
        # The nearest whole number, halves up.
        return int(as_written(config.share or 0) * records + Fraction(1, 2))
    if config.size > records:
        raise ConfigError(
            f"size={config.size} is more than the {records} records of the inputs", field="size"
        )
    return config.size


def _sources(catalogue: Catalogue, config: MixConfig) -> list[SourceConfig]:
    """The configured sources, or default ones for those that the data made."""
    return list(config.sources) or [
        SourceConfig.model_construct(name=name) for name in catalogue.names
    ]


def _sizes(
    catalogue: Catalogue,
    allowed: NDArray[np.bool_],
    sources: Sequence[SourceConfig],
    config: MixConfig,
) -> list[SourceSize]:
    amounts = amounts_of_sources(catalogue, allowed).tolist()
    texts = np.bincount(
        catalogue.sources[allowed & catalogue.is_text], minlength=len(sources)
    ).tolist()
    counts = np.bincount(catalogue.sources[allowed], minlength=len(sources)).tolist()
    if config.pretraining_share is not None:
        for source, text, count in zip(sources, texts, counts, strict=True):
            if 0 < text < count:
                raise ConfigError(
                    f"source {source.name!r} holds {text} documents and {count - text} "
                    "conversations; with pretraining_share each source holds one of them",
                    field="sources",
                )
    return [
        SourceSize(source.name, amount, source.weight, source.epochs, is_text=text > 0)
        for source, amount, text in zip(sources, amounts, texts, strict=True)
    ]


def _write(
    files: Sequence[SourceFile],
    catalogue: Catalogue,
    drawn: Drawn,
    context: StageContext,
    *,
    annotate: bool,
) -> None:
    for record_type in RECORD_TYPES:
        if not any(file.record_type is record_type for file in files):
            continue
        own = catalogue.is_text[drawn.rows] == (record_type is Document)
        scratch = context.work_dir / f"buckets-{record_type.__name__}"
        scratch.mkdir()
        write_drawn(
            context.output_dir / FILE_NAMES[record_type],
            record_type,
            files,
            catalogue,
            Drawn(drawn.rows[own], drawn.repetitions[own]),
            scratch,
            annotate=annotate,
            progress=lambda done, total: context.progress(done, total, "drawing"),
        )


def _account(
    catalogue: Catalogue,
    allowed: NDArray[np.bool_],
    times: NDArray[np.int64],
    planned: Sequence[int],
) -> dict[str, Any]:
    """What was planned and drawn of every source."""
    drawn_amounts = times * catalogue.amounts
    total = int(drawn_amounts.sum())
    rows = [
        _source_account(catalogue, catalogue.sources == number, allowed, times, total, name, wanted)
        for number, (name, wanted) in enumerate(zip(catalogue.names, planned, strict=True))
    ]
    texts = int(drawn_amounts[catalogue.is_text].sum())
    return {
        "records_in": len(times),
        "records_out": int(times.sum()),
        "records_without_source": int((catalogue.sources < 0).sum()),
        "documents_out": int(times[catalogue.is_text].sum()),
        "conversations_out": int(times[~catalogue.is_text].sum()),
        "planned": sum(planned),
        "drawn": total,
        "document_share": texts / total if total else 0.0,
        "sources": rows,
    }


def _source_account(
    catalogue: Catalogue,
    own: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    times: NDArray[np.int64],
    total: int,
    name: str,
    planned: int,
) -> dict[str, Any]:
    available = int(catalogue.amounts[own & allowed].sum())
    drawn = int((times[own] * catalogue.amounts[own]).sum())
    return {
        "name": name,
        "records": int(own.sum()),
        "records_after_caps": int((own & allowed).sum()),
        "records_used": int((times[own] > 0).sum()),
        "records_drawn": int(times[own].sum()),
        "available": available,
        "planned": planned,
        "drawn": drawn,
        "epochs": drawn / available if available else 0.0,
        "share": drawn / total if total else 0.0,
    }


def _finish(report: dict[str, Any], context: StageContext) -> StageResult:
    text = json.dumps(report, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    (context.output_dir / "report.json").write_text(text + "\n", encoding="utf-8")
    names = ("records_in", "records_out", "documents_out", "conversations_out", "planned", "drawn")
    return StageResult(metrics={name: report[name] for name in names})
