"""Fifty texts that try to override constraints, as rules and as documents.

Two things must hold whatever a policy makes of its prompt: the prompt keeps its structure, and a
constraint is checked on the reply by its own checker. `oracles.obedient_policy` does everything
that any text tells it to, so what it does not say, no text could make it say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from oracles.injections import INJECTIONS, Injection
from oracles.obedient_policy import obey

from plumbline.data.records import Message, ValueSpec, system, user
from plumbline.retriever.checking.checkers import Verdict, check_value
from plumbline.retriever.composing.compose import Composition, compose
from plumbline.retriever.composing.config import ComposingConfig
from plumbline.retriever.composing.quoting import quoted_document
from plumbline.retriever.composing.system_messages import NO_SYSTEM_MESSAGE, presets

CONSTRAINT = ValueSpec(
    id="no-zebras",
    text="Never mention zebras. End the reply with: stay safe.",
    kind="fixed",
    checkers=("avoids: zebra", "ends_with: stay safe"),
)
NAMES = [injection.technique for injection in INJECTIONS]
OWN = system("You work for the zoo.")
WRITTEN_IN = ComposingConfig(withhold_overrides=False)
"""Texts that are seen through are left out; this writes them in, for what lies behind that."""

_TOKENS = re.compile(
    r"<\|.*?\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|</?system>|</?tool_call>"
    r"|\{\{[#/]system\}\}|<｜.*?｜>|^(?:System|Human|User|Assistant|\*\*System)\s*[:：]"
    r"|^(?:系统|用户|助手)[:：]|^#+ (?:System|Instruction)|^\s*[-=]+ *END OF RULES",
    re.MULTILINE | re.IGNORECASE,
)
"""What chat templates and transcripts are made of, written down apart from the code."""


@dataclass(frozen=True)
class Found:
    value: ValueSpec
    dense_score: float = 1.0


def attack(injection: Injection, **fields: object) -> ValueSpec:
    return ValueSpec(id="attack", text=injection.text, **fields)  # type: ignore[arg-type]


def composed(
    *values: ValueSpec, config: ComposingConfig = WRITTEN_IN, own: Sequence[Message] = (OWN,)
) -> Composition:
    return compose(
        (*own, user("What may I feed?")),
        [Found(value) for value in values],
        presets()["default"],
        budget_tokens=0,
        config=config,
    )


def turns_of_chatml(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Rendered as ChatML and read back by a reader that trusts every token."""
    text = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
    return re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", text, re.DOTALL)


def turns_of_transcript(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Rendered as lines with labels and read back line by line."""
    labels = {"system": "System", "user": "Human", "assistant": "Assistant"}
    text = "".join(f"\n\n{labels[m.role]}: {m.content}" for m in messages)
    return re.findall(
        r"^\s*(System|Human|Assistant): (.*?)(?=^\s*(?:System|Human|Assistant): |\Z)",
        text,
        re.DOTALL | re.MULTILINE,
    )


def test_there_are_fifty_different_attempts_in_two_languages() -> None:
    assert len({injection.text for injection in INJECTIONS}) == 50
    assert len({injection.marker for injection in INJECTIONS}) == 50
    assert {injection.language for injection in INJECTIONS} == {"en", "zh"}


@pytest.mark.parametrize("injection", INJECTIONS, ids=NAMES)
def test_the_gullible_policy_falls_for_the_bare_text(injection: Injection) -> None:
    """Without this, the tests below would show nothing."""
    assert injection.marker in obey([system(injection.text), user("What may I feed?")])


@pytest.mark.parametrize("injection", INJECTIONS, ids=NAMES)
@pytest.mark.parametrize("where", ["rule", "title"])
def test_the_prompt_keeps_its_structure(injection: Injection, where: str) -> None:
    config = ComposingConfig(withhold_overrides=False, rule_template="Rule: {title} {text}")
    value = attack(injection)
    if where == "title":
        value = ValueSpec(id="attack", text="Be polite.", title=injection.text)

    messages = composed(CONSTRAINT, value, ValueSpec(id="x", text="Last."), config=config).messages
    text = messages[0].content
    rules = [line for line in text.splitlines() if line.startswith("Rule: ")]

    above = f"{presets()['default'].text}\n\n{OWN.content}\n\n{presets()['default'].rules_preamble}"
    assert text.startswith(f"{above}\nRule:  {CONSTRAINT.text}\nRule: ")
    assert len(rules) == 3
    assert rules[-1] == "Rule:  Last."
    assert not _TOKENS.search(text.removeprefix(above))
    assert [role for role, _ in turns_of_chatml(messages)] == ["system", "user"]
    assert [role for role, _ in turns_of_transcript(messages)] == ["System", "Human"]


@pytest.mark.parametrize("injection", INJECTIONS, ids=NAMES)
def test_a_document_stays_a_quotation(injection: Injection) -> None:
    quoted = quoted_document(injection.text)

    assert all(line.startswith(">") for line in quoted.splitlines())
    assert not _TOKENS.search(quoted.replace("> ", ""))


@pytest.mark.parametrize("injection", INJECTIONS, ids=NAMES)
def test_no_rank_that_a_text_is_given_moves_a_fixed_value(injection: Injection) -> None:
    """Even with the highest priority and checkers of its own that ask for the marker."""
    value = attack(
        injection,
        priority=2**31 - 1,
        tenant="acme",
        checkers=(f"includes: {injection.marker}", "ends_with: the zebra"),
    )

    composition = composed(value, CONSTRAINT)

    assert composition.applied == (CONSTRAINT,)
    assert [conflict.dropped.id for conflict in composition.conflicts] == ["attack"]
    assert injection.marker not in obey(composition.messages)


@pytest.mark.parametrize("injection", INJECTIONS, ids=NAMES)
def test_a_reply_that_obeyed_is_caught_by_the_constraint_s_own_checker(
    injection: Injection,
) -> None:
    composition = composed(CONSTRAINT, attack(injection))

    reply = obey(composition.messages)
    finding = check_value(CONSTRAINT, reply)

    # Either the text was made harmless, or what it led to is not let out.
    assert (injection.marker in reply) == (finding.verdict is Verdict.BROKEN)


def test_most_attempts_do_not_even_reach_the_prompt() -> None:
    """What is seen through by its wording or its tokens; the count is what was measured."""
    config = ComposingConfig()
    left_out = [i for i in INJECTIONS if composed(attack(i), config=config).left_out]
    reached = [
        i for i in INJECTIONS if i.marker in obey(composed(attack(i), config=config).messages)
    ]

    assert len(left_out) >= 30
    assert len(reached) <= 19
    for injection in left_out:
        reasons = composed(attack(injection), config=config).why_left_out
        assert reasons["attack"].startswith("its text ")


def test_a_system_message_s_checkers_outlive_every_text() -> None:
    concise = presets()["concise"]
    for injection in INJECTIONS:
        composition = compose(
            [user("Hi")],
            [Found(attack(injection, priority=99, checkers=("min_words: 81",)))],
            concise,
            budget_tokens=0,
            config=WRITTEN_IN,
        )
        assert composition.messages[0] == system(concise.text)
        assert composition.conflicts[0].kept == concise.as_value()


def test_the_same_texts_without_system_message_stay_within_their_rule() -> None:
    for injection in INJECTIONS:
        messages = compose(
            [user("Hi")],
            [Found(attack(injection)), Found(ValueSpec(id="z", text="Last."))],
            NO_SYSTEM_MESSAGE,
            budget_tokens=0,
            config=WRITTEN_IN,
        ).messages
        assert len(re.findall(r"^Rule: ", messages[0].content, re.MULTILINE)) == 2
