"""Schedules, batches, optimizer state and divergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from plumbline.core.errors import FailedPreconditionError
from plumbline.trainer.batches import cyclic_indices, microbatches, step_batches
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.engine import TrainingRun, check_finite, learning_rate_at
from plumbline.trainer.execution import deterministic


def test_learning_rate_warms_up_and_falls_to_its_share() -> None:
    config = SFTConfig(learning_rate=1.0, warmup_share=0.2, minimum_learning_rate_share=0.1)

    rates = [learning_rate_at(step, 10, config) for step in (0, 1, 2, 6, 10)]

    # Two warm-up steps; half-way down the cosine lies (1 + 0.1) / 2; the end is a tenth.
    assert_close(torch.tensor(rates), torch.tensor([0.5, 1.0, 1.0, 0.55, 0.1]))


def test_constant_schedule_stays() -> None:
    config = SFTConfig(learning_rate=2.0, schedule="constant", minimum_warmup_steps=4)

    assert [learning_rate_at(step, 10, config) for step in (0, 3, 9)] == [0.5, 2.0, 2.0]


def test_every_example_occurs_once_an_epoch() -> None:
    lengths = [index % 7 + 1 for index in range(50)]

    steps = step_batches(lengths, batch_size=8, epochs=2, seed=3)

    assert steps == step_batches(lengths, batch_size=8, epochs=2, seed=3)
    assert steps != step_batches(lengths, batch_size=8, epochs=2, seed=4)
    per_epoch = len(steps) // 2
    for epoch in (steps[:per_epoch], steps[per_epoch:]):
        assert sorted(index for batch in epoch for index in batch) == list(range(50))


def test_step_limit_cuts_the_plan() -> None:
    whole = step_batches([1] * 50, batch_size=8, epochs=3, seed=0)

    assert step_batches([1] * 50, batch_size=8, epochs=3, seed=0, max_steps=9) == whole[:9]


def test_microbatches_hold_the_steps_examples() -> None:
    parts = microbatches([4, 7, 9], {4: 10, 7: 30, 9: 10}, tokens_per_microbatch=30)

    assert parts == [[7], [4, 9]]


def test_prompt_stream_continues_where_it_stopped() -> None:
    whole = cyclic_indices(5, start=0, size=12, seed=1)

    assert cyclic_indices(5, start=4, size=8, seed=1) == whole[4:]
    assert sorted(whole[:5]) == sorted(whole[5:10]) == list(range(5))


def test_resumed_optimizer_takes_the_same_steps(make_context: Callable[..., Any]) -> None:
    def layer() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    def take_steps(module: nn.Linear, run: TrainingRun, steps: int) -> None:
        for step in range(run.optimizer_steps, steps):
            module(torch.full((4, 3), float(step + 1))).square().sum().backward()
            run.apply_gradients()

    config = SFTConfig(learning_rate=0.1)
    whole, halved, resumed = layer(), layer(), layer()
    take_steps(
        whole, TrainingRun({"m": whole}, config, total_steps=6, context=make_context("w")), 6
    )
    context = make_context("h")
    first = TrainingRun({"m": halved}, config, total_steps=6, context=context)
    take_steps(halved, first, 3)
    first.state = {"kl_coef": 0.3}
    first.save(3)

    second = TrainingRun({"m": resumed}, config, total_steps=6, context=context)
    assert second.resume() == 3
    assert second.state == {"kl_coef": 0.3}
    take_steps(resumed, second, 6)

    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_norms_and_biases_do_not_decay(make_context: Callable[..., Any]) -> None:
    module = nn.Linear(3, 2)
    before = module.bias.detach().clone()
    config = SFTConfig(learning_rate=0.1, weight_decay=0.5, schedule="constant", warmup_share=0)
    run = TrainingRun({"m": module}, config, total_steps=1, context=make_context())
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight = module.weight.detach().clone()

    run.apply_gradients()

    assert torch.equal(module.bias, before)
    assert_close(module.weight.detach(), weight * (1 - 0.1 * 0.5))


def test_loss_that_is_no_number_names_the_batch() -> None:
    check_finite(1.0, step=3, batch="examples [1]")

    with pytest.raises(FailedPreconditionError, match=r"step 3, on examples \[1, 2\]") as stopped:
        check_finite(float("nan"), step=3, batch="examples [1, 2]")
    assert stopped.value.reason == "LOSS_NOT_FINITE"


def test_determinism_is_undone_on_leaving() -> None:
    threads = torch.get_num_threads()

    with deterministic(seed=5, threads=1):
        first = torch.rand(3)
        assert torch.are_deterministic_algorithms_enabled()
    with deterministic(seed=5, threads=1):
        assert torch.equal(torch.rand(3), first)

    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads
