"""An AI judge: preferences between sampled responses, from a policy's own probabilities.

A question is put in words, and the judge's probabilities of the possible answers are read off one
forward pass. Two responses are asked about in both orders, as judges favour a place: the mean of
both is the probability that the first is better, and the share of pairs on which the orders agree
says how far the judge can be trusted.

Legend: N questions, C possible answers.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.data.judging import PairVerdict, fill_question, pair_question, transcript
from plumbline.data.records import Grade, Preference, Rollout, content_id, user
from plumbline.models.batching import packed_batches
from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.config.judge import JudgeConfig
from plumbline.trainer.forward import response_logprobs

SOURCE = "judge"
_FEW = 0.1
"""Share of pairs with a preference under which the judge is worth a warning."""
Progress = Callable[[int, int, str], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of two responses to one prompt."""

    rollout: Rollout
    """Of the first; the prompt is the same."""
    first: str
    second: str
    probability: float
    """That the first is better."""
    orders_agree: bool | None = None
    """Whether both orders prefer the same response; None where only one was asked."""
    place_bias: float | None = None
    """How much more probable a response is for standing first: 0.5 means it always wins there."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Preferences, and how the judge came by them."""

    preferences: list[Preference]
    verdicts: list[Verdict] = field(repr=False)

    def metrics(self) -> dict[str, float]:
        """Counts, agreement of the two orders, and the bias towards a place."""
        counts = {
            "pairs": float(len(self.verdicts)),
            "preferences": float(len(self.preferences)),
            "ties": float(len(self.verdicts) - len(self.preferences)),
        }
        agree = [float(v.orders_agree) for v in self.verdicts if v.orders_agree is not None]
        bias = [v.place_bias for v in self.verdicts if v.place_bias is not None]
        if not agree:
            return counts
        means = {"orders_agree": sum(agree) / len(agree), "place_bias": sum(bias) / len(bias)}
        return {**counts, **means}


class LanguageModelJudge:
    """Probabilities of answers to questions, under a policy.

    Raises:
        InvalidInputError: two answers begin with the same token.
    """

    def __init__(self, model: PreTrainedModel, chat: ChatFormat, config: JudgeConfig) -> None:
        self._model, self._chat, self._config = model, chat, config
        # Their first tokens alone: an answer of several tokens must not lose by its length.
        encoded = [chat.encode_response(answer, end=False) for answer in config.choices]
        self._answers = [ids[:1] for ids in encoded]
        if len(set(map(tuple, self._answers))) < len(self._answers):
            raise InvalidInputError(
                f"the answers {', '.join(config.choices)} do not differ in their first token",
                field="answers",
            )

    def can_read(self, text: str) -> bool:
        """Whether a text may stand in a question: one that spells a control token may not."""
        return self._chat.is_plain(text)

    @torch.no_grad()
    def probabilities(self, questions: Sequence[str], progress: Progress) -> Tensor:
        """[N, C] of each answer, adding up to 1 over the answers."""
        groups = [
            PromptGroup(self._chat.encode_prompt([user(question)]), self._answers)
            for question in questions
        ]
        limit = int(self._model.config.get_text_config().max_position_embeddings)
        longest = max((len(group.prompt) for group in groups), default=0)
        if longest >= limit:
            raise InvalidInputError(
                f"a question to the judge has {longest} tokens; its context holds {limit - 1}"
            )
        found = torch.zeros(len(groups), len(self._answers))
        done = 0
        lengths = [group.tokens for group in groups]
        for batch in packed_batches(lengths, tokens_per_batch=self._config.tokens_per_batch):
            logprobs = response_logprobs(
                self._model, [groups[i] for i in batch], pad_id=self._chat.pad_id
            )
            found[batch] = logprobs.view(len(batch), -1).float().softmax(dim=1).cpu()
            done += len(batch)
            progress(done, len(groups), "questions")
        return found


def judge_rollouts(
    rollouts: Sequence[Rollout],
    judge: LanguageModelJudge,
    config: JudgeConfig,
    *,
    progress: Progress,
) -> Judgement:
    """Preferences between the different responses to each prompt.

    Raises:
        InvalidInputError: no prompt has two different responses.
    """
    by_prompt: dict[str, dict[str, Rollout]] = {}
    for rollout in rollouts:
        if rollout.response.strip() and judge.can_read(rollout.response):
            by_prompt.setdefault(rollout.prompt_id, {}).setdefault(rollout.response, rollout)
    several = {name: list(found.values()) for name, found in by_prompt.items() if len(found) > 1}
    if not several:
        raise InvalidInputError(
            f"none of {len(by_prompt)} prompts has two different responses to be judged"
        )
    compare = _by_pairs if config.method == "pairwise" else _by_points
    verdicts = compare(several, judge, config, progress)
    preferences = [p for v in verdicts if (p := _preference(v, config)) is not None]
    if len(preferences) < _FEW * len(verdicts):
        logger.warning(
            "the judge prefers a response in %d of %d pairs only", len(preferences), len(verdicts)
        )
    return Judgement(preferences, verdicts)


