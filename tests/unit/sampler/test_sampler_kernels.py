"""The kernels beside torch, on shapes drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from plumbline.sampler import kernels
from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.paged_cache import CacheShape, PagedCache, Queries, StepPlan

pytestmark = pytest.mark.skipif(
    not kernels.available(), reason="the kernels were not built: no C++ compiler at installation"
)


def int32(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def plan_of(
    before: list[int], counts: list[int], tables: torch.Tensor, groups: list[tuple[int, int]]
) -> StepPlan:
    """A step that adds `counts` tokens to sequences of `before` tokens."""
    positions = [start + i for start, n in zip(before, counts, strict=True) for i in range(n)]
    rows = [s for s, n in enumerate(counts) for _ in range(n)]
    slots = [
        int(tables[row, place // BLOCK_TOKENS]) * BLOCK_TOKENS + place % BLOCK_TOKENS
        for row, place in zip(rows, positions, strict=True)
    ]
    ends = torch.tensor(counts).cumsum(0).tolist()
    members = torch.tensor([size for size, _ in groups]).cumsum(0).tolist()
    lengths = [start + n for start, n in zip(before, counts, strict=True)]
    return StepPlan(
        input_ids=torch.zeros(len(positions), dtype=torch.int64),
        slots=int32(slots),
        tables=tables,
        lengths=int32(lengths),
        group_start=int32([0, *members]),
        group_shared=int32([shared for _, shared in groups]),
        tokens=Queries(tuple(counts), int32([0, *ends]), int32(positions)),
        logit_rows=torch.tensor(ends) - 1,
        wanted=Queries(
            (1,) * len(counts),
            int32(list(range(len(counts) + 1))),
            int32([positions[end - 1] for end in ends]),
        ),
        max_length=max(lengths),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([2, 8, 16, 24, 64, 80]),
    st.lists(st.tuples(st.integers(0, 70), st.integers(1, 40)), min_size=1, max_size=6),
    st.sampled_from([0, 5, 30]),
    st.sampled_from([0.0, 3.0]),
    st.integers(0, 2**31),
)
def test_paged_attention_is_attention(
    kv_heads: int,
    repeats: int,
    width: int,
    sequences: list[tuple[int, int]],
    window: int,
    softcap: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    cache = PagedCache(
        CacheShape(1, kv_heads, width), 64, dtype=torch.float32, device=torch.device("cpu")
    )
    order = torch.randperm(64, generator=generator).to(torch.int32)
    tables = order[: len(sequences) * 8].view(len(sequences), 8).contiguous()
    heads = kv_heads * repeats
    texts = []
    for before, count in sequences:
        total = before + count
        texts.append(
            tuple(
                torch.randn(total, n, width, generator=generator)
                for n in (heads, kv_heads, kv_heads)
            )
        )
    # First what came before, then the step that is looked at.
    earlier = [index for index, (before, _) in enumerate(sequences) if before]
    if earlier:
        counts = [sequences[index][0] for index in earlier]
        plan = plan_of([0] * len(earlier), counts, tables[earlier], [(1, 0)] * len(earlier))
        parts = [torch.cat([texts[i][p][: sequences[i][0]] for i in earlier]) for p in range(3)]
        attend(cache, parts, plan)
    plan = plan_of(
        [before for before, _ in sequences],
        [count for _, count in sequences],
        tables,
        [(1, 0)] * len(sequences),
    )
    parts = [
        torch.cat([text[p][before:] for text, (before, _) in zip(texts, sequences, strict=True)])
        for p in range(3)
    ]

    found = attend(cache, parts, plan, window=window, softcap=softcap)

    expected = torch.cat(
        [
            naive(*text, window=window, softcap=softcap)[before:]
            for text, (before, _) in zip(texts, sequences, strict=True)
        ]
    )
    assert_close(found, expected, atol=2e-5, rtol=1e-4)


def attend(
    cache: PagedCache, parts: Sequence[torch.Tensor], plan: StepPlan, **options: Any
) -> torch.Tensor:
    """Attention of a step's tokens, whose keys and values are kept first."""
    query, key, value = (part.clone() for part in parts)
    cache.keep(0, key, value, plan)
    return cache.attend(0, query, plan, plan.tokens, scale=0.3, **options)


