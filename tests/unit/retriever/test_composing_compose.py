from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import ConfigError, ResourceExhaustedError
from plumbline.core.validation import parse_config
from plumbline.data.records import Message, ValueSpec, assistant, system, user
from plumbline.retriever.composing.budget import estimated_tokens
from plumbline.retriever.composing.compose import Composition, compose
from plumbline.retriever.composing.config import ComposingConfig
from plumbline.retriever.composing.governing import always_governs, governs
from plumbline.retriever.composing.system_messages import (
    NO_SYSTEM_MESSAGE,
    SystemMessage,
    presets,
)

CONFIG = ComposingConfig()
CONCISE = presets()["concise"]


@dataclass(frozen=True)
class Found:
    value: ValueSpec
    dense_score: float = 0.9


def composed(
    *values: ValueSpec,
    messages: tuple[Message, ...] = (user("How hot?"),),
    message: SystemMessage = NO_SYSTEM_MESSAGE,
    budget_tokens: int = 0,
    config: ComposingConfig = CONFIG,
) -> Composition:
    return compose(
        messages,
        [Found(value) for value in values],
        message,
        budget_tokens=budget_tokens,
        config=config,
        count_tokens=lambda text: len(text.split()),
    )


OVEN = ValueSpec(id="oven", text="End the reply with: mind the oven.")
KIND = ValueSpec(id="kind", text="Be kind.")


def test_a_governed_prompt_reads_as_policies_were_trained() -> None:
    assert composed(OVEN).messages == (
        system("Rule: End the reply with: mind the oven."),
        user("How hot?"),
    )


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.booleans())
def test_an_ungoverned_prompt_is_unchanged(contents: list[str], with_system: bool) -> None:
    messages = tuple(user(text) for text in contents)
    messages = (system("\n own \u200b"), *messages) if with_system else messages

    assert composed(messages=messages).messages == messages


def test_the_layout_is_system_message_own_message_rules() -> None:
    messages = (system("Own."), user("Hi"), assistant("Hello"), user("How hot?"))

    text = composed(OVEN, KIND, messages=messages, message=CONCISE).messages[0].content

    assert text == (
        f"{CONCISE.text}\n\nOwn.\n\n{CONCISE.rules_preamble}\n"
        "Rule: End the reply with: mind the oven.\nRule: Be kind."
    )
    assert composed(KIND, messages=messages).messages[0].content == "Own.\nRule: Be kind."
    assert composed(message=CONCISE).messages[0].content == CONCISE.text
    assert composed(OVEN, messages=messages).messages[1:] == messages[1:]


def test_fixed_values_come_first_then_priority_then_the_best_match() -> None:
    first = ValueSpec(id="z", text="Fixed.", kind="fixed")
    values = [KIND, replace(KIND, id="b", priority=2), replace(KIND, id="a"), first]

    assert [value.id for value in composed(*values).applied] == ["z", "b", "kind", "a"]


def test_a_rule_that_does_not_fit_is_left_out_whole() -> None:
    """Room: 40 - 4 reserved - (2 words + 2) message - 2 above = 30 tokens.
    `Rule: w ... w` of 25 words and a line break takes 27, and leaves 3; `Be kind.` takes 4."""
    config = ComposingConfig(reserved_response_tokens=4, message_tokens=2)
    long = ValueSpec(id="long", text="w " * 25, priority=1)
    short = ValueSpec(id="short", text="w")

    composition = composed(long, KIND, short, budget_tokens=40, config=config)

    assert [value.id for value in composition.applied] == ["long", "short"]
    assert composition.left_out == (KIND,)
    assert composition.why_left_out == {"kind": "it takes 4 tokens, and 3 are left for rules"}
    assert "kind" not in composition.messages[0].content


def test_a_fixed_value_without_room_is_an_error_and_no_reply() -> None:
    with pytest.raises(ResourceExhaustedError, match="fixed value 'oven' has no room"):
        composed(replace(OVEN, kind="fixed"), budget_tokens=10)


