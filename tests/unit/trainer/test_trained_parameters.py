"""Low-rank adapters, a few layers at a time, and frozen parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.testing import assert_close

from plumbline.core.errors import ConfigError
from plumbline.data.records import Conversation, assistant, user
from plumbline.models.adapters import merge_adapters
from plumbline.models.chat import ChatFormat
from plumbline.trainer.adapters import base_weights, choose_parameters, has_adapters
from plumbline.trainer.config import LISAConfig, LoRAConfig, SFTConfig
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.lisa import LayerSampler
from plumbline.trainer.recipes import sft

IDS = torch.tensor([[1, 40, 41, 42, 43]])


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def config(**changes: Any) -> SFTConfig:
    values: dict[str, Any] = {
        "learning_rate": 1e-2,
        "batch_size": 4,
        "epochs": 6,
        "log_every": 1,
        "warmup_share": 0,
    }
    return SFTConfig(**(values | changes))


def train(model: Any, chat: ChatFormat, config: SFTConfig, context: Any) -> TrainingRun:
    choose_parameters(model, config)
    talks = [
        Conversation(str(i), (user(f"the cat {i}?"), assistant("sat on the mat"))) for i in range(8)
    ]
    examples = sft.encode_conversations(talks, chat, max_length=64).examples
    plan = sft.plan_steps(examples, batch_size=4, epochs=config.epochs, seed=0)
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
    sft.train_sft(model, examples, run, plan, pad_id=chat.pad_id, start=run.resume())
    return run


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model.eval()(input_ids=IDS).logits
    return found


def test_only_adapters_learn_and_the_base_stays_at_hand(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    untrained, model = tiny_llama(), tiny_llama()
    before = logits(untrained)
    run = train(model, chat, config(lora=LoRAConfig(rank=4)), make_context())

    assert run.curves[-1]["loss"] < 0.8 * run.curves[0]["loss"]
    assert has_adapters(model)
    adapted = logits(model)
    assert not torch.equal(adapted, before)
    with base_weights(model):
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), adapted)

    merge_adapters(model)
    assert not has_adapters(model)
    assert_close(logits(model), adapted, atol=1e-5, rtol=1e-4)
    assert set(model.state_dict()) == set(untrained.state_dict())


def test_adapters_go_where_they_are_told(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    choose_parameters(model, config(lora=LoRAConfig(targets=("q_proj", "v_proj"))))

    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 2 * 2
    assert all(".q_proj.lora_" in name or ".v_proj.lora_" in name for name in learning)
    with pytest.raises(ConfigError, match=r"lora.targets=\['query'\].*q_proj"):
        choose_parameters(tiny_llama(), config(lora=LoRAConfig(targets=("query",))))


def test_frozen_parameters_stay_to_the_bit(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    untrained, model = tiny_llama(), tiny_llama()
    train(model, chat, config(freeze=("*embed_tokens*", "*.layers.0.*")), make_context())

    for name, parameter in model.named_parameters():
        stays = "embed_tokens" in name or ".layers.0." in name
        assert torch.equal(parameter, untrained.get_parameter(name)) is stays, name
    with pytest.raises(ConfigError, match="matches no parameter"):
        choose_parameters(tiny_llama(), config(freeze=("*.layer.0.*",)))


def test_lora_and_lisa_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="one of them"):
        config(lora=LoRAConfig(), lisa=LISAConfig())


class Stack(nn.Module):
    """Something like a decoder: an embedding, five layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))
        self.head = nn.Linear(4, 7)

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.embedding(ids)
        for layer in self.layers:
            hidden = hidden + layer(hidden).tanh()
        found: Tensor = self.head(hidden)
        return found


def test_every_layer_has_its_turn_and_the_others_rest(make_context: Callable[..., Any]) -> None:
    """Two of five layers for three steps each; embedding and head always; state goes with them."""
    model = Stack()
    settings = config(lisa=LISAConfig(layers=2, every=3))
    run = TrainingRun({"policy": model}, settings, total_steps=60, context=make_context())
    turns: set[int] = set()
    latest: set[int] = set()
    for step in range(60):
        before = [layer.weight.detach().clone() for layer in model.layers]
        always = [p.detach().clone() for p in (model.embedding.weight, model.head.weight)]
        model(torch.arange(7)).logsumexp(dim=1).sum().backward()
        run.apply_gradients()
        changed = {
            index
            for index, layer in enumerate(model.layers)
            if not torch.equal(layer.weight, before[index])
        }
        assert len(changed) == 2
        if step % 3:
            assert changed == latest
        latest = changed
        turns |= changed
        assert not torch.equal(model.embedding.weight, always[0])
        assert not torch.equal(model.head.weight, always[1])
        held = {id(p) for p in run._optimizer.state}
        learning = {id(p) for layer in model.layers for p in layer.parameters() if p.requires_grad}
        resting = {id(p) for layer in model.layers for p in layer.parameters()} - learning
        assert not held & resting

    assert turns == set(range(5))


def test_layers_follow_from_seed_and_step_alone() -> None:
    settings = LISAConfig(layers=2, every=3)
    one, same, other = (LayerSampler([Stack()], settings, seed=seed) for seed in (1, 1, 2))

    drawn = [one.layers_at(step) for step in range(30)]
    assert drawn == [same.layers_at(step) for step in range(30)]
    assert drawn != [other.layers_at(step) for step in range(30)]
    assert all(drawn[step] == drawn[step - step % 3] for step in range(30))
    with pytest.raises(ConfigError, match=r"lisa\.layers=6, and the model has 5"):
        LayerSampler([Stack()], LISAConfig(layers=6), seed=0)


@pytest.mark.parametrize(
    "changes",
    [{"lora": LoRAConfig(rank=4, dropout=0.1)}, {"lisa": LISAConfig(layers=1, every=2)}],
    ids=["lora", "lisa"],
)
def test_a_resumed_run_repeats_the_uninterrupted_one(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    interrupted: type[Exception],
    changes: dict[str, Any],
) -> None:
    settings = config(checkpoint_every=5, **changes)

    def trained(context: Any) -> tuple[Any, TrainingRun]:
        torch.manual_seed(0)
        model = tiny_llama()
        return model, train(model, chat, settings, context)

    whole, run = trained(make_context("whole"))
    broken = make_context("broken", interrupt_at=7)
    with pytest.raises(interrupted):
        trained(broken)
    broken.interrupt_at = None
    resumed, again = trained(broken)

    assert again.curves == run.curves
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))


def test_adapters_are_merged_into_the_artifact(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    from plumbline.models.checkpoint import load_causal_lm, save_model

    model = tiny_llama()
    choose_parameters(model, config(lora=LoRAConfig()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    expected = logits(model)
    merge_adapters(model)
    save_model(model, tiny_tokenizer, tmp_path / "policy")

    assert_close(logits(load_causal_lm(tmp_path / "policy")[0]), expected, atol=1e-5, rtol=1e-4)
