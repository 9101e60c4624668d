"""Safety context distillation.

A prompt is answered as it is, with a generic preprompt and, where its risk category has a template
of how to answer, with that as well. The reward says which reply is the safest one to the bare
prompt; it is kept for training on the bare prompt only where it beats the plain reply.

Source: Llama 2, arXiv:2307.09288, section 4.2.4.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plumbline.data.records import Conversation, Message, Prompt, Role, Rollout, assistant, system
from plumbline.models.chat import ChatFormat
from plumbline.trainer.config.context_distillation import ContextDistillationConfig
from plumbline.trainer.rollout import (
    FINISHED,
    Sampler,
    Scorer,
    draw_rollouts,
    rollout_scores,
    score_rollouts,
)

SOURCE = "context_distillation"
PLAIN, GENERIC, TEMPLATE = "plain", "generic", "template"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A scored reply to one prompt."""

    prompt: int
    way: str
    """plain, generic or template."""
    response: str
    score: float
    finished: bool


@dataclass(frozen=True, slots=True)
class DistilledContext:
    """What came of the prompts."""

    conversations: list[Conversation]
    attempts: list[Attempt]

    def metrics(self) -> dict[str, float]:
        """Counts, and mean scores by way."""
        by_way = {
            way: [a.score for a in self.attempts if a.way == way]
            for way in (PLAIN, GENERIC, TEMPLATE)
        }
        kept = [c.metadata["way"] for c in self.conversations]
        return {
            "prompts": float(len(by_way[PLAIN])),
            "prompts.kept": float(len(kept)),
            **{f"score.{way}": sum(s) / len(s) for way, s in by_way.items() if s},
            **{f"kept.{way}": float(kept.count(way)) for way in (GENERIC, TEMPLATE)},
        }


def with_preprompt(messages: Sequence[Message], preprompt: str) -> tuple[Message, ...]:
    """The messages under a preprompt, which comes before a system message of their own."""
    first, *others = messages
    if first.role == Role.SYSTEM:
        return (system(f"{preprompt}\n\n{first.content}"), *others)
    return (system(preprompt), *messages)


def distil_context(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    scorer: Scorer,
    chat: ChatFormat,
    config: ContextDistillationConfig,
    *,
    progress: Callable[[int, int, str], None],
) -> DistilledContext:
    """Answer all prompts in every way there is, and keep what is safer than the plain reply."""
    rng = random.Random(config.seed)
    generic = [rng.choice(config.preprompts) for _ in prompts]
    templates = [config.answer_templates.get(prompt.risk_category) for prompt in prompts]
    ways: list[tuple[str, dict[int, tuple[Message, ...]]]] = [
        (PLAIN, {i: prompt.messages for i, prompt in enumerate(prompts)}),
        (GENERIC, {i: with_preprompt(p.messages, generic[i]) for i, p in enumerate(prompts)}),
        (
            TEMPLATE,
            {
                i: with_preprompt(prompt.messages, f"{generic[i]}\n\n{template}")
                for i, (prompt, template) in enumerate(zip(prompts, templates, strict=True))
                if template is not None
            },
        ),
    ]
    attempts: list[Attempt] = []
    for number, (way, asked) in enumerate(ways):
        if asked:
            attempts += _attempts(prompts, way, asked, sampler, scorer, chat, config, number)
        progress(number + 1, len(ways), f"{way}: {len(asked)} prompts")
    return DistilledContext(_kept(prompts, attempts, config), attempts)


def _attempts(
    prompts: Sequence[Prompt],
    way: str,
    asked: dict[int, tuple[Message, ...]],
    sampler: Sampler,
    scorer: Scorer,
    chat: ChatFormat,
    config: ContextDistillationConfig,
    number: int,
) -> list[Attempt]:
    bare = [prompts[index] for index in asked]
    drawn: list[Rollout] = draw_rollouts(
        sampler,
        [dataclasses.replace(p, messages=m) for p, m in zip(bare, asked.values(), strict=True)],
        chat=chat,
        k=1,
        temperatures=(config.temperature,),
        top_p=config.top_p,
        max_response_tokens=config.max_response_tokens,
        rows_per_batch=config.rows_per_batch,
        seed=config.seed,
        iteration=number,
    )
    # Judged as replies to the prompt alone, as which they will be learned.
    scored = score_rollouts(scorer, drawn, bare)
    scores = rollout_scores(scored, config.reward).tolist()
    return [
        Attempt(index, way, rollout.response, score, rollout.finish_reason == FINISHED)
        for index, rollout, score in zip(asked, scored, scores, strict=True)
    ]


def _kept(
    prompts: Sequence[Prompt], attempts: Sequence[Attempt], config: ContextDistillationConfig
) -> list[Conversation]:
    """The best preprompted reply to each prompt, where it beats the plain one."""
    plain = {a.prompt: a.score for a in attempts if a.way == PLAIN}
    best: dict[int, Attempt] = {}
    for attempt in attempts:
        if attempt.way == PLAIN or not attempt.finished or not attempt.response.strip():
            continue
        known = best.get(attempt.prompt)
        if known is None or attempt.score > known.score:
            best[attempt.prompt] = attempt
    return [
        Conversation(
            f"{prompts[index].id}-distilled",
            (*prompts[index].messages, assistant(attempt.response)),
            source=SOURCE,
            metadata={"way": attempt.way, "risk_category": prompts[index].risk_category},
        )
        for index, attempt in sorted(best.items())
        if attempt.score - plain[index] > config.minimum_gain
    ]