def _by_pairs(
    responses: Mapping[str, Sequence[Rollout]],
    judge: LanguageModelJudge,
    config: JudgeConfig,
    progress: Progress,
) -> list[Verdict]:
    rng = random.Random(config.seed)
    pairs: list[tuple[Rollout, Rollout]] = []
    for found in responses.values():
        possible = list(itertools.combinations(found, 2))
        pairs += rng.sample(possible, min(len(possible), config.max_pairs_per_prompt))
    questions: list[str] = []
    for one, other in pairs:
        for principle in _drawn_principles(rng, config):
            for first, second in ((one, other), (other, one)):
                questions.append(
                    pair_question(
                        config.wording,
                        principle=principle,
                        prompt=one.prompt,
                        first=first.response,
                        second=second.response,
                    )
                )
    # [pairs, principles, orders]: of the response that stands first.
    standing = judge.probabilities(questions, progress)[:, 0].view(len(pairs), -1, 2).mean(dim=1)
    verdicts = [
        PairVerdict(one_first, 1 - other_first) for one_first, other_first in standing.tolist()
    ]
    return [
        Verdict(
            one,
            one.response,
            other.response,
            probability=verdict.probability,
            orders_agree=verdict.orders_agree,
            place_bias=verdict.place_bias,
        )
        for (one, other), verdict in zip(pairs, verdicts, strict=True)
    ]


def _by_points(
    responses: Mapping[str, Sequence[Rollout]],
    judge: LanguageModelJudge,
    config: JudgeConfig,
    progress: Progress,
) -> list[Verdict]:
    """The best response of each prompt beside its worst; equal points keep the first."""
    rng = random.Random(config.seed)
    everything = [rollout for found in responses.values() for rollout in found]
    questions = [
        fill_question(
            config.wording,
            principle=principle,
            conversation=transcript(rollout.prompt),
            reply=rollout.response,
        )
        for rollout in everything
        for principle in _drawn_principles(rng, config)
    ]
    found = judge.probabilities(questions, progress)
    highest = len(config.choices) - 1
    expected = (found * torch.arange(highest + 1)).sum(dim=1).view(len(everything), -1).mean(dim=1)
    points = dict(zip(map(id, everything), expected.tolist(), strict=True))
    verdicts = []
    for some in responses.values():
        best = max(some, key=lambda rollout: points[id(rollout)])
        worst = min(reversed(some), key=lambda rollout: points[id(rollout)])
        lead = (points[id(best)] - points[id(worst)]) / highest
        verdicts.append(Verdict(best, best.response, worst.response, 0.5 + lead / 2))
    return verdicts


def _preference(verdict: Verdict, config: JudgeConfig) -> Preference | None:
    """The preference that a verdict makes; None for a tie."""
    lead = abs(verdict.probability - 0.5)
    if config.require_agreement and verdict.orders_agree is False:
        return None
    if lead == 0 or lead < config.tie_margin or verdict.first == verdict.second:
        return None
    texts = (verdict.first, verdict.second)
    chosen, rejected = texts if verdict.probability > 0.5 else texts[::-1]
    rollout = verdict.rollout
    return Preference(
        id=content_id("judged", config.head, rollout.prompt_id, chosen, rejected),
        prompt=rollout.prompt,
        chosen=chosen,
        rejected=rejected,
        grade=grade_of(0.5 + lead, config.grade_bounds),
        head="" if config.head == "preference" else config.head,
        agreement=0.5 + lead,
        source=SOURCE,
        metadata={**rollout.metadata, "prompt_id": rollout.prompt_id},
    )


def grade_of(probability: float, bounds: tuple[float, float, float]) -> Grade:
    """How much better a response is that is better with this probability, at least one half."""
    slightly, better, significantly = bounds
    if probability >= significantly:
        return Grade.SIGNIFICANTLY_BETTER
    if probability >= better:
        return Grade.BETTER
    return Grade.SLIGHTLY_BETTER if probability >= slightly else Grade.NEGLIGIBLY_BETTER


def _drawn_principles(rng: random.Random, config: JudgeConfig) -> list[str]:
    count = min(config.principles_per_question, len(config.principles))
    return rng.sample(config.principles, count)
