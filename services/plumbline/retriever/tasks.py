"""Stages of the retriever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plumbline.core.errors import NotFoundError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.retriever.config import ImportValuesConfig

if TYPE_CHECKING:
    from plumbline.data.records import ValueSpec

RULES_FILE = "rules.jsonl"
"""Where a world keeps its rules, beside files that hold no values."""

STAGES = (
    Stage(
        name="retriever.import_values",
        version=2,
        config=ImportValuesConfig,
        inputs={
            "values": InputSpec(
                kinds=("corpus",),
                description=f"holds {RULES_FILE}, or files of values: tables, Markdown, laws",
            ),
            "base": InputSpec(
                kinds=("knowledge-base",),
                required=False,
                description="knowledge base that the values are merged into; empty without",
            ),
        },
        output_kind="knowledge-base",
        queue="evaluation",
        run="plumbline.retriever.tasks:run_import_values",
        description="Make a knowledge base from written values",
    ),
)


def run_import_values(
    config: ImportValuesConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.retriever.readers.folders import read_values
    from plumbline.retriever.search.config import EmbedderConfig
    from plumbline.retriever.snapshots import load_knowledge_base, write_knowledge_base
    from plumbline.retriever.values.importing import ValueSet, plan_import

    source, older = inputs.one("values"), inputs.optional("base")
    rules = source.path / RULES_FILE
    values = _chosen(config, read_values([rules if rules.is_file() else source.path]), source.id)
    base = load_knowledge_base(older.path, older.id) if older else None
    plan = plan_import(
        base.contents if base else ValueSet(),
        values,
        replace_all=config.replace_all,
        complete_sources={value.source for value in values} - {""} if config.complete else (),
        revoked=config.revoked,
    )
    embedder = config.embedder or (base.embedder if base else EmbedderConfig())
    write_knowledge_base(context.output_dir, plan.after, embedder, base=base)
    counts = {
        name: float(getattr(plan, name))
        for name in ("added", "changed", "unchanged", "removed", "ended")
    }
    return StageResult(metrics={"values": float(len(plan.values)), **counts})


def _chosen(
    config: ImportValuesConfig, values: Sequence[ValueSpec], artifact_id: str
) -> list[ValueSpec]:
    from plumbline.retriever.readers.rows import SHARED, filled, typed_fields

    chosen = list(values)
    if config.ids:
        missing = sorted(set(config.ids) - {value.id for value in values})
        if missing:
            raise NotFoundError(f"value {missing[0]!r} is not in artifact {artifact_id[:12]}")
        chosen = [value for value in chosen if value.id in config.ids]
    fields = typed_fields(config.fields, "fields", accepted=SHARED)
    return [filled(value, fields) for value in chosen[: config.limit or len(chosen)]]