def test_the_estimate_errs_upwards_by_script() -> None:
    """6 Han characters at 0.75 per token are 8 tokens, 6 letters at 3 are 2."""
    assert estimated_tokens("居民身份证法", CONFIG) == 8
    assert estimated_tokens("abcdef", CONFIG) == 2
    assert estimated_tokens("居民身份证法abcdef", CONFIG) == 10


def test_at_most_so_many_rules_and_all_that_always_govern() -> None:
    rules = [replace(KIND, id=f"r{number}") for number in range(4)]
    standing = ValueSpec(id="tone", text="Be brief.", kind="customisable")

    composition = composed(*rules, standing, config=ComposingConfig(max_rules=2))

    assert [value.id for value in composition.applied] == ["r0", "r1", "tone"]
    assert [value.id for value in composition.left_out] == ["r2", "r3"]


def test_a_losing_rule_is_reported_and_not_stated() -> None:
    bye = ValueSpec(id="bye", text="End the reply with: bye.", priority=1)

    composition = composed(OVEN, bye)

    (conflict,) = composition.conflicts
    assert (conflict.kept, conflict.dropped) == (bye, OVEN)
    assert composition.applied == (bye,)
    assert composition.messages[0].content == "Rule: End the reply with: bye."


def test_a_system_message_s_checkers_outrank_rules() -> None:
    long = ValueSpec(id="long", text="Use at least 200 words.", kind="fixed", priority=100)

    composition = composed(long, message=CONCISE)

    assert composition.applied == ()
    assert composition.conflicts[0].kept.id == "system_message:concise"


def test_system_messages_are_no_rules_and_doubles_count_once() -> None:
    value = ValueSpec(id="system_message:x", text="Hi", category="system_message")

    assert composed(value, OVEN, OVEN).applied == (OVEN,)


@pytest.mark.parametrize("template", ["Rule", "{text} {tenant}", "{text}\n", "{0}"])
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="accepted is one line"):
        parse_config(ComposingConfig, {"rule_template": template})


def test_a_template_may_name_the_rule() -> None:
    config = ComposingConfig(rule_template="[{id}] {title}: {text}")
    value = replace(KIND, title="Tone\nRule: x")

    assert composed(value, config=config).messages[0].content == "[kind] Tone   Rule: x: Be kind."


@pytest.mark.parametrize(
    ("trigger", "query", "governed"),
    [
        ("bread", "How do I bake Bread?", True),
        ("bread", "What is a breadboard?", False),
        ("个人信息", "能公开他人的个人信息吗", True),
        ("个人信息", "个人的信息", False),
        ("tax year", "the tax, year by year", True),
        ("???", "what???", False),
    ],
)
def test_triggers_match_whole_words_and_han_runs(trigger: str, query: str, governed: bool) -> None:
    value = ValueSpec(id="a", text="x", triggers=(trigger,))

    assert governs(Found(value), query, min_cosine=-1) is governed


def test_without_triggers_similarity_decides_or_the_kind() -> None:
    law = ValueSpec(id="a", text="x")
    fixed = ValueSpec(id="b", text="x", kind="fixed")
    wish = ValueSpec(id="c", text="x", kind="customisable")
    narrowed = replace(fixed, triggers=("bread",))
    message = replace(law, id="system_message:x", category="system_message")

    assert governs(Found(law, 0.5), "q", min_cosine=0.5)
    assert not governs(Found(law, 0.49), "q", min_cosine=0.5)
    assert governs(Found(fixed, 0.0), "q", min_cosine=0.5)
    assert governs(Found(wish, 0.0), "q", min_cosine=0.5)
    assert not governs(Found(narrowed, 1.0), "q", min_cosine=0.5)
    assert not governs(Found(message, 1.0), "q", min_cosine=0.5)
    assert [always_governs(value) for value in (law, fixed, wish, narrowed)] == [
        False,
        True,
        True,
        False,
    ]
