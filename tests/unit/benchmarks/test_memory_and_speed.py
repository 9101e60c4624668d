"""The memory table counts to the byte, and the accelerator's benchmark runs on a small model."""

from __future__ import annotations

import dataclasses

import accelerator_bench
import accelerator_sampling
import memory_table
import pytest
from accelerator_bench import TINY_SIZE, WORK, measure
from training_work import LLAMA_1B, TINY, TimedContext, new_model

FOUR_LAYERS = dataclasses.replace(TINY, layers=4)
FLOAT = 4


def held(way: str) -> memory_table.Held:
    return memory_table.measure(way, FOUR_LAYERS, steps=3, batch=2, length=16)


def test_matrices_are_counted_as_the_model_has_them() -> None:
    model = new_model(TINY, context_length=16)
    # The head is tied to the embeddings, which stand among the parameters once.
    assert TINY.matrix_parameters == sum(p.numel() for p in model.parameters() if p.ndim == 2)
    # 16 layers of 2 * 2048^2 + 2 * 2048 * 512 + 3 * 2048 * 8192, and a head of 128256 * 2048.
    assert LLAMA_1B.matrix_parameters == 16 * 60_817_408 + 262_668_288


def test_operations_of_a_token() -> None:
    """6 * 1 235 746 816 parameters, and 6 * 16 * 2048 * 2048 for half of a text of 2048."""
    assert LLAMA_1B.training_operations(2048) == 6 * 1_235_746_816 + 402_653_184


def test_full_training_holds_weights_four_times() -> None:
    """Weights, gradients and two moments; the optimizer counts steps in a float a parameter."""
    model = new_model(FOUR_LAYERS, context_length=16)
    weights = sum(p.numel() for p in model.parameters()) * FLOAT

    found = held("full")

    assert found.parameters == found.gradients == weights
    assert found.optimizer == 2 * weights + len(list(model.parameters())) * FLOAT
    assert held("full, recomputing").state == found.state


def test_lisa_holds_gradients_of_two_layers_and_what_always_learns() -> None:
    model = new_model(FOUR_LAYERS, context_length=16)
    weights = sum(p.numel() for p in model.parameters()) * FLOAT
    layers = sum(p.numel() for p in model.model.layers.parameters()) * FLOAT

    found = held("LISA, 2 layers")

    assert found.parameters == weights
    assert found.gradients == weights - layers // 2


def test_lora_holds_gradients_of_its_adapters_alone() -> None:
    """Rank 8 on q, o (32 by 32), k, v (32 by 16), gate, up, down (32 by 64) of four layers."""
    adapters = 4 * 8 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64)) * FLOAT

    assert held("LoRA, rank 8").gradients == adapters


def test_units_after_the_warm_up_are_timed() -> None:
    context = TimedContext(ends=[10.0, 11.0, 11.5, 13.0])

    assert context.durations(warm_up=2) == [0.5, 1.5]


@pytest.mark.parametrize("work", WORK)
def test_every_piece_of_work_runs(work: str) -> None:
    found = measure(work, TINY_SIZE, length=64, device="cpu")

    assert found.step_s > 0
    assert found.peak_memory_bytes is None and found.utilisation is None


def test_without_an_accelerator_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accelerator_bench, "has_accelerator", lambda: False)

    assert accelerator_bench.main([]) == 1
    assert "torch sees no accelerator" in capsys.readouterr().err


def test_drawing_on_an_accelerator_is_measured_by_code_that_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert accelerator_sampling.main(["--tiny", "--device", "cpu"]) == 0

    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == ["1", "4"]
