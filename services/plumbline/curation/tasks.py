"""Stages of curation: a synthetic world, curated corpora, their analysis, graded pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.curation.config import AnalyzeConfig, AnnotateConfig, CurationConfig
from plumbline.world.config import WorldConfig

_CORPUS = InputSpec(kinds=("corpus",), description="documents, or one data file of documents")
PROMPT_SPLITS = ("train", "rl", "heldout", "heldout_hard")

STAGES = (
    Stage(
        name="curation.synthesize",
        version=1,
        config=WorldConfig,
        inputs={},
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.tasks:run_synthesize",
        description="Generate the small world: raw corpus, demonstrations, prompts and rules",
    ),
    Stage(
        name="curation.curate",
        version=1,
        config=CurationConfig,
        inputs={"corpus": _CORPUS},
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.tasks:run_curate",
        description="Filter, de-duplicate and anonymize a corpus",
    ),
    Stage(
        name="curation.analyze",
        version=1,
        config=AnalyzeConfig,
        inputs={"corpus": _CORPUS},
        output_kind="report",
        queue="curation",
        run="plumbline.curation.tasks:run_analyze",
        description="Count languages, lengths, duplicates and personal data of a corpus",
    ),
    Stage(
        name="curation.annotate",
        version=1,
        config=AnnotateConfig,
        inputs={
            "world": InputSpec(kinds=("corpus",), description="output of curation.synthesize"),
            "rollouts": InputSpec(
                kinds=("rollouts",), many=True, description="several responses to each prompt"
            ),
        },
        output_kind="preferences",
        queue="curation",
        run="plumbline.curation.tasks:run_annotate",
        description="Grade pairs of sampled responses by a simulated annotator panel",
    ),
)


def run_synthesize(config: WorldConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.data.records import Conversation, Document, Prompt
    from plumbline.data.tables import write_records
    from plumbline.world.generator import build_world

    world = build_world(config)
    output = context.output_dir
    write_records(output / "documents.parquet", world.documents, Document)
    write_records(output / "demonstrations.parquet", world.demonstrations, Conversation)
    for split in PROMPT_SPLITS:
        write_records(output / f"prompts_{split}.parquet", world.split(split), Prompt)
    write_records(output / "rule_prompts.parquet", world.rule_prompts, Prompt)
    rules = [json.dumps(rule.to_row(), ensure_ascii=False) + "\n" for rule in world.rules]
    (output / "rules.jsonl").write_text("".join(rules), encoding="utf-8")
    _write_json(output / "world.json", config.model_dump(mode="json"))
    return StageResult(
        metrics={
            "documents": len(world.documents),
            "demonstrations": len(world.demonstrations),
            "rules": len(world.rules),
            **{f"prompts.{split}": len(world.split(split)) for split in PROMPT_SPLITS},
        }
    )


def run_curate(config: CurationConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.curation.engine import CurationEngine
    from plumbline.curation.noise import evaluate_noise_removal
    from plumbline.data.readers import read_artifact_dataset
    from plumbline.data.records import Document
    from plumbline.data.tables import write_records

    read = read_artifact_dataset(inputs.one("corpus").path, Document, on_error=config.on_error)
    result = CurationEngine(config).curate(
        read.records, progress=lambda done, total: context.progress(done, total, "curating")
    )
    removed = [item.to_document() for item in result.removed]
    write_records(context.output_dir / "documents.parquet", result.kept, Document)
    write_records(context.output_dir / "removed.parquet", removed, Document)
    noise = evaluate_noise_removal(read.records, result)
    report = {**result.report.to_json(), "read": read.report.to_json()}
    if noise:
        report["noise"] = noise
    _write_json(context.output_dir / "report.json", report)
    return StageResult(metrics=_curation_metrics(report))


def run_analyze(config: AnalyzeConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.curation.analysis import analyze_corpus
    from plumbline.curation.engine import CurationEngine
    from plumbline.data.readers import read_artifact_dataset
    from plumbline.data.records import Document

    read = read_artifact_dataset(
        inputs.one("corpus").path, Document, on_error=config.curation.on_error
    )
    report = analyze_corpus(
        read.records,
        CurationEngine(config.curation),
        progress=lambda done, total: context.progress(done, total, "analysing"),
    )
    _write_json(context.output_dir / "report.json", {**report, "read": read.report.to_json()})
    return StageResult(
        metrics={
            "documents": report["documents"],
            "characters": report["characters"],
            "documents_with_pii": report["documents_with_pii"],
        }
    )


def run_annotate(config: AnnotateConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.curation.annotation import annotate_rollouts
    from plumbline.data.records import Preference, Prompt, Rollout
    from plumbline.data.tables import iter_records, write_records

    world = inputs.one("world").path
    prompts = [
        prompt
        for split in PROMPT_SPLITS
        for prompt in iter_records(world / f"prompts_{split}.parquet", Prompt)
    ]
    rollouts = [
        rollout
        for artifact in inputs.many("rollouts")
        for rollout in iter_records(artifact.path / "rollouts.parquet", Rollout)
    ]
    preferences = annotate_rollouts(prompts, rollouts, config)
    write_records(context.output_dir / "preferences.parquet", preferences, Preference)
    unanimous = sum(preference.agreement == 1.0 for preference in preferences)
    return StageResult(
        metrics={
            "preferences": len(preferences),
            "unanimous_share": unanimous / len(preferences),
            **{
                f"preferences.{head}": sum(preference.head == head for preference in preferences)
                for head in config.heads
            },
        }
    )


def _curation_metrics(report: Mapping[str, Any]) -> dict[str, float]:
    metrics: dict[str, float] = {
        "documents_in": report["documents_in"],
        "documents_out": report["documents_out"],
        "documents_with_pii": report["documents_with_pii"],
    }
    metrics |= {f"removed.{rule['id']}": rule["removed"] for rule in report["rules"]}
    metrics |= {f"pii.{name.lower()}": count for name, count in report["pii"].items()}
    noise = report.get("noise", {})
    metrics |= {f"noise_recall.{kind}": share for kind, share in noise.get("recall", {}).items()}
    return metrics


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
