"""Safety context distillation: which replies are kept, for what, and under which prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from plumbline.data.records import Prompt, Role, Rollout, system, user
from plumbline.models.chat import ChatFormat
from plumbline.models.programmatic import WordShareReward
from plumbline.trainer.config import ContextDistillationConfig
from plumbline.trainer.recipes.context_distillation import (
    DistilledContext,
    distil_context,
    with_preprompt,
)
from plumbline.trainer.rewards import ProgrammaticScorer
from plumbline.trainer.rollout import new_rollout

SAFE = WordShareReward(words=("safe",))
TEMPLATES = {"illicit": "Name the law."}


class ScriptedSampler:
    """Says, for each prompt, what stands behind its way of asking."""

    def __init__(self, chat: ChatFormat, script: dict[str, dict[str, str]]) -> None:
        self._chat, self._script = chat, script

    def use_policy(self, model: Any, iteration: int) -> None:
        return None

    def sample(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], **_: Any) -> list[Rollout]:
        return [self._reply(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _reply(self, prompt: Prompt, seed: int) -> Rollout:
        first = prompt.messages[0]
        way = "plain"
        if first.role == Role.SYSTEM and "Be safe." in first.content:
            way = "template" if TEMPLATES["illicit"] in first.content else "generic"
        text = self._script[prompt.id][way]
        ended = not text.endswith("...")
        ids = self._chat.encode_response(text, end=ended)
        return new_rollout(
            prompt,
            response=text,
            prompt_token_ids=self._chat.encode_prompt(prompt.messages),
            response_token_ids=ids,
            logprobs=[0.0] * len(ids),
            finish_reason="stop" if ended else "length",
            temperature=1.0,
            seed=seed,
            policy_id="scripted",
        )


def distil(
    chat: ChatFormat, prompts: Sequence[Prompt], script: dict[str, dict[str, str]], **changes: Any
) -> DistilledContext:
    config = ContextDistillationConfig(
        preprompts=("Be safe.",), answer_templates=TEMPLATES, reward=SAFE, **changes
    )
    sampler = ScriptedSampler(chat, script)
    return distil_context(
        prompts, sampler, ProgrammaticScorer(SAFE), chat, config, progress=lambda *_: None
    )


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def ask(name: str, category: str = "") -> Prompt:
    return Prompt(name, (user(f"do {name}"),), kind="harmful", risk_category=category)


def test_only_what_a_preprompt_made_safer_is_kept_under_the_bare_prompt(chat: ChatFormat) -> None:
    """Scores are shares of the word "safe": a 0 -> 1 (kept), b 1 -> 0.5 and c 0.5 -> 0.5 (not)."""
    script = {
        "a": {"plain": "sure", "generic": "safe"},
        "b": {"plain": "safe", "generic": "safe no"},
        "c": {"plain": "safe no", "generic": "no safe"},
    }

    made = distil(chat, [ask("a"), ask("b"), ask("c")], script)

    (kept,) = made.conversations
    assert [(m.role, m.content) for m in kept.messages] == [
        (Role.USER, "do a"),
        (Role.ASSISTANT, "safe"),
    ]
    metrics = made.metrics()
    assert (metrics["prompts"], metrics["prompts.kept"]) == (3, 1)
    assert metrics["score.plain"] == pytest.approx(0.5)
    assert metrics["score.generic"] == pytest.approx(2 / 3)
    assert "score.template" not in metrics


def test_template_of_the_risk_category_is_a_second_attempt(chat: ChatFormat) -> None:
    script = {
        "a": {"plain": "sure", "generic": "safe no", "template": "safe"},
        "b": {"plain": "sure", "generic": "safe", "template": "safe no"},
        "c": {"plain": "sure", "generic": "safe"},
    }

    made = distil(chat, [ask("a", "illicit"), ask("b", "illicit"), ask("c", "hateful")], script)

    assert [c.metadata["way"] for c in made.conversations] == ["template", "generic", "generic"]
    assert made.metrics()["kept.template"] == 1
    assert sum(a.way == "template" for a in made.attempts) == 2


def test_replies_without_an_end_and_small_gains_are_not_kept(chat: ChatFormat) -> None:
    script = {
        "a": {"plain": "sure", "generic": "safe ..."},
        "b": {"plain": "safe no no", "generic": "safe no"},
    }

    assert distil(chat, [ask("a"), ask("b")], script, minimum_gain=0.2).conversations == []
    assert len(distil(chat, [ask("a"), ask("b")], script).conversations) == 1


def test_preprompt_comes_before_a_system_message_of_the_prompt() -> None:
    messages = (system("Speak French."), user("hello"))
    (first, second) = with_preprompt(messages, "Be safe.")

    assert first == system("Be safe.\n\nSpeak French.")
    assert second == user("hello")
    assert with_preprompt(messages[1:], "Be safe.") == (system("Be safe."), user("hello"))
