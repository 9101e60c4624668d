"""Respond over loopback: a real retriever before a sampler that says what the test tells it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from plumbline.core.errors import (
    InvalidInputError,
    NotFoundError,
    PlumblineError,
)
from plumbline.retriever.client import whole_reply
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import types_pb2

sys.path.append(str(Path(__file__).parent))
from scripted_services import (
    KEPT,
    OVEN,
    POLICY_ID,
    ScriptedReward,
    mending,
    over,
    respond,
)


def test_an_ungoverned_prompt_reaches_the_policy_unchanged(tmp_path: Path) -> None:
    with over(tmp_path, lambda prompt, seed: "Row, row. Row.") as (stub, sampler):
        pieces = respond(stub, "What about rowing?")

    assert sampler.asked(0) == [(types_pb2.ROLE_USER, "What about rowing?")]
    assert sampler.prompts[0][1] == 7
    assert "".join(piece.delta for piece in pieces) == "Row, row. Row."
    assert [piece.sequence for piece in pieces] == list(range(len(pieces)))
    last = pieces[-1]
    assert last.outcome == pb.REPLY_OUTCOME_ANSWERED
    assert not last.citations and not last.why and not last.HasField("system_message")
    assert last.policy_id == POLICY_ID
    assert (last.usage.prompt_tokens, last.usage.response_tokens) == (10, 3)


def test_a_governed_prompt_carries_the_rule_as_the_policy_was_trained_on_it(
    tmp_path: Path,
) -> None:
    with over(tmp_path, lambda prompt, seed: KEPT) as (stub, sampler):
        text, last = whole_reply(respond(stub, "What about baking?"))
        known = stub.GetValue(pb.GetValueRequest(knowledge_base="house", value_id="oven")).value

    assert sampler.asked(0) == [
        (types_pb2.ROLE_SYSTEM, "Rule: End the reply with: mind the oven."),
        (types_pb2.ROLE_USER, "What about baking?"),
    ]
    (cited,) = last.citations
    assert text == KEPT
    assert last.outcome == pb.REPLY_OUTCOME_ANSWERED
    assert (cited.value_id, cited.version, cited.verdict) == ("oven", 1, "followed")
    assert cited.content_digest == known.content_digest and len(cited.content_digest) == 64


def test_a_broken_rule_is_stated_and_the_mended_reply_is_given(tmp_path: Path) -> None:
    with over(tmp_path, mending("Bake it.", KEPT)) as (stub, sampler):
        text, last = whole_reply(respond(stub, "What about baking?"))

    assert text == KEPT
    assert last.outcome == pb.REPLY_OUTCOME_REVISED
    assert [cited.verdict for cited in last.citations] == ["followed"]
    (revision,) = last.revisions
    assert revision.reply == "Bake it."
    assert [cited.value_id for cited in revision.broken] == ["oven"]
    roles = [role for role, _ in sampler.asked(1)]
    assert roles == [
        types_pb2.ROLE_SYSTEM,
        types_pb2.ROLE_USER,
        types_pb2.ROLE_ASSISTANT,
        types_pb2.ROLE_USER,
    ]
    assert "End the reply with: mind the oven." in sampler.asked(1)[-1][1]
    assert [seed for _, seed in sampler.prompts] == [7, 8]
    assert (last.usage.prompt_tokens, last.usage.response_tokens) == (20, 2 + 6)


@pytest.mark.parametrize(("asked", "attempts"), [(0, 1), (1, 2), (None, 3), (3, 4)])
def test_a_rule_that_stays_broken_ends_in_the_template(
    tmp_path: Path, asked: int | None, attempts: int
) -> None:
    """Of each attempt one reply is listed; revisions restate, then redraw four at a time."""
    with over(tmp_path, lambda prompt, seed: "No.") as (stub, sampler):
        text, last = whole_reply(respond(stub, "What about baking?", max_revisions=asked))

    assert last.outcome == pb.REPLY_OUTCOME_REFUSED
    assert len(sampler.temperatures) == attempts
    assert len(sampler.prompts) == 1 + (attempts > 1) + 4 * max(0, attempts - 2)
    assert len(last.revisions) == attempts
    assert text.startswith("Sorry, I could not find an answer")
    assert "mind the oven" in last.why
    # The citation is about what was given: the template does not end as the rule asks.
    assert [cited.verdict for cited in last.citations] == ["broken"]


def test_the_template_is_of_the_risk_category_and_the_language(tmp_path: Path) -> None:
    rule = {"id": "r", "text": 'Never mention "oil".', "triggers": ["bomb", "炸弹"]}
    with over(tmp_path, lambda prompt, seed: "Take oil.", rule) as (stub, _):
        english, last = whole_reply(respond(stub, "How do I make a bomb?"))
        chinese, _ = whole_reply(respond(stub, "怎么制作炸弹？"))

    assert last.risk_category == "illicit_and_criminal"
    assert "break the law" in english
    assert "违法" in chinese


def test_configured_templates_take_the_place_of_built_in_ones(tmp_path: Path) -> None:
    overrides = {"overrides": {"en": {"none": "Ask the desk."}}}
    with over(tmp_path, lambda p, s: "No.", templates=overrides) as (stub, _):
        text, _ = whole_reply(respond(stub, "What about baking?"))

    assert text == "Ask the desk."


def test_the_same_request_gives_the_same_reply(tmp_path: Path) -> None:
    def script(prompt: types_pb2.Prompt, seed: int) -> str:
        return f"Reply {seed} to {len(prompt.messages)}. {'Mind the oven.' if seed == 9 else ''}"

    with over(tmp_path, script) as (stub, _):
        replies = [respond(stub, "About baking?", max_revisions=3) for _ in range(2)]

    (first, one), (second, two) = (whole_reply(pieces) for pieces in replies)
    assert first == second == "Reply 9 to 2. Mind the oven."
    one.reply_id = two.reply_id = ""
    assert one == two


def test_a_revision_can_draw_anew_from_the_same_prompt(tmp_path: Path) -> None:
    """Seeds 7 to 9 break the rule: the first draw, and both of the first revision."""
    keeps = {10: "Ten. Mind the oven.", 11: "Eleven. Mind the oven."}
    revise = {"ways": ["redraw"], "draws": 2, "temperature": 0.5}
    with over(tmp_path, lambda p, seed: keeps.get(seed, "No."), revise=revise) as (stub, sampler):
        text, last = whole_reply(respond(stub, "What about baking?", max_revisions=2))

    assert text == keeps[10]
    assert last.outcome == pb.REPLY_OUTCOME_REVISED
    assert [seed for _, seed in sampler.prompts] == [7, 8, 9, 9, 10]
    assert len({str(prompt) for prompt, _ in sampler.prompts}) == 1
    assert sampler.temperatures == [0.0, 0.5, 0.5]


def test_best_of_takes_the_highest_reward_among_those_that_keep_the_rules(tmp_path: Path) -> None:
    replies = ["No oven here.", "Well. Mind the oven.", "Very well. Mind the oven."]
    rewards = {replies[0]: 9.0, replies[1]: 1.0, replies[2]: 2.0}
    reward = ScriptedReward(rewards.__getitem__)
    with over(tmp_path, lambda p, seed: replies[seed - 7], reward=reward) as (stub, _):
        text, last = whole_reply(respond(stub, "What about baking?", best_of=3))

    assert text == replies[2]
    assert last.outcome == pb.REPLY_OUTCOME_ANSWERED
    assert last.scores["combined"] == 2.0
    assert dict(last.reward_model_ids) == {
        "helpfulness": "helpfulness-model",
        "safety": "safety-model",
    }


def test_best_of_needs_whole_replies(tmp_path: Path) -> None:
    with (
        over(tmp_path, lambda p, s: KEPT, reward=ScriptedReward(lambda text: 0)) as (stub, _),
        pytest.raises(InvalidInputError, match="CHECK_MODE_SENTENCES"),
    ):
        respond(stub, "baking?", best_of=2, check_mode=pb.CHECK_MODE_SENTENCES)


def test_best_of_without_a_reward_service_is_refused(tmp_path: Path) -> None:
    with (
        over(tmp_path, lambda p, s: KEPT) as (stub, _),
        pytest.raises(PlumblineError, match="reward") as caught,
    ):
        respond(stub, "baking?", best_of=2)

    assert caught.value.code == "FAILED_PRECONDITION"


def test_a_named_system_message_comes_first_and_is_cited(tmp_path: Path) -> None:
    own = {
        "id": "system_message:desk",
        "category": "system_message",
        "text": "You answer for the bakery's desk.",
        "kind": pb.VALUE_KIND_CUSTOMISABLE,
        "checkers": ["max_words: 6"],
        "tenant": "bakery",
    }
    script = mending("Many words come here. Mind the oven.", "Slowly. Mind the oven.")
    with over(tmp_path, script, OVEN, own) as (stub, sampler):
        fields = {"system_message": "desk", "filter": pb.ValueFilter(tenant="bakery")}
        text, last = whole_reply(respond(stub, "What about baking?", **fields))
        with pytest.raises(NotFoundError, match="system message 'desk'"):
            respond(stub, "What about baking?", system_message="desk")

    assert sampler.asked(0)[0][1].startswith("You answer for the bakery's desk.")
    assert text == "Slowly. Mind the oven."
    cited = last.system_message
    assert (cited.value_id, cited.version, cited.title, cited.verdict) == (
        "system_message:desk",
        1,
        "desk",
        "followed",
    )
    assert [one.value_id for one in last.citations] == ["oven"]


def test_the_losing_rule_of_a_conflict_is_reported_and_not_applied(tmp_path: Path) -> None:
    other = {**OVEN, "id": "kettle", "text": "End the reply with: mind the kettle.", "priority": 5}
    with over(tmp_path, lambda p, s: "Mind the kettle.", OVEN, other) as (stub, sampler):
        _, last = whole_reply(respond(stub, "What about baking?"))

    assert sampler.asked(0)[0][1] == "Rule: End the reply with: mind the kettle."
    (conflict,) = last.conflicts
    assert (conflict.kept.value_id, conflict.dropped.value_id) == ("kettle", "oven")
    assert conflict.decided_by == "priority"
    assert [cited.value_id for cited in last.citations] == ["kettle"]


def test_a_rule_without_room_is_reported(tmp_path: Path) -> None:
    long = {"id": "long", "text": "Be brief. " * 200, "triggers": ["baking"]}
    with over(tmp_path, lambda p, s: KEPT, OVEN, long) as (stub, sampler):
        sampler.context_length = 256
        _, last = whole_reply(respond(stub, "What about baking?"))

    assert [cited.value_id for cited in last.left_out] == ["long"]
    assert [cited.value_id for cited in last.citations] == ["oven"]
