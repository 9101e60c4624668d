"""Rejection-sampling fine-tuning: the best of K responses to each prompt becomes the target.

Source: Llama 2, arXiv:2307.09288, section 3.2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from plumbline.core.errors import FailedPreconditionError
from plumbline.data.records import Conversation, Prompt, Rollout
from plumbline.data.tables import read_records, write_records
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.trainer.batches import step_batches
from plumbline.trainer.config import RejectionSamplingConfig
from plumbline.trainer.engine import RunContext, TrainingRun
from plumbline.trainer.recipes.sft import encode_conversations, train_sft
from plumbline.trainer.rollout import (
    FINISHED,
    Sampler,
    Scorer,
    collect_rollouts,
    rollout_scores,
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The best responses of a round."""

    examples: list[EncodedConversation]
    mean_score: float
    best_score: float
    """Mean over prompts of the best score."""
    prompts: int
    """Prompts that teach something."""


def select_best(rollouts: Sequence[Rollout], config: RejectionSamplingConfig) -> Selection:
    """The best-scored response to each prompt; equal scores keep the first.

    Args:
        rollouts: prompt-major, K to each prompt.
    Raises:
        FailedPreconditionError: no prompt has a response that may be kept.
    """
    scores = rollout_scores(rollouts, config.reward).tolist()
    k = config.responses_per_prompt
    examples: list[EncodedConversation] = []
    best_scores = []
    for start in range(0, len(rollouts), k):
        group = range(start, min(start + k, len(rollouts)))
        allowed = [
            index
            for index in group
            if config.keep_unfinished or rollouts[index].finish_reason == FINISHED
        ]
        if not allowed:
            continue
        best = max(allowed, key=lambda index: (scores[index], -index))
        if config.minimum_score is not None and scores[best] < config.minimum_score:
            continue
        best_scores.append(scores[best])
        examples.append(_example(rollouts[best], config.max_length))
    if not examples:
        raise FailedPreconditionError(
            f"none of {len(rollouts)} responses may be kept (keep_unfinished="
            f"{config.keep_unfinished}, minimum_score={config.minimum_score})",
            reason="NOTHING_KEPT",
        )
    mean = sum(scores) / len(scores)
    return Selection(examples, mean, sum(best_scores) / len(best_scores), len(examples))


def train_rejection_sampling(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    sampler: Sampler,
    scorer: Scorer,
    config: RejectionSamplingConfig,
    context: RunContext,
    *,
    chat: ChatFormat,
    replay: Sequence[Conversation] = (),
) -> tuple[TrainingRun, list[Selection], list[Rollout]]:
    """Sample, keep the best, fine-tune; once for each round.

    Args:
        replay: demonstrations that are mixed into every round, against forgetting.
    Returns:
        the run with its curves, each round's selection, and the rollouts to keep.
    """
    replayed = (
        encode_conversations(replay, chat, max_length=config.max_length).examples if replay else []
    )
    steps_per_round = _steps_per_round(len(prompts) + len(replayed), config)
    total = steps_per_round * config.rounds
    run = TrainingRun({"policy": model}, config, total_steps=total, context=context)
    start = run.resume()
    selections: list[Selection] = []
    kept: list[Rollout] = []
    for round_index in range(config.rounds):
        name = f"rollouts-{round_index}.parquet"
        if name in run.files:
            rollouts = read_records(run.files[name], Rollout)
        else:
            sampler.use_policy(model, round_index)
            rollouts = _sample_round(sampler, scorer, prompts, config, chat, round_index)
            run.files[name] = _write_rollouts(context.work_dir / name, rollouts)
        selection = select_best(rollouts, config)
        selections.append(selection)
        kept = rollouts if config.keep_rollouts == "last" else kept + rollouts
        examples = [*selection.examples, *replayed]
        plan = step_batches(
            [len(example.token_ids) for example in examples],
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed + round_index,
        )
        run.total_steps = config.rounds * len(plan)
        first_step = round_index * steps_per_round
        train_sft(
            model,
            examples,
            run,
            plan,
            pad_id=chat.pad_id,
            first_step=first_step,
            start=start,
            total=first_step + len(plan) if round_index == config.rounds - 1 else total,
        )
    return run, selections, kept


def _steps_per_round(examples: int, config: RejectionSamplingConfig) -> int:
    """Step numbers set aside for a round: what it needs when every prompt teaches something."""
    return config.epochs * -(-examples // config.batch_size)


def _sample_round(
    sampler: Sampler,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    config: RejectionSamplingConfig,
    chat: ChatFormat,
    round_index: int,
) -> list[Rollout]:
    return collect_rollouts(
        sampler,
        scorer,
        prompts,
        chat=chat,
        k=config.responses_per_prompt,
        temperatures=config.temperatures or (config.temperature,),
        top_p=config.top_p,
        max_response_tokens=config.max_response_tokens,
        rows_per_batch=config.rows_per_batch,
        seed=config.seed,
        iteration=round_index,
    )


def _example(rollout: Rollout, max_length: int) -> EncodedConversation:
    """The sampled ids themselves, so that nothing depends on encoding the text again."""
    ids = [*rollout.prompt_token_ids, *rollout.response_token_ids]
    prompt_tokens = len(rollout.prompt_token_ids)
    mask = [position >= prompt_tokens for position in range(len(ids))]
    return EncodedConversation(ids[-max_length:], mask[-max_length:])


def _write_rollouts(path: Path, rollouts: Sequence[Rollout]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, rollouts)
    return path
