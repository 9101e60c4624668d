"""Rejection-sampling fine-tuning: the best of K responses to each prompt becomes the target.

Source: Llama 2, arXiv:2307.09288, section 3.2.3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from plumbline.core.errors import FailedPreconditionError
from plumbline.data.records import Conversation, Prompt, Rollout
from plumbline.data.tables import read_records, write_records
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.trainer.batches import draw_some, step_batches
from plumbline.trainer.config import RejectionSamplingConfig
from plumbline.trainer.engine import RunContext, TrainingRun
from plumbline.trainer.recipes.sft import encode_conversations, train_sft
from plumbline.trainer.rollout import (
    FINISHED,
    Sampler,
    Scorer,
    collect_rollouts,
    rollout_scores,
    score_rollouts,
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
    from_pool: int
    """Of these, the ones whose best response an earlier policy drew."""
    temperature: float | None = None
    """That the round's responses were drawn at, where it was tuned."""


def select_best(
    rollouts: Sequence[Rollout],
    config: RejectionSamplingConfig,
    pool: Sequence[Rollout] = (),
) -> Selection:
    """The best-scored response to each prompt; equal scores keep the first.

    Args:
        rollouts: newly drawn ones.
        pool: those of earlier policies, which compete with them.
    Raises:
        FailedPreconditionError: no prompt has a response that may be kept.
    """
    everything = [*rollouts, *pool]
    scores = rollout_scores(everything, config.reward).tolist()
    by_prompt: dict[str, list[int]] = {}
    for index, rollout in enumerate(everything):
        if config.keep_unfinished or rollout.finish_reason == FINISHED:
            by_prompt.setdefault(rollout.prompt_id, []).append(index)
    examples: list[EncodedConversation] = []
    best_scores: list[float] = []
    from_pool = 0
    for allowed in by_prompt.values():
        best = max(allowed, key=lambda index: (scores[index], -index))
        if config.minimum_score is not None and scores[best] < config.minimum_score:
            continue
        best_scores.append(scores[best])
        examples.append(_example(everything[best], config.max_length))
        from_pool += best >= len(rollouts)
    if not examples:
        raise FailedPreconditionError(
            f"none of {len(everything)} responses may be kept (keep_unfinished="
            f"{config.keep_unfinished}, minimum_score={config.minimum_score})",
            reason="NOTHING_KEPT",
        )
    # Of the new ones, where there are any: it says how good the policy is.
    drawn = scores[: len(rollouts)] or scores
    return Selection(
        examples,
        mean_score=sum(drawn) / len(drawn),
        best_score=sum(best_scores) / len(best_scores),
        prompts=len(examples),
        from_pool=from_pool,
    )


def prepare_pool(
    pool: Sequence[Rollout], prompts: Sequence[Prompt], scorer: Scorer, chat: ChatFormat
) -> list[Rollout]:
    """Rollouts of earlier policies as this one's: its tokens, and scores by today's reward.

    Responses to other prompts are left out; equal responses to a prompt are taken once.
    """
    known = {prompt.id: prompt for prompt in prompts}
    distinct = {(r.prompt_id, r.response): r for r in pool if r.prompt_id in known}
    encoded = [
        dataclasses.replace(
            rollout,
            prompt_token_ids=tuple(chat.encode_prompt(known[rollout.prompt_id].messages)),
            response_token_ids=tuple(
                chat.encode_response(
                    rollout.response, rollout.finish_reason == FINISHED, literal=True
                )
            ),
        )
        for rollout in distinct.values()
    ]
    if not encoded:
        return []
    return score_rollouts(scorer, encoded, [known[rollout.prompt_id] for rollout in encoded])


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
    pool: Sequence[Rollout] = (),
) -> tuple[TrainingRun, list[Selection], list[Rollout]]:
    """Sample, keep the best, fine-tune; once for each round.

    Args:
        replay: demonstrations that are mixed into every round, against forgetting.
        pool: rollouts of all earlier policies, of `prepare_pool`; the best of a prompt is chosen
            over these as well, since each policy alone forgets some of what the ones before knew.
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
    tuned: dict[str, float | None] = run.state.setdefault("temperatures", {})
    selections: list[Selection] = []
    kept: list[Rollout] = []
    for round_index in range(config.rounds):
        name = f"rollouts-{round_index}.parquet"
        if name in run.files:
            rollouts = read_records(run.files[name], Rollout)
        else:
            sampler.use_policy(model, round_index)
            temperature = _tuned_temperature(sampler, scorer, prompts, config, chat, round_index)
            tuned[str(round_index)] = temperature
            temperatures = config.temperatures or (temperature or config.temperature,)
            rollouts = _sample(sampler, scorer, prompts, config, chat, temperatures, round_index)
            run.files[name] = _write_rollouts(context.work_dir / name, rollouts)
        selection = dataclasses.replace(
            select_best(rollouts, config, pool), temperature=tuned[str(round_index)]
        )
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


def _tuned_temperature(
    sampler: Sampler,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    config: RejectionSamplingConfig,
    chat: ChatFormat,
    round_index: int,
) -> float | None:
    """The candidate whose best responses score highest on average; None without candidates."""
    some = draw_some(prompts, config.tuning_prompts, seed=config.seed)
    gains: dict[float, float] = {}
    for number, temperature in enumerate(config.candidate_temperatures):
        # Draws of their own, apart from those of every round.
        iteration = config.rounds + round_index * len(config.candidate_temperatures) + number
        rollouts = _sample(sampler, scorer, some, config, chat, (temperature,), iteration)
        scores = rollout_scores(rollouts, config.reward).view(-1, config.responses_per_prompt)
        gains[temperature] = float(scores.amax(dim=1).mean())
    return max(gains, key=gains.__getitem__) if gains else None


def _sample(
    sampler: Sampler,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    config: RejectionSamplingConfig,
    chat: ChatFormat,
    temperatures: Sequence[float],
    iteration: int,
) -> list[Rollout]:
    if not config.responses_per_prompt:
        return []
    return collect_rollouts(
        sampler,
        scorer,
        prompts,
        chat=chat,
        k=config.responses_per_prompt,
        temperatures=temperatures,
        top_p=config.top_p,
        max_response_tokens=config.max_response_tokens,
        rows_per_batch=config.rows_per_batch,
        seed=config.seed,
        iteration=iteration,
    )


def _example(rollout: Rollout, max_length: int) -> EncodedConversation:
    """The sampled ids themselves, so that nothing depends on encoding the text again."""
    ids = [*rollout.prompt_token_ids, *rollout.response_token_ids]
    prompt_tokens = len(rollout.prompt_token_ids)
    mask = [position >= prompt_tokens for position in range(len(ids))]
    return EncodedConversation(ids[-max_length:], mask[-max_length:])


def _write_rollouts(path: Path, rollouts: Sequence[Rollout]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, rollouts, Rollout)
    return path
