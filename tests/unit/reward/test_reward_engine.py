"""The engine: heads, models by reference, and what must not change a score."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    ResourceExhaustedError,
)
from plumbline.data.records import Message, user
from plumbline.models.batching import pad_left, pad_right
from plumbline.models.chat import ChatFormat
from plumbline.models.reward import HEAD_FILE, RewardModel
from plumbline.reward.combine import combine_scores
from plumbline.reward.config import RewardConfig
from plumbline.reward.encoding import RewardEncoder, ScoredItem
from plumbline.reward.engine import RewardEngine

WORDS = ["the", "cat", "sat", "on", "mat", "and", "dog", "ran", "to", "old", "house", "by", "sea"]
MODELS = {"helpfulness": "helpfulness", "safety": "safety"}


def items(count: int = 24) -> list[ScoredItem]:
    """Responses of very different lengths."""
    generator = random.Random(0)
    return [
        ScoredItem(
            (user(" ".join(generator.choices(WORDS, k=1 + index % 7))),),
            " ".join(generator.choices(WORDS, k=index)),
            risky=index % 3 == 0,
        )
        for index in range(count)
    ]


@pytest.fixture
def engine(tiny_reward_models: dict[str, Path]) -> RewardEngine:
    return make_engine(tiny_reward_models)


def make_engine(directories: dict[str, Path], config: RewardConfig | None = None) -> RewardEngine:
    def resolve(reference: str) -> tuple[str, Path]:
        if reference not in directories:
            raise NotFoundError(f"no reward model {reference!r}")
        return f"id-of-{reference}", directories[reference]

    return RewardEngine(resolve, config, device="cpu")


def test_scores_do_not_depend_on_company_or_order(
    engine: RewardEngine, tiny_reward_models: dict[str, Path]
) -> None:
    everything = items()
    expected = engine.score(everything, ["helpfulness"], MODELS).by_head["helpfulness"]

    alone = [
        engine.score([one], ["helpfulness"], MODELS).by_head["helpfulness"][0] for one in everything
    ]
    backwards = engine.score(everything[::-1], ["helpfulness"], MODELS).by_head["helpfulness"]
    small_batches = make_engine(tiny_reward_models, RewardConfig(tokens_per_batch=64))
    small = small_batches.score(everything, ["helpfulness"], MODELS).by_head["helpfulness"]

    assert alone == pytest.approx(expected, abs=1e-5)
    assert backwards[::-1] == pytest.approx(expected, abs=1e-5)
    assert small == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 4) for score in expected}) > 20


@pytest.mark.parametrize("pad_token", ["<|pad|>", "<|end|>"])
def test_scores_do_not_depend_on_the_side_or_the_token_of_padding(
    tiny_reward_models: dict[str, Path], pad_token: str
) -> None:
    model = RewardModel.load(tiny_reward_models["safety"])
    pad_id = model.tokenizer.convert_tokens_to_ids(pad_token)
    encoded = [model.encode(item.prompt, item.response) for item in items()]

    scores = [
        model.score(*pad([*encoded, [7] * 100], pad_id))[:-1] for pad in (pad_left, pad_right)
    ]

    alone = torch.cat([model.score(*pad_right([ids], pad_id)) for ids in encoded])
    for padded in scores:
        torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)


def test_the_combined_head_joins_the_other_two(engine: RewardEngine) -> None:
    scores = engine.score(items(), ["combined", "safety", "helpfulness"], MODELS)

    expected = combine_scores(
        torch.tensor(scores.by_head["helpfulness"]),
        torch.tensor(scores.by_head["safety"]),
        torch.tensor([item.risky for item in items()]),
    )
    assert scores.by_head["combined"] == pytest.approx(expected.tolist())
    assert list(scores.by_head) == ["combined", "safety", "helpfulness"]
    assert scores.model_ids == {"helpfulness": "id-of-helpfulness", "safety": "id-of-safety"}


def test_each_head_brings_its_models_temperature(
    tiny_reward_models: dict[str, Path], tmp_path: Path
) -> None:
    model = RewardModel.load(tiny_reward_models["safety"])
    model.card = model.card.model_copy(update={"temperature": 2.5})
    model.save(tmp_path)
    engine = make_engine({**tiny_reward_models, "safety": tmp_path})

    scores = engine.score(items(2), ["safety", "helpfulness", "combined"], MODELS)

    assert scores.temperatures == {"safety": 2.5, "helpfulness": 1.0, "combined": 1.0}


def test_the_combined_head_alone_returns_only_itself(engine: RewardEngine) -> None:
    assert list(engine.score(items(3), ["combined"], MODELS).by_head) == ["combined"]


def test_unknown_and_absent_heads_are_refused_with_what_is_accepted(engine: RewardEngine) -> None:
    with pytest.raises(
        InvalidInputError, match=r"'honesty' is unknown; .*helpfulness, safety, com"
    ):
        engine.score(items(1), ["honesty"], MODELS)
    with pytest.raises(InvalidInputError, match="no head named; accepted: helpfulness, safety"):
        engine.score(items(1), [], MODELS)


def test_a_model_of_another_head_is_refused(engine: RewardEngine) -> None:
    with pytest.raises(FailedPreconditionError, match="trained for head 'safety'") as caught:
        engine.score(items(1), ["helpfulness"], {"helpfulness": "safety"})
    assert caught.value.reason == "WRONG_HEAD"
    with pytest.raises(FailedPreconditionError, match="trained for head 'helpfulness'"):
        engine.load("helpfulness", "safety")


def test_a_model_of_overall_preference_serves_as_either_head(engine: RewardEngine) -> None:
    models = {"helpfulness": "preference", "safety": "preference"}
    scores = engine.score(items(2), ["helpfulness", "safety"], models).by_head
    assert scores["helpfulness"] == scores["safety"]


def test_defaults_are_set_by_loading(engine: RewardEngine) -> None:
    with pytest.raises(FailedPreconditionError, match="LoadRewardModel"):
        engine.score(items(1), ["safety"])

    info = engine.load("safety")

    assert (info.id, info.head, info.architecture) == ("id-of-safety", "safety", "llama")
    named = engine.score(items(2), ["safety"], MODELS)
    assert engine.score(items(2), ["safety"]) == named
    with pytest.raises(FailedPreconditionError, match="head 'helpfulness'"):
        engine.score(items(1), ["combined"])


def test_a_head_without_a_model_of_its_own_cannot_be_loaded(engine: RewardEngine) -> None:
    with pytest.raises(InvalidInputError, match="'combined' has no model"):
        engine.load("safety", "combined")


def test_no_items_and_too_many_are_refused(tiny_reward_models: dict[str, Path]) -> None:
    engine = make_engine(tiny_reward_models, RewardConfig(max_items_per_request=2))
    for count in (0, 3):
        with pytest.raises(InvalidInputError, match=f"{count} responses came; accepted: 1 to 2"):
            engine.score(items(count), ["safety"], MODELS)


def test_a_prompt_is_tokenised_once_for_all_its_responses(
    tiny_reward_models: dict[str, Path],
) -> None:
    class CountingFormat(ChatFormat):
        prompts = 0

        def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
            self.prompts += 1
            return super().encode_prompt(messages)

    encoder = RewardEncoder.load("id", tiny_reward_models["safety"])
    chat = CountingFormat(encoder.chat.tokenizer)
    same = [ScoredItem((user("the cat"),), response) for response in ("a", "b", "c")]
    other = [ScoredItem((user("the dog"),), "a")]

    texts = dataclasses.replace(encoder, chat=chat).encode([*same, *other, *same])

    assert chat.prompts == 2
    assert texts == encoder.encode([*same, *other, *same])


def test_a_full_queue_refuses_and_leaves_what_waits(tiny_reward_models: dict[str, Path]) -> None:
    config = RewardConfig(max_items_per_request=3, max_queued_items=3, max_delay_s=30.0)
    engine = make_engine(tiny_reward_models, config)
    waiting = engine.submit(items(2), ["safety"], MODELS)

    with pytest.raises(ResourceExhaustedError, match=r"2 texts wait .* 2 more came; accepted: 3"):
        engine.submit(items(2), ["safety"], MODELS)

    waiting.cancel()
    # Room again, for both heads or for none of them.
    with pytest.raises(ResourceExhaustedError):
        engine.submit(items(2), ["safety", "helpfulness"], MODELS)
    assert not engine.submit(items(2), ["safety"], MODELS).futures["safety"].done()


def test_a_deadline_that_passed_in_the_queue_is_an_error(engine: RewardEngine) -> None:
    engine.load("safety")
    pending = engine.submit(items(2), ["safety"], timeout_s=-1.0)
    with pytest.raises(DeadlineExceededError, match="2 texts not scored"):
        pending.result()


def test_scores_that_are_not_finite_are_reported(
    tiny_reward_models: dict[str, Path], tmp_path: Path
) -> None:
    model = RewardModel.load(tiny_reward_models["safety"])
    torch.nn.init.constant_(model.head.bias, float("inf"))
    model.save(tmp_path)
    assert (tmp_path / HEAD_FILE).is_file()

    with pytest.raises(FailedPreconditionError, match="not finite"):
        make_engine({"safety": tmp_path}).score(items(1), ["safety"], MODELS)
