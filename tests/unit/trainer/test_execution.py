"""Mixed precision, recomputed activations and compiled layers change cost and rounding alone."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from plumbline.core.errors import ConfigError
from plumbline.models.packing import PromptGroup, supports_packing
from plumbline.trainer.adapters import choose_parameters
from plumbline.trainer.config import LoRAConfig, SFTConfig
from plumbline.trainer.execution import autocast, prepare_layers
from plumbline.trainer.forward import counted_loss, response_logprobs

TEXTS = [[1, 40, 41, 42, 43], [1, 50, 51, 52], [1, 60, 61, 62, 63, 64, 65]]
COUNTED = [[False, False] + [True] * (len(text) - 2) for text in TEXTS]
PAIR = PromptGroup((1, 40, 41), ((50, 51, 52), (60, 61)))
HALF = SFTConfig(precision="bfloat16")
CPU = torch.device("cpu")


def loss_of(model: Any, texts: int = len(TEXTS)) -> Tensor:
    return counted_loss(model, TEXTS[:texts], COUNTED[:texts], denominator=11, pad_id=0)


def gradients(model: Any, texts: int = len(TEXTS)) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    loss = loss_of(model, texts)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def prepared(model: Any, **changes: Any) -> Any:
    prepare_layers(model, SFTConfig(**changes))
    return model


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
def test_recomputed_layers_give_the_same_gradients_to_the_bit(
    tiny_llama: Callable[..., Any], training: bool
) -> None:
    plain = tiny_llama().train(training)
    recomputing = prepared(tiny_llama(), activation_checkpointing=True).train(training)

    expected, found = gradients(plain), gradients(recomputing)

    assert found[0] == expected[0]
    assert all(torch.equal(found[1][name], gradient) for name, gradient in expected[1].items())


def test_recomputed_dropout_draws_the_same_places(tiny_llama: Callable[..., Any]) -> None:
    def adapted(**changes: Any) -> tuple[float, dict[str, Tensor]]:
        settings = SFTConfig(lora=LoRAConfig(rank=4, dropout=0.5), **changes)
        torch.manual_seed(1)
        model = tiny_llama()
        choose_parameters(model, settings)
        prepare_layers(model, settings)
        return gradients(model.train())

    expected, found = adapted(), adapted(activation_checkpointing=True)

    assert found[0] == expected[0]
    assert all(torch.equal(found[1][name], gradient) for name, gradient in expected[1].items())


def test_recomputing_keeps_less(tiny_llama: Callable[..., Any]) -> None:
    def kept_bytes(model: Any) -> int:
        kept = 0

        def note(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss_of(model)
        return kept

    recomputing = prepared(tiny_llama(), activation_checkpointing=True)

    assert kept_bytes(recomputing) < 0.5 * kept_bytes(tiny_llama())


def test_a_copy_calls_its_own_layers(tiny_llama: Callable[..., Any]) -> None:
    """A reference is a copy of the policy; it must not follow what the policy learns."""
    policy = prepared(tiny_llama(), activation_checkpointing=True)
    before = loss_of(policy).item()
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in policy.model.layers.parameters():
            parameter.mul_(1.5)

    assert loss_of(reference).item() == before
    assert loss_of(policy).item() != before


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="activation_checkpointing=True, and the model Linear"):
        prepare_layers(nn.Linear(2, 2), SFTConfig(activation_checkpointing=True))


def test_half_precision_rounds_the_loss_and_leaves_the_weights(
    tiny_llama: Callable[..., Any],
) -> None:
    model = tiny_llama()
    exact, exact_gradients = gradients(model)
    with autocast(HALF, CPU):
        rounded, found = gradients(model)

    # bfloat16 keeps 8 bits: each product is off by up to 1/256 of itself.
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=1 / 64)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    for name, gradient in exact_gradients.items():
        assert found[name].dtype == torch.float32
        assert float((found[name] - gradient).norm() / gradient.norm()) < 0.1, name


def test_half_precision_sees_what_the_optimizer_changed(tiny_llama: Callable[..., Any]) -> None:
    model, fresh = tiny_llama(), tiny_llama()
    with autocast(HALF, CPU):
        before = loss_of(model).item()
        with torch.no_grad():
            for weights in (model, fresh):
                for parameter in weights.parameters():
                    parameter.mul_(0.5)
        after = loss_of(model).item()
    with autocast(HALF, CPU):
        assert loss_of(fresh).item() == after != before


@pytest.mark.parametrize("training", [False, True], ids=["scored", "trained"])
def test_packing_holds_in_half_precision(tiny_llama: Callable[..., Any], training: bool) -> None:
    model = prepared(tiny_llama(), activation_checkpointing=training)
    exact = response_logprobs(tiny_llama(), [PAIR], pad_id=0)
    with autocast(HALF, CPU), torch.set_grad_enabled(training):
        assert supports_packing(model)
        found = response_logprobs(model, [PAIR], pad_id=0)

    assert found.dtype == torch.float32
    assert_close(found, exact, atol=0.1, rtol=0.05)


def test_packing_holds_for_weights_of_half_precision(tiny_llama: Callable[..., Any]) -> None:
    assert supports_packing(tiny_llama().to(torch.bfloat16))


# Tracing asks every tensor for its gradient, also those within the graph, which have none.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_compiled_layers_agree(
    tiny_llama: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, recompute: bool
) -> None:
    """This backend traces, splits and differentiates as the usual one, and writes no C++."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    counters.clear()
    plain = tiny_llama().train()
    compiled = prepared(tiny_llama(), compile=True, activation_checkpointing=recompute).train()

    for count in (3, 2):
        expected, found = gradients(plain, count), gradients(compiled, count)
        assert found[0] == pytest.approx(expected[0], rel=1e-5)
        for name, gradient in expected[1].items():
            assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-4)
    # Parts before and after attention, of all layers and layouts alike.
    assert 0 < counters["stats"]["unique_graphs"] <= 4
