"""The distribution that is sampled from, and drawing from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from plumbline.sampler import kernels
from plumbline.sampler.drawing import draw_tokens, truncated_logprobs, uniform_stream

Drawn = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

PROBABILITIES = tensor([[0.2, 0.5, 0.3]])
LOGITS = PROBABILITIES.log()


@pytest.fixture(params=["kernels", "torch"], autouse=True)
def _implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(kernels, "fits", lambda tensor: False)
    elif not kernels.available():
        pytest.skip("the kernels were not built: no C++ compiler when the package was installed")


def cuts(rows: int, *, top_p: float = 1.0, top_k: int = 0, min_p: float = 0.0) -> dict[str, Any]:
    return {
        "top_p": torch.full((rows,), top_p, dtype=torch.float64),
        "top_k": torch.full((rows,), top_k, dtype=torch.int32),
        "min_p": torch.full((rows,), min_p, dtype=torch.float64),
    }


def draw(logits: torch.Tensor, uniforms: Any, *, temperature: Any = 1.0, **changes: Any) -> Drawn:
    rows = len(logits)
    temperatures = torch.as_tensor(temperature, dtype=torch.float64).expand(rows).contiguous()
    uniforms = torch.as_tensor(uniforms, dtype=torch.float64)
    return draw_tokens(logits.contiguous(), temperatures, uniforms, **cuts(rows, **changes))


def distribution(*, temperature: float = 1.0, **changes: Any) -> list[float]:
    """Probability of each token id, 0 where it was cut."""
    logprobs, token_ids = truncated_logprobs(
        LOGITS, tensor([temperature], dtype=torch.float64), **cuts(1, **changes)
    )
    result = [0.0, 0.0, 0.0]
    for column, logprob in zip(token_ids[0].tolist(), logprobs[0].tolist(), strict=True):
        result[column] = math.exp(logprob)
    return result


def test_temperature_one_keeps_the_models_distribution() -> None:
    assert distribution() == pytest.approx([0.2, 0.5, 0.3])


def test_temperature_raises_probabilities_to_its_inverse() -> None:
    # T = 0.5 squares them: 0.04, 0.25, 0.09, which sum to 0.38.
    assert distribution(temperature=0.5) == pytest.approx([0.04 / 0.38, 0.25 / 0.38, 0.09 / 0.38])


def test_top_p_keeps_the_smallest_set_with_its_mass() -> None:
    # 0.5 alone is below 0.7; 0.5 + 0.3 = 0.8 reaches it. Renormalised: 0.625 and 0.375.
    assert distribution(top_p=0.7) == pytest.approx([0.0, 0.625, 0.375])


def test_top_p_below_the_likeliest_keeps_that_one() -> None:
    assert distribution(top_p=0.01) == pytest.approx([0.0, 1.0, 0.0])


def test_top_k_keeps_the_likeliest() -> None:
    assert distribution(top_k=2) == pytest.approx([0.0, 0.625, 0.375])
    assert distribution(top_k=1) == pytest.approx([0.0, 1.0, 0.0])


def test_top_k_above_the_vocabulary_keeps_all() -> None:
    assert distribution(top_k=99) == pytest.approx([0.2, 0.5, 0.3])


def test_min_p_keeps_a_fraction_of_the_likeliest() -> None:
    # 0.5 * 0.5 = 0.25: 0.3 stays and 0.2 goes.
    assert distribution(min_p=0.5) == pytest.approx([0.0, 0.625, 0.375])
    assert distribution(min_p=1.0) == pytest.approx([0.0, 1.0, 0.0])


def test_top_k_of_equal_tokens_keeps_exactly_k_and_the_first_ones() -> None:
    uniforms = torch.linspace(0, 1 - 2**-53, 101)
    tokens, logprobs, _ = draw(torch.zeros(101, 5), uniforms, top_k=2)
    assert set(tokens.tolist()) == {0, 1}
    assert_close(logprobs.exp(), torch.full((101,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.19, 0), (0.21, 1), (0.69, 1), (0.71, 2), (1 - 2**-53, 2)]
)
def test_a_token_is_read_off_the_cumulative_distribution(uniform: float, token: int) -> None:
    # Cumulative probabilities: 0.2, 0.7, 1.0.
    tokens, logprobs, untempered = draw(LOGITS, [uniform])
    assert tokens.tolist() == [token]
    assert logprobs.item() == pytest.approx(float(LOGITS[0, token]))
    assert untempered.item() == pytest.approx(float(LOGITS[0, token]))


def random_rows(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [64, V] of which a third is impossible, temperatures and uniforms."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 4 * torch.randn(64, vocabulary, generator=generator)
    logits[:, ::3] = -torch.inf
    logits[:, -1] = -torch.inf
    temperatures = 0.5 + torch.rand(64, generator=generator, dtype=torch.float64)
    uniforms = torch.rand(64, generator=generator, dtype=torch.float64)
    uniforms[:2] = tensor([0.0, 1 - 2**-53])
    return logits, temperatures, uniforms


@pytest.mark.parametrize("vocabulary", [3, 256, 300, 1000])
def test_the_search_by_blocks_finds_what_a_search_over_all_tokens_finds(vocabulary: int) -> None:
    logits, temperatures, uniforms = random_rows(vocabulary)

    tokens, logprobs, untempered = draw(logits, uniforms, temperature=temperatures)

    exact = (logits.double() / temperatures[:, None]).log_softmax(-1)
    cumulative = exact.exp().cumsum(-1).numpy()
    mass = exact.exp().gather(1, tokens[:, None]).squeeze(1)
    assert (mass > 0).all()
    for row, (token, uniform) in enumerate(zip(tokens.tolist(), uniforms.tolist(), strict=True)):
        low = cumulative[row, token - 1] if token else 0.0
        assert low - 1e-6 <= uniform <= cumulative[row, token] + 1e-6
    assert_close(logprobs, exact.gather(1, tokens[:, None]).squeeze(1), atol=1e-5, rtol=0)
    whole = logits.double().log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)
    assert_close(untempered, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"top_p": 0.9},
        {"top_p": 0.1},
        {"top_k": 5},
        {"min_p": 0.05},
        {"top_k": 20, "top_p": 0.8},
        {"top_k": 100, "top_p": 0.95, "min_p": 0.01},
        {"top_p": 0.9999},
        {"min_p": 1e-9},
    ],
)
@pytest.mark.parametrize("vocabulary", [7, 300, 5000])
def test_cuts_leave_what_sorting_the_whole_vocabulary_leaves(
    vocabulary: int, changes: dict[str, float]
) -> None:
    logits, temperatures, uniforms = random_rows(vocabulary)

    tokens, logprobs, _ = draw(logits, uniforms, temperature=temperatures, **changes)

    exact, token_ids = truncated_logprobs(logits, temperatures, **cuts(64, **changes))
    cumulative = exact.exp().cumsum(-1).numpy()
    for row, (token, uniform) in enumerate(zip(tokens.tolist(), uniforms.tolist(), strict=True)):
        column = token_ids[row].tolist().index(token)
        low = cumulative[row, column - 1] if column else 0.0
        assert low - 1e-6 <= uniform <= cumulative[row, column] + 1e-6
        assert float(logprobs[row]) == pytest.approx(float(exact[row, column]), abs=1e-5)


def test_a_cut_token_is_never_drawn() -> None:
    uniforms = torch.linspace(0, 1 - 2**-53, 1001, dtype=torch.float64)
    tokens, _, _ = draw(LOGITS.expand(1001, 3), uniforms, top_p=0.7)
    assert set(tokens.tolist()) == {1, 2}


def test_frequencies_follow_the_distribution() -> None:
    count = 20_000
    uniforms = [uniform_stream(seed).random() for seed in range(count)]
    tokens, _, _ = draw(LOGITS.expand(count, 3), uniforms)
    frequencies = torch.bincount(tokens, minlength=3) / count
    # Four standard errors of the widest one: 4 * sqrt(0.25 / 20000) = 0.0141.
    assert_close(frequencies, PROBABILITIES[0], atol=0.0141, rtol=0)


def test_zero_temperature_takes_the_likeliest_beside_rows_that_draw() -> None:
    tokens, logprobs, untempered = draw(
        LOGITS.expand(2, 3), [0.99, 0.99], temperature=tensor([0.0, 1.0])
    )
    assert tokens.tolist() == [1, 2]
    assert logprobs.tolist() == pytest.approx([0.0, math.log(0.3)])
    assert untempered.tolist() == pytest.approx([math.log(0.5), math.log(0.3)])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_give_logprobs_that_are_none(
    bad: float, temperature: float
) -> None:
    logits = LOGITS.repeat(2, 1)
    logits[1, 2] = bad

    _, _, untempered = draw(logits, [0.5, 0.5], temperature=temperature)

    assert [math.isnan(value) for value in untempered.tolist()] == [False, True]


def test_a_rows_result_does_not_depend_on_the_rows_beside_it() -> None:
    logits, temperatures, uniforms = random_rows(1000)
    for changes in ({}, {"top_p": 0.9}):
        together = draw(logits, uniforms, temperature=temperatures, **changes)
        alone = draw(logits[7:8], uniforms[7:8], temperature=temperatures[7:8], **changes)
        assert [part[7].item() for part in together] == [part[0].item() for part in alone]


def test_uniforms_depend_on_their_seed_alone_and_not_on_how_many_are_drawn_at_once() -> None:
    stream = uniform_stream(3)
    pieces = np.concatenate([stream.random(5), stream.random(3)])
    np.testing.assert_array_equal(pieces, uniform_stream(3).random(8))
    assert not np.isin(pieces, uniform_stream(1).random(8)).any()
    assert pieces.min() >= 0 and pieces.max() < 1
