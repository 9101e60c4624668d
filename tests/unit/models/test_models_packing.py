"""Packed rows give what their texts give one by one: states, scores, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from plumbline.models.packing import (
    PromptGroup,
    group_pair,
    pack_groups,
    pack_texts,
    packed_states,
    supports_packing,
)
from plumbline.models.reward import RewardModel, RewardModelCard

SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
TEXTS = ([3, 1, 4, 1, 5], [9, 2], [6], [5, 3, 5, 8, 9, 7, 9], [3, 2, 3])
GROUPS = (
    PromptGroup([3, 1, 4], [[1, 5, 9], [2], [6, 5, 3, 5]]),
    PromptGroup([8], [[9, 7, 9], [3]]),
)


def llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(**{**SIZES, "num_key_value_heads": 2, "initializer_range": 0.3, **changes})
    return LlamaForCausalLM(config).double().eval()


def gpt2() -> GPT2LMHeadModel:
    """Positions are learned, not rotary; 64-bit floats throughout."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=40, n_embd=24, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1
    )
    return GPT2LMHeadModel(config).double().eval()


def alone(model: PreTrainedModel, text: Sequence[int]) -> Tensor:
    states: Tensor = model.base_model(input_ids=torch.tensor([list(text)])).last_hidden_state[0]
    return states


@pytest.mark.parametrize("make", [llama, gpt2])
def test_texts_of_a_row_are_blind_to_each_other(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    assert supports_packing(model)
    row = pack_texts(TEXTS, [[True] * len(text) for text in TEXTS])
    found = packed_states(model, row)

    assert_close(found, torch.cat([alone(model, text) for text in TEXTS]))
    changed = pack_texts([[7, 7, 7, 7, 7], *TEXTS[1:]], [[True] * len(text) for text in TEXTS])
    assert torch.equal(packed_states(model, changed)[5:], found[5:])


def test_texts_of_one_length_go_as_a_batch() -> None:
    model = llama()
    texts = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    row = pack_texts(texts, [[True] * 3] * 3)

    assert row.layout.is_even
    assert_close(packed_states(model, row), torch.cat([alone(model, text) for text in texts]))


@pytest.mark.parametrize("make", [llama, gpt2])
def test_responses_go_on_from_their_prompt(make: Callable[[], PreTrainedModel]) -> None:
    """The state that predicts a response's first token is the prompt's last."""
    model = make()
    row = pack_groups(GROUPS)
    expected = torch.cat(
        [
            alone(model, [*group.prompt, *response])[len(group.prompt) - 1 : -1]
            for group in GROUPS
            for response in group.responses
        ]
    )

    assert_close(packed_states(model, row)[row.predictors], expected)
    assert row.targets.tolist() == [1, 5, 9, 2, 6, 5, 3, 5, 9, 7, 9, 3]
    assert row.layout.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 3, 3, 4, 5, 6, 0, 1, 2, 3, 1]


# Llama's norms are taken in 32-bit floats whatever the model's type.
@pytest.mark.parametrize(("make", "tolerance"), [(llama, 2e-5), (gpt2, 1e-12)])
def test_a_shared_prompt_gathers_the_gradients_of_its_responses(
    make: Callable[[], PreTrainedModel], tolerance: float
) -> None:
    model = make()
    row = pack_groups(GROUPS)
    packed_states(model, row)[row.predictors].square().sum().backward()
    together = {name: p.grad.clone() for name, p in model.base_model.named_parameters()}
    model.zero_grad()
    for group in GROUPS:
        for response in group.responses:
            states = alone(model, [*group.prompt, *response])[len(group.prompt) - 1 : -1]
            states.square().sum().backward()

    for name, parameter in model.base_model.named_parameters():
        assert_close(together[name], parameter.grad, rtol=tolerance, atol=tolerance)


def test_checkpointed_layers_give_the_same_gradients() -> None:
    model = llama()
    row = pack_groups(GROUPS)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        packed_states(model, row)[row.predictors].square().sum().backward()
        return [p.grad.clone() for p in model.base_model.parameters()]

    expected = gradients()
    model.train()
    model.activation_checkpointing_enable()
    for found, wanted in zip(gradients(), expected, strict=True):
        assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_other_calls_of_the_model_are_as_before() -> None:
    """Padded rows with a mask, after packed ones."""
    model = llama()
    ids, mask = torch.tensor([[0, 0, 3, 1], [5, 3, 5, 8]]), torch.tensor([[0, 0, 1, 1], [1] * 4])
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    supports_packing(model)
    found = model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions)

    assert_close(found.last_hidden_state[0, 2:], alone(model, [3, 1]))


def test_architectures_that_a_row_would_change_are_padded() -> None:
    """A window of attention, two-way attention, and another attention than torch's own."""
    torch.manual_seed(0)
    windowed = MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=3)
    assert not supports_packing(MistralForCausalLM(windowed))
    assert not supports_packing(BertModel(BertConfig(**SIZES, max_position_embeddings=64)))
    assert not supports_packing(llama(attn_implementation="eager"))
    assert supports_packing(llama())


def test_pairs_share_what_they_begin_with_alike() -> None:
    assert group_pair([1, 2, 3, 4], [1, 2, 5]) == PromptGroup([1, 2], ([3, 4], [5]))
    assert group_pair([1, 2, 3], [1, 2]) == PromptGroup([1], ([2, 3], [2]))
    assert group_pair([1, 2], [1, 2]) == PromptGroup([1], ([2], [2]))
    assert group_pair([1], [2]) == PromptGroup([], ([1], [2]))


@pytest.mark.parametrize(
    "groups",
    [
        GROUPS,
        # Nothing is shared, as after cutting at the beginning.
        (group_pair([5, 1, 2], [3, 1]), group_pair([4, 4, 1], [4, 4, 4, 2])),
    ],
)
def test_scores_do_not_depend_on_packing(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, groups: Sequence[PromptGroup]
) -> None:
    card = RewardModelCard(max_length=64)
    model = RewardModel.create(tiny_llama().model, tiny_tokenizer, card, seed=3).double().eval()
    texts = [[*group.prompt, *response] for group in groups for response in group.responses]

    assert supports_packing(model.backbone)
    expected = [float(model.score_encoded([text])) for text in texts]
    assert_close(model.score_groups(groups).tolist(), expected, rtol=1e-5, atol=1e-5)
