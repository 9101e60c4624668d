"""Runs the synthesis stages: inputs to engines, states to checkpoints, results to files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.stages import InputArtifact, StageContext, StageInputs, StageResult
from plumbline.curation.synthesis.config import (
    BacktranslateConfig,
    EvolveConfig,
    SelfInstructConfig,
    SynthesisConfig,
    ToInstructionsConfig,
)
from plumbline.data.records import Conversation, Document

if TYPE_CHECKING:
    from plumbline.curation.synthesis.generator import Generator
    from plumbline.curation.synthesis.progress import AfterRound, Ending, SynthesisState

_REPORT = "report.json"
_RECORDS = "conversations.parquet"
_ROWS = "instructions.jsonl"
_DEMONSTRATIONS = "demonstrations.parquet"
"""Where a generated world keeps its conversations."""


def run_self_instruct(
    config: SelfInstructConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Generate tasks from seeds until the target is reached.

    Raises:
        FailedPreconditionError: LOW_YIELD or MAX_ROUNDS, see `on_shortfall`.
    """
    from plumbline.curation.synthesis.records import tasks_of
    from plumbline.curation.synthesis.self_instruct import SelfInstruct

    conversations, read = read_conversations(inputs.one("seeds"), config.on_error)
    seeds = list(tasks_of(conversations))
    engine = SelfInstruct(seeds, _generator(config, inputs, context), config, _resumed(context))
    total = config.target
    ending = engine.run(
        _after_round(context, config.checkpoint_every, lambda s: (len(s.records), total))
    )
    return _finish(
        config, engine.state, ending, context, read, parents=[seed.instruction for seed in seeds]
    )


