"""The distribution that is sampled from, and drawing from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from plumbline.sampler.drawing import draw_tokens, truncated_logprobs, uniforms_for_seeds

PROBABILITIES = tensor([[0.2, 0.5, 0.3]])
LOGITS = PROBABILITIES.log()


def distribution(*, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> list[float]:
    """Probability of each token id, 0 where it was cut."""
    logprobs, token_ids = truncated_logprobs(
        LOGITS, tensor([temperature], dtype=torch.float64), top_p=top_p, top_k=top_k
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


def test_top_k_of_equal_tokens_keeps_exactly_k_and_the_first_ones() -> None:
    logprobs, token_ids = truncated_logprobs(
        torch.zeros(1, 5), torch.ones(1, dtype=torch.float64), top_p=1.0, top_k=2
    )
    assert token_ids.tolist() == [[0, 1]]
    assert_close(logprobs.exp(), tensor([[0.5, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.19, 0), (0.21, 1), (0.69, 1), (0.71, 2), (1 - 2**-53, 2)]
)
def test_a_token_is_read_off_the_cumulative_distribution(uniform: float, token: int) -> None:
    # Cumulative probabilities: 0.2, 0.7, 1.0.
    tokens, logprobs = draw_tokens(
        LOGITS,
        torch.ones(1, dtype=torch.float64),
        tensor([uniform], dtype=torch.float64),
        top_p=1.0,
        top_k=0,
    )
    assert tokens.tolist() == [token]
    assert logprobs.item() == pytest.approx(float(LOGITS[0, token]))


@pytest.mark.parametrize("vocabulary", [3, 256, 300, 1000])
def test_the_search_by_blocks_finds_what_a_search_over_all_tokens_finds(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 4 * torch.randn(64, vocabulary, generator=generator)
    logits[:, ::3] = -torch.inf
    logits[:, -1] = -torch.inf
    temperatures = 0.5 + torch.rand(64, generator=generator, dtype=torch.float64)
    uniforms = torch.rand(64, generator=generator, dtype=torch.float64)
    uniforms[:2] = tensor([0.0, 1 - 2**-53])

    tokens, logprobs = draw_tokens(logits, temperatures, uniforms, top_p=1.0, top_k=0)

    exact = (logits.double() / temperatures[:, None]).log_softmax(-1)
    cumulative = exact.exp().cumsum(-1).numpy()
    mass = exact.exp().gather(1, tokens[:, None]).squeeze(1)
    assert (mass > 0).all()
    for row, (token, uniform) in enumerate(zip(tokens.tolist(), uniforms.tolist(), strict=True)):
        low = cumulative[row, token - 1] if token else 0.0
        assert low - 1e-6 <= uniform <= cumulative[row, token] + 1e-6
    assert_close(logprobs, exact.gather(1, tokens[:, None]).squeeze(1), atol=1e-5, rtol=0)


def test_a_cut_token_is_never_drawn() -> None:
    uniforms = torch.linspace(0, 1 - 2**-53, 1001, dtype=torch.float64)
    tokens, _ = draw_tokens(
        LOGITS.expand(1001, 3), torch.ones(1001, dtype=torch.float64), uniforms, top_p=0.7, top_k=0
    )
    assert set(tokens.tolist()) == {1, 2}


def test_frequencies_follow_the_distribution() -> None:
    count = 20_000
    uniforms = torch.from_numpy(uniforms_for_seeds(range(count), 1)[:, 0])
    tokens, _ = draw_tokens(
        LOGITS.expand(count, 3), torch.ones(count, dtype=torch.float64), uniforms, top_p=1, top_k=0
    )
    frequencies = torch.bincount(tokens, minlength=3) / count
    # Four standard errors of the widest one: 4 * sqrt(0.25 / 20000) = 0.0141.
    assert_close(frequencies, PROBABILITIES[0], atol=0.0141, rtol=0)


def test_zero_temperature_takes_the_likeliest_beside_rows_that_draw() -> None:
    tokens, logprobs = draw_tokens(
        LOGITS.expand(2, 3),
        tensor([0.0, 1.0], dtype=torch.float64),
        tensor([0.99, 0.99], dtype=torch.float64),
        top_p=1.0,
        top_k=0,
    )
    assert tokens.tolist() == [1, 2]
    assert logprobs.tolist() == pytest.approx([0.0, math.log(0.3)])


def test_uniforms_depend_on_their_seed_alone() -> None:
    together = uniforms_for_seeds([3, 1, 2], 8)
    np.testing.assert_array_equal(together[1], uniforms_for_seeds([1], 8)[0])
    np.testing.assert_array_equal(together[:, :5], uniforms_for_seeds([3, 1, 2], 5))
    assert len(np.unique(together)) == 24
    assert together.min() >= 0 and together.max() < 1
