"""Reward models: invariances, pooling, truncation, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, BertModel

from plumbline.core.errors import CheckpointError, FailedPreconditionError, InvalidInputError
from plumbline.data.records import user
from plumbline.models.batching import pad_left, pad_right
from plumbline.models.reward import RewardModel, RewardModelCard

PROMPT = [user("the cat?")]
RESPONSES = ["sat", "ran to the old house by the sea", "", "the dog and the cat"]


@pytest.fixture
def model(tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> RewardModel:
    return RewardModel.create(tiny_llama().model, tiny_tokenizer, RewardModelCard(), seed=1).eval()


@pytest.fixture
def encoder(tiny_tokenizer: Any) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    return BertModel(config).eval()


def test_scores_do_not_depend_on_batch_order_or_padding_side(model: RewardModel) -> None:
    encoded = [model.encode(PROMPT, response) for response in RESPONSES]
    alone = torch.cat([model.score(*pad_right([ids], 0)) for ids in encoded])

    together = model.score(*pad_right(encoded, 0))
    left = model.score(*pad_left(encoded, 0))
    reversed_ = model.score(*pad_right(encoded[::-1], 0)).flip(0)
    batched = model.score_responses([PROMPT] * 4, RESPONSES, tokens_per_batch=40)

    for scores in (together, left, reversed_, batched):
        assert_close(scores, alone, atol=1e-5, rtol=0)


def test_pad_token_equal_to_the_end_token_moves_no_score(model: RewardModel) -> None:
    encoded = [model.encode(PROMPT, response) for response in RESPONSES]

    with_pad = model.score(*pad_right(encoded, model.format.pad_id))
    with_end = model.score(*pad_right(encoded, model.format.eos_id))

    assert_close(with_pad, with_end)


def test_fresh_head_is_seeded_and_narrow(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    heads = [
        RewardModel.create(tiny_llama().model, tiny_tokenizer, RewardModelCard(), seed=seed).head
        for seed in (3, 3, 4)
    ]

    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert heads[0].bias.tolist() == [0.0]
    card = RewardModelCard()
    zero = RewardModel.create(tiny_llama().model, tiny_tokenizer, card, seed=3, zero_head=True)
    assert not zero.head.weight.any()
    # 32 draws from N(0, 1/33): the sample's deviation is within a factor 2 of 0.174.
    assert 0.087 < float(heads[0].weight.detach().std()) < 0.348


def test_long_input_keeps_its_end(tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> None:
    card = RewardModelCard(max_length=8)
    model = RewardModel.create(tiny_llama().model, tiny_tokenizer, card, seed=0)

    ids = model.encode([user("the cat sat on the mat")], "and the dog ran")

    assert len(ids) == 8
    assert ids[-1] == model.format.eos_id
    assert model.format.decode(ids).endswith("dog ran")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_encoders_pool_by_mask(encoder: BertModel, tiny_tokenizer: Any, pooling: Any) -> None:
    card = RewardModelCard(pooling=pooling, max_length=64)
    model = RewardModel.create(encoder, tiny_tokenizer, card, seed=0).eval()
    encoded = [model.encode(PROMPT, response) for response in RESPONSES]

    alone = torch.cat([model.score(*pad_right([ids], 0)) for ids in encoded])

    assert_close(model.score(*pad_right(encoded, 0)), alone, atol=1e-5, rtol=0)


def test_response_pooling_reads_the_response_alone(encoder: BertModel, tiny_tokenizer: Any) -> None:
    card = RewardModelCard(pooling="response", max_length=16)
    model = RewardModel.create(encoder, tiny_tokenizer, card, seed=0).eval()
    parts = [model.encode_parts(PROMPT, response) for response in RESPONSES]
    encoded, lengths = [ids for ids, _ in parts], [length for _, length in parts]
    # By hand: the mean of the states of each text's last tokens, alone and unpadded.
    expected = []
    for ids, length in parts:
        assert length == len(model.format.encode_response(model.format.decode(ids[-length:])))
        states = encoder(torch.tensor([ids])).last_hidden_state[0, -length:]
        expected.append(model.head(states.mean(dim=0)))

    scores = model.score_responses([PROMPT] * 4, RESPONSES)

    assert_close(scores, torch.cat(expected), atol=1e-5, rtol=0)
    with torch.no_grad():
        left = model(*pad_left(encoded, 0), lengths)
    assert_close(left, scores, atol=1e-5, rtol=0)
    with pytest.raises(InvalidInputError, match="no response_lengths"):
        model.score(*pad_right(encoded, 0))


def test_last_token_of_an_encoder_is_refused(encoder: BertModel, tiny_tokenizer: Any) -> None:
    with pytest.raises(FailedPreconditionError, match="'cls', 'mean' or 'response'"):
        RewardModel(encoder, tiny_tokenizer, RewardModelCard(pooling="last"))


def test_a_response_that_spells_a_control_token_is_scored_as_text(model: RewardModel) -> None:
    odd = "the cat <|end|> sat"

    scores = model.score_responses([PROMPT] * 2, [odd, RESPONSES[0]])

    assert_close(scores[1:], model.score_responses([PROMPT], RESPONSES[:1]))
    ids = model.encode(PROMPT, odd, literal=True)
    assert ids.count(model.format.eos_id) == model.encode(PROMPT, "x").count(model.format.eos_id)


def test_half_precision_keeps_near_scores_apart(model: RewardModel, tmp_path: Path) -> None:
    encoded = [model.encode(PROMPT, response) for response in RESPONSES]
    with torch.no_grad():
        # Beside so large an offset, half precision would round every score to 1000.
        model.head.bias.fill_(1000.0)
    exact = model.score_encoded(encoded)

    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.score_encoded(encoded)
    model.save(tmp_path)
    half = RewardModel.load(tmp_path, "bfloat16").score_encoded(encoded)

    for found in (mixed, half):
        assert len(set(found.tolist())) == 4
        assert_close(found, exact, atol=0.2, rtol=0)


def test_saved_model_scores_the_same(model: RewardModel, tmp_path: Path) -> None:
    for name in ("one", "two"):
        model.save(tmp_path / name)

    loaded = RewardModel.load(tmp_path / "one")

    assert loaded.card == model.card
    assert torch.equal(
        loaded.score_responses([PROMPT] * 4, RESPONSES),
        model.score_responses([PROMPT] * 4, RESPONSES),
    )
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_policy_is_no_reward_model(tiny_policy: Path) -> None:
    with pytest.raises(CheckpointError, match=r"reward_model\.json is missing") as refused:
        RewardModel.load(tiny_policy)

    assert refused.value.reason == "NOT_A_REWARD_MODEL"


def test_missing_head_is_named(model: RewardModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "reward_head.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"reward_head\.safetensors is missing"):
        RewardModel.load(tmp_path)
