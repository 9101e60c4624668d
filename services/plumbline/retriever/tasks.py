"""Stages of the retriever."""

from __future__ import annotations

from plumbline.core.errors import NotFoundError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.retriever.config import ImportValuesConfig

STAGES = (
    Stage(
        name="retriever.import_values",
        version=1,
        config=ImportValuesConfig,
        inputs={
            "values": InputSpec(
                kinds=("corpus",), description="holds rules.jsonl, or is a file of values"
            )
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
    from plumbline.retriever.engine import write_knowledge_base
    from plumbline.retriever.values import plan_import, read_values

    source = inputs.one("values")
    files = sorted(source.path.glob("*.jsonl"))
    values = [value for file in files for value in read_values(file)]
    if config.ids:
        missing = sorted(set(config.ids) - {value.id for value in values})
        if missing:
            raise NotFoundError(f"value {missing[0]!r} is not in artifact {source.id[:12]}")
        values = [value for value in values if value.id in config.ids]
    plan = plan_import((), values[: config.limit] if config.limit else values)
    write_knowledge_base(context.output_dir, plan.values, config.embedder)
    return StageResult(metrics={"values": float(len(plan.values))})