def run_evolve(config: EvolveConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """Evolve tasks for several generations.

    Raises:
        FailedPreconditionError: no record, or fewer than the target, see `on_shortfall`.
    """
    from plumbline.curation.synthesis.evolve import Evolution
    from plumbline.curation.synthesis.records import tasks_of

    conversations, read = read_conversations(inputs.one("conversations"), config.on_error)
    tasks = list(tasks_of(conversations))
    tasks = tasks[: config.limit] if config.limit else tasks
    engine = Evolution(tasks, _generator(config, inputs, context), config, _resumed(context))
    ending = engine.run(_after_round(context, 1, lambda s: (s.round, engine.rounds)))
    return _finish(
        config, engine.state, ending, context, read, parents=[task.request for task in tasks]
    )


def run_backtranslate(
    config: BacktranslateConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Find the instructions that documents answer.

    Raises:
        FailedPreconditionError: no record, or fewer than the target, see `on_shortfall`.
    """
    from plumbline.curation.synthesis.backtranslate import Backtranslation
    from plumbline.data.readers import read_artifact_dataset

    dataset = read_artifact_dataset(
        inputs.one("documents").path, Document, on_error=config.on_error
    )
    documents = dataset.records[: config.limit] if config.limit else dataset.records
    engine = Backtranslation(
        documents, _generator(config, inputs, context), config, _resumed(context)
    )
    ending = engine.run(_after_round(context, 1, lambda s: (s.round, engine.rounds)))
    return _finish(config, engine.state, ending, context, dataset.report.to_json(), parents=[])


def run_to_instructions(
    config: ToInstructionsConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Convert conversations, documents or both into instruction records.

    Raises:
        ConfigError: neither input was given.
        InvalidInputError: nothing is left.
    """
    from plumbline.curation.synthesis.diversity import diversity_report
    from plumbline.curation.synthesis.documents import convert_documents
    from plumbline.curation.synthesis.instructions import convert_conversations, to_conversations
    from plumbline.data.readers import read_artifact_dataset

    conversations, documents = inputs.optional("conversations"), inputs.optional("documents")
    records: list[Conversation] = []
    report: dict[str, Any] = {"read": {}, "funnel": {}}
    if conversations is not None:
        found, report["read"]["conversations"] = read_conversations(conversations, config.on_error)
        converted = convert_conversations(found, config)
        records += converted.records
        report["funnel"]["conversations"] = converted.funnel.to_json()
    if documents is not None:
        dataset = read_artifact_dataset(documents.path, Document, on_error=config.on_error)
        converted = convert_documents(dataset.records, config)
        records += converted.records
        report["read"]["documents"] = dataset.report.to_json()
        report["funnel"]["documents"] = converted.funnel.to_json()
    if not report["read"]:
        raise ConfigError(
            "neither conversations nor documents were given; at least one is needed",
            field="inputs.conversations",
        )
    if not records:
        raise InvalidInputError(
            f"no instruction came out of the input: {json.dumps(report['funnel'])}",
            reason="NOTHING_LEFT",
        )
    report["diversity"] = diversity_report(records)
    written = to_conversations(records) if config.layout == "conversations" else records
    _write(context.output_dir, written, report)
    return StageResult(metrics={"records": len(written)})


def read_conversations(
    artifact: InputArtifact, on_error: Any
) -> tuple[list[Conversation], dict[str, Any]]:
    """Conversations of an artifact, its demonstrations where it is a world, and how they were
    read."""
    from plumbline.data.readers import read_artifact_dataset
    from plumbline.data.tables import read_records

    world = artifact.path / _DEMONSTRATIONS
    if world.is_file():
        records = read_records(world, Conversation)
        return records, {"file": _DEMONSTRATIONS, "records": len(records)}
    dataset = read_artifact_dataset(artifact.path, Conversation, on_error=on_error)
    return dataset.records, dataset.report.to_json()


def _generator(config: SynthesisConfig, inputs: StageInputs, context: StageContext) -> Generator:
    from plumbline.curation.synthesis.remote import SamplerGenerator

    return SamplerGenerator(
        context.connect("sampler"),
        inputs.one("policy").id,
        config.sampling,
        before_call=context.raise_if_cancelled,
    )


def _resumed(context: StageContext) -> SynthesisState | None:
    """The state of the newest checkpoint, if the work was begun before."""
    from plumbline.curation.synthesis.progress import SynthesisState

    found = context.newest_checkpoint()
    return None if found is None else SynthesisState.load(found[0])


def _after_round(context: StageContext, every: int, progress: Any) -> AfterRound:
    """Saves a checkpoint every so many rounds and tells how far the work is.

    Args:
        progress: gives (done, total) of a state.
    """

    def after_round(state: SynthesisState) -> None:
        if state.round % every == 0:
            directory = context.work_dir / "state"
            shutil.rmtree(directory, ignore_errors=True)
            state.save(directory)
            context.save_checkpoint(directory, state.round)
        done, total = progress(state)
        context.log_metrics(state.round, {"records": len(state.records)})
        context.progress(done, total, f"{len(state.records)} records, round {state.round}")

    return after_round


def _finish(
    config: SynthesisConfig,
    state: SynthesisState,
    ending: Ending,
    context: StageContext,
    read: Mapping[str, Any],
    *,
    parents: Iterable[str],
) -> StageResult:
    """Write records and report, where the ending may stand."""
    from plumbline.curation.synthesis.diversity import diversity_report
    from plumbline.curation.synthesis.progress import checked_ending

    ending = checked_ending(ending, state, on_shortfall=config.on_shortfall)
    diversity = diversity_report(state.records, parents)
    report = {
        "ending": {"code": ending.code, "why": ending.why},
        "rounds": state.round,
        "records": len(state.records),
        "funnel": state.funnel.to_json(),
        "diversity": diversity,
        "read": dict(read),
    }
    _write(context.output_dir, state.records, report)
    return StageResult(
        metrics={
            "records": len(state.records),
            "rounds": state.round,
            "distinct_2": diversity["distinct_2"],
            "nearest_rouge_l_mean": diversity["nearest_rouge_l_mean"],
        }
    )


def _write(directory: Path, records: Sequence[Conversation], report: Mapping[str, Any]) -> None:
    """Records in Parquet, the same as Alpaca rows in JSON lines, and the report."""
    from plumbline.curation.synthesis.records import alpaca_row
    from plumbline.data.tables import write_records

    write_records(directory / _RECORDS, records, Conversation)
    with (directory / _ROWS).open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(alpaca_row(record), ensure_ascii=False) + "\n")
    text = json.dumps(report, ensure_ascii=False, indent=2, sort_keys=True)
    (directory / _REPORT).write_text(text + "\n", encoding="utf-8")
