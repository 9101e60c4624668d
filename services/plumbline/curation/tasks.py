"""Stages of curation: a synthetic world, curated corpora, their analysis, graded pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.curation.config import AnalyzeConfig, AnnotateConfig, CurationConfig
from plumbline.curation.corpus.part_configs import (
    CurateShardConfig,
    FindCopiesConfig,
    ImportDocumentsConfig,
)
from plumbline.curation.decontamination.config import DecontaminateConfig
from plumbline.curation.filters.config import TrainFilterConfig
from plumbline.curation.mixing.config import MixConfig, SubsetConfig
from plumbline.curation.placeholders.config import FillPlaceholdersConfig
from plumbline.curation.synthesis.config import (
    BacktranslateConfig,
    EvolveConfig,
    SelfInstructConfig,
    ToInstructionsConfig,
)
from plumbline.world.config import WorldConfig
from plumbline.world.stage import SYNTHESIZE_RULES

_CORPUS = InputSpec(kinds=("corpus",), description="documents, or one data file of documents")
_FILTERS = InputSpec(
    kinds=("filter",), required=False, many=True, description="outputs of curation.train_filter"
)
_POLICY = InputSpec(kinds=("policy",), description="writes the texts")
_TASKS = InputSpec(
    kinds=("conversations", "corpus"), description="tasks with answers, in any format that is read"
)
_DATASETS = InputSpec(
    kinds=("corpus", "conversations"),
    many=True,
    description="documents and conversations, in any format that is read",
)
PROMPT_SPLITS = ("train", "rl", "heldout", "heldout_hard")

STAGES = (
    Stage(
        name="curation.synthesize",
        version=2,
        config=WorldConfig,
        inputs={},
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.tasks:run_synthesize",
        description="Generate the small world: raw corpus, demonstrations, prompts and rules",
    ),
    SYNTHESIZE_RULES,
    Stage(
        name="curation.curate",
        version=2,
        config=CurationConfig,
        inputs={"corpus": _CORPUS, "filters": _FILTERS},
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.corpus.stage:run_curate",
        description="Filter, de-duplicate and anonymize a corpus",
    ),
    Stage(
        name="curation.import_documents",
        version=1,
        config=ImportDocumentsConfig,
        inputs={"corpus": _CORPUS},
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.corpus.stage:run_import_documents",
        description="Read a data file into documents; a part of curation.curate",
    ),
    Stage(
        name="curation.curate_shard",
        version=1,
        config=CurateShardConfig,
        inputs={"corpus": _CORPUS, "filters": _FILTERS},
        output_kind="shard",
        queue="curation",
        run="plumbline.curation.corpus.stage:run_curate_shard",
        description="Filter, anonymize and sketch some rows; a part of curation.curate",
    ),
    Stage(
        name="curation.find_copies",
        version=1,
        config=FindCopiesConfig,
        inputs={"shards": InputSpec(kinds=("shard",), many=True, description="all of a corpus")},
        output_kind="shard",
        queue="curation",
        run="plumbline.curation.corpus.stage:run_find_copies",
        description="Find near copies across shards; a part of curation.curate",
    ),
    Stage(
        name="curation.analyze",
        version=2,
        config=AnalyzeConfig,
        inputs={
            "corpus": _CORPUS,
            "descriptors": InputSpec(
                kinds=("descriptors",),
                required=False,
                many=True,
                description="identity terms, as JSON in the format of HolisticBias descriptors",
            ),
            "filters": InputSpec(
                kinds=("filter",), required=False, many=True, description="score toxicity"
            ),
        },
        output_kind="report",
        queue="curation",
        run="plumbline.curation.analysis.stage:run_analyze",
        description="Report languages, pronouns, identity terms, toxicity and erasure of a corpus",
    ),
    Stage(
        name="curation.self_instruct",
        version=1,
        config=SelfInstructConfig,
        inputs={"seeds": _TASKS, "policy": _POLICY},
        output_kind="conversations",
        queue="curation",
        run="plumbline.curation.synthesis.stage:run_self_instruct",
        description="Generate instructions and their answers from seed tasks",
    ),
    Stage(
        name="curation.evolve",
        version=1,
        config=EvolveConfig,
        inputs={"conversations": _TASKS, "policy": _POLICY},
        output_kind="conversations",
        queue="curation",
        run="plumbline.curation.synthesis.stage:run_evolve",
        description="Make instructions harder or rarer, generation by generation",
    ),
    Stage(
        name="curation.backtranslate",
        version=1,
        config=BacktranslateConfig,
        inputs={"documents": _CORPUS, "policy": _POLICY},
        output_kind="conversations",
        queue="curation",
        run="plumbline.curation.synthesis.stage:run_backtranslate",
        description="Write the instructions that documents answer",
    ),
    Stage(
        name="curation.to_instructions",
        version=1,
        config=ToInstructionsConfig,
        inputs={
            "conversations": InputSpec(
                kinds=("conversations", "corpus"), required=False, description="dialogues"
            ),
            "documents": InputSpec(
                kinds=("corpus",), required=False, description="texts that hold questions or titles"
            ),
        },
        output_kind="conversations",
        queue="curation",
        run="plumbline.curation.synthesis.stage:run_to_instructions",
        description="Turn conversations and documents into instruction records",
    ),
    Stage(
        name="curation.fill_placeholders",
        version=1,
        config=FillPlaceholdersConfig,
        inputs={
            "conversations": InputSpec(
                kinds=("conversations", "corpus"),
                description="records with {{name}} in them, in any format that is read",
            )
        },
        output_kind="conversations",
        queue="curation",
        run="plumbline.curation.placeholders.stage:run_fill_placeholders",
        description="Put values in place of the placeholders of conversations",
    ),
    Stage(
        name="curation.train_filter",
        version=1,
        config=TrainFilterConfig,
        inputs={
            "labelled": InputSpec(
                kinds=("corpus",), many=True, description="data files of labelled texts"
            ),
            "neutral_terms": InputSpec(
                kinds=("descriptors",),
                required=False,
                many=True,
                description="names of groups, harmless by themselves: HolisticBias JSON, or lines",
            ),
        },
        output_kind="filter",
        queue="curation",
        run="plumbline.curation.filters.stage:run_train_filter",
        description="Train a filter, for example of toxicity, from labelled texts",
    ),
    Stage(
        name="curation.decontaminate",
        version=1,
        config=DecontaminateConfig,
        inputs={
            "corpus": InputSpec(
                kinds=("corpus", "conversations"),
                description="training data: documents or conversations",
            ),
            "evaluation": InputSpec(
                kinds=("prompts", "corpus", "conversations", "preferences"),
                many=True,
                description="evaluation sets, or data files of any format that is read",
            ),
        },
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.decontamination.stage:run_decontaminate",
        description="Remove what training data share with evaluation sets, and report it",
    ),
    Stage(
        name="curation.mix",
        version=1,
        config=MixConfig,
        inputs={"datasets": _DATASETS},
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.mixing.stage:run_mix",
        description="Mix sources by weights, temperature, epochs and caps, in exact counts",
    ),
    Stage(
        name="curation.subset",
        version=1,
        config=SubsetConfig,
        inputs={"datasets": _DATASETS},
        output_kind="corpus",
        queue="curation",
        run="plumbline.curation.mixing.stage:run_subset",
        description="Draw a sample that keeps the proportions of sources and languages",
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


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