def naive(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, window: int, softcap: float
) -> torch.Tensor:
    """Attention of a whole text [T, heads, width] in float64, with the full matrix."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(repeats, dim=1).double() for part in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query.double(), key) * 0.3
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    places = torch.arange(len(query))
    distance = places[:, None] - places
    seen = distance >= 0
    if window:
        seen &= distance < window
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value).float()


def test_the_last_tokens_alone_get_what_they_get_beside_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    cache = PagedCache(CacheShape(1, 2, 24), 8, dtype=torch.float32, device=torch.device("cpu"))
    parts = [torch.randn(30, n, 24, generator=generator) for n in (4, 2, 2)]
    plan = plan_of([0, 0], [20, 10], int32([0, 1, 2, 3]).view(2, 2), [(1, 0), (1, 0)])

    whole = attend(cache, parts, plan)
    last = cache.attend(0, parts[0][plan.logit_rows], plan, plan.wanted, scale=0.3)

    assert torch.equal(last, whole[plan.logit_rows])


def test_sharing_a_load_of_the_prompt_changes_no_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = CacheShape(1, 2, 24)
    cache = PagedCache(shape, 64, dtype=torch.float32, device=torch.device("cpu"))
    prompt, rows = 37, 9
    tables = torch.zeros(rows, 4, dtype=torch.int32)
    tables[:, 2] = torch.arange(10, 10 + rows)
    tables[:, :2] = int32([3, 1])
    parts = [torch.randn(prompt, n, 24, generator=generator) for n in (4, 2, 2)]
    attend(cache, parts, plan_of([0], [prompt], tables[:1], [(1, 0)]))
    cache.copy_blocks([10] * (rows - 1), list(range(11, 10 + rows)))
    step: list[Any] = [torch.randn(rows, n, 24, generator=generator) for n in (4, 2, 2)]
    found = []
    for groups in ([(rows, 2)], [(4, 2), (5, 1)], [(1, 0)] * rows):
        plan = plan_of([prompt] * rows, [1] * rows, tables, groups)
        found.append(attend(cache, step, plan))

    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_large_scores_do_not_overflow() -> None:
    cache = PagedCache(CacheShape(1, 1, 16), 4, dtype=torch.float32, device=torch.device("cpu"))
    parts = [torch.full((20, 1, 16), 100.0) for _ in range(3)]
    plan = plan_of([0], [20], torch.tensor([[0, 1]], dtype=torch.int32), [(1, 0)])

    found = attend(cache, parts, plan)

    assert_close(found, torch.full((20, 1, 16), 100.0))


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 64), (300, 100)])
def test_norm_and_gate_are_torchs(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    x, up = (8 * torch.randn(*shape, generator=generator) for _ in range(2))
    weight = torch.randn(shape[1], generator=generator)

    normed = kernels.rms_norm(x, weight, 1e-5)

    assert_close(normed, F.rms_norm(x, (shape[1],), weight, 1e-5), atol=1e-5, rtol=1e-5)
    expected = F.silu(x) * up
    assert_close(kernels.silu_mul_(x.clone(), up), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("outputs", "inputs"), [(32, 32), (512, 64), (704, 256), (1408, 512)])
def test_rows_of_a_product_do_not_depend_on_their_number(outputs: int, inputs: int) -> None:
    """What the engine builds on: it only computes multiples of eight rows."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(outputs, inputs, generator=generator)
    x = torch.randn(768, inputs, generator=generator)
    added = torch.randn(768, outputs, generator=generator)
    whole = F.linear(x, weight), torch.addmm(added, x, weight.t())
    for rows in (8, 16, 24, 40, 64, 136, 256, 520):
        # Copied, so that rows begin where a step's tensors begin.
        part = x[:rows].clone()
        assert torch.equal(F.linear(part, weight), whole[0][:rows])
        assert torch.equal(torch.addmm(added[:rows].clone(), part, weight.t()), whole[1][:rows])


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(4, 8, dtype=torch.bfloat16), torch.zeros(8, 4).t()],
    ids=["type", "layout"],
)
def test_what_a_kernel_would_misread_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="a kernel was given"):
        kernels.rms_norm(wrong, torch.ones(8), 1e-5)
    with pytest.raises(ValueError, match="a kernel was given"):
        kernels.silu_mul_(torch.zeros(4, 8), wrong)
