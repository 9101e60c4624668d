"""Stage: who a policy says it is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.evaluation.identity.config import CheckIdentityConfig

if TYPE_CHECKING:
    from plumbline.core.statistics import Estimate
    from plumbline.data.records import Rollout
    from plumbline.evaluation.identity.questions import Question

STAGE = Stage(
    name="evaluation.check_identity",
    version=1,
    config=CheckIdentityConfig,
    inputs={
        "policy": InputSpec(kinds=("policy",), description="the policy that is asked"),
        "records": InputSpec(
            kinds=("conversations", "corpus"),
            required=False,
            description="the demonstrations that it learned from, to tell seen questions apart",
        ),
    },
    output_kind="report",
    queue="evaluation",
    run="plumbline.evaluation.identity.stage:run_check_identity",
    description="Does a policy say who it is, where it is asked and only there?",
)


def run_check_identity(
    config: CheckIdentityConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    """Writes report.json and rollouts.parquet."""
    from plumbline.data.readers import read_artifact_dataset
    from plumbline.data.records import Conversation, Rollout
    from plumbline.data.tables import write_records
    from plumbline.evaluation.identity.questions import make_questions, summarise
    from plumbline.sampler.client import SamplingRequest, sample_rollouts

    given = inputs.optional("records")
    records = [] if given is None else read_artifact_dataset(given.path, Conversation).records
    questions = make_questions(config, records)
    request = SamplingRequest(
        temperatures=(config.temperature,),
        max_response_tokens=config.max_response_tokens,
        template=config.template,
    )
    rollouts = sample_rollouts(
        context.connect("sampler"),
        inputs.one("policy").id,
        [question.prompt for question in questions],
        request,
        seed=config.seed,
        on_progress=lambda done, total: context.progress(done, total, "questions answered"),
    )
    splits = summarise(config, questions, [rollout.response for rollout in rollouts])
    write_records(context.output_dir / "rollouts.parquet", rollouts, Rollout)
    report = {
        "type": "evaluation",
        "name": config.name,
        "splits": {
            split: {what: estimate.to_dict() for what, estimate in shares.items()}
            for split, shares in splits.items()
        },
        "kl": None,
        "samples": _samples(config, questions, rollouts),
    }
    # Unsorted, because the run's report draws the first split.
    text = json.dumps(report, ensure_ascii=False, indent=1)
    (context.output_dir / "report.json").write_text(text + "\n", encoding="utf-8")
    published = _flat(config.name, splits)
    return StageResult(metrics=published, published=published)


def _flat(name: str, splits: Mapping[str, Mapping[str, Estimate]]) -> dict[str, float]:
    """Metrics by the names that the configuration documents."""
    from plumbline.evaluation.identity.questions import UNSEEN

    return {
        f"{what}.{name}" if split == UNSEEN else f"{what}.{split}.{name}": estimate.value
        for split, shares in splits.items()
        for what, estimate in shares.items()
    }


def _samples(
    config: CheckIdentityConfig, questions: Sequence[Question], rollouts: Sequence[Rollout]
) -> list[dict[str, Any]]:
    """Replies as the run's report shows them; to other questions the identity is no help."""
    from plumbline.evaluation.identity.questions import NAMES_AUTHOR, NAMES_ITSELF, OTHER, says

    phrases = {NAMES_ITSELF: config.identity, NAMES_AUTHOR: config.author}
    by_split: dict[str, list[dict[str, Any]]] = {}
    for question, rollout in zip(questions, rollouts, strict=True):
        sample = {
            "prompt_id": rollout.prompt_id,
            "kind": question.split,
            "prompt": rollout.prompt[-1].content,
            "response": rollout.response,
            "violates": False,
            "helpful": all(
                says(rollout.response, phrases[what]) != (question.split == OTHER)
                for what in question.names
            ),
        }
        by_split.setdefault(question.split, []).append(sample)
    # One of each in turn, so that the first few show every split.
    turns = itertools.zip_longest(*by_split.values())
    return [sample for turn in turns for sample in turn if sample is not None]
