"""Seeds of prompts and responses."""

from __future__ import annotations

from plumbline.sampler.seeds import MAX_SEED, derive_seed, prompt_seeds


def test_response_zero_keeps_the_prompts_seed() -> None:
    assert derive_seed(123, 0) == 123


def test_a_derived_seed_draws_its_response_as_response_zero() -> None:
    assert derive_seed(derive_seed(7, 3), 0) == derive_seed(7, 3)


def test_derived_seeds_differ_and_fit_signed_columns() -> None:
    seeds = {derive_seed(seed, j) for seed in (0, 1, 2, MAX_SEED) for j in range(64)}
    assert len(seeds) == 4 * 64
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


def test_prompt_seeds_do_not_depend_on_order_or_company() -> None:
    a, b, c = prompt_seeds(5, ["a", "b", "c"])
    assert prompt_seeds(5, ["c", "a"]) == [c, a]
    assert len({a, b, c}) == 3


def test_another_run_seed_or_a_repeated_prompt_gives_another_seed() -> None:
    first, second = prompt_seeds(5, ["a", "a"])
    assert first != second
    assert prompt_seeds(6, ["a"]) != [first]
