"""How much of each source: by hand, and exact for any weights."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.core.errors import ConfigError
from plumbline.curation.mixing.config import MixConfig, SourceConfig, SubsetConfig
from plumbline.curation.mixing.planning import SourceSize, apportion, plan_mix


def fractions(*values: float) -> list[Fraction]:
    return [Fraction(value) for value in values]


def test_largest_remainders_by_hand() -> None:
    """10 by 3 2 1: 5, 3 1/3, 1 2/3; the one left goes to the last."""
    assert apportion(10, fractions(3, 2, 1)) == [5, 3, 2]
    assert apportion(2, fractions(1, 1, 1)) == [1, 1, 0]
    assert apportion(0, fractions(0, 0)) == [0, 0]


@given(
    st.integers(0, 10**9),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any),
)
def test_counts_add_up_and_are_off_by_less_than_one(total: int, weights: list[int]) -> None:
    counts = apportion(total, fractions(*weights))

    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - Fraction(total * weight, sum(weights))) < 1


def test_weights_without_anything() -> None:
    with pytest.raises(ConfigError, match="5 cannot be divided among 2 sources"):
        apportion(5, fractions(0, 0))


BIG_AND_SMALL = [SourceSize("big", 10_000), SourceSize("small", 100)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Everything once.
        (MixConfig(), [10_000, 100]),
        # 100 : 1 of 1010.
        (MixConfig(total=1010), [1000, 10]),
        # Square roots: 100 : 10 of 1100.
        (MixConfig(total=1100, temperature=2), [1000, 100]),
        # Sizes 1000 : 100.
        (MixConfig(total=1100, rate_cap=1000), [1000, 100]),
        # Weights alone.
        (MixConfig(total=1000, temperature=None), [500, 500]),
    ],
)
def test_temperature_and_rate_cap(config: MixConfig, expected: list[int]) -> None:
    assert plan_mix(BIG_AND_SMALL, config) == expected


def test_epochs_come_first_and_the_rest_is_shared() -> None:
    """2.5 epochs of 100 are 250; of the 750 left, 2 : 1 by weight."""
    sources = [
        SourceSize("facts", 100, epochs=2.5),
        SourceSize("web", 1000, weight=2),
        SourceSize("forum", 1000),
    ]

    assert plan_mix(sources, MixConfig(total=1000)) == [250, 500, 250]
    assert plan_mix(sources, MixConfig())[0] == 250
    with pytest.raises(ConfigError, match=r"total=200 records.*give 250; accepted: at least that"):
        plan_mix(sources, MixConfig(total=200))
    with pytest.raises(ConfigError, match=r"total=300 records.*give 250; no other source"):
        plan_mix(sources[:1], MixConfig(total=300))


def test_decimals_are_taken_as_written() -> None:
    """0.7 of 5 is 3.5, which rounds up; the float 0.7 is a little less."""
    assert plan_mix([SourceSize("a", 5, epochs=0.7)], MixConfig()) == [4]
    shares = plan_mix(
        [SourceSize("a", 1, weight=0.1), SourceSize("b", 1, weight=0.3)],
        MixConfig(total=10, temperature=None),
    )
    # 2.5 and 7.5: equal remainders, and the first one gets the one left.
    assert shares == [3, 7]


def test_documents_are_a_share_of_the_whole() -> None:
    """A fifth documents: 80 conversations want 20 documents, whatever there is of them."""
    sources = [
        SourceSize("talks", 80, is_text=False),
        SourceSize("web", 900),
        SourceSize("books", 100),
    ]

    assert plan_mix(sources, MixConfig(pretraining_share=0.2)) == [80, 18, 2]
    assert plan_mix(sources, MixConfig(pretraining_share=0.25, total=40)) == [30, 9, 1]
    assert plan_mix(sources[:1], MixConfig(pretraining_share=0)) == [80]
    with pytest.raises(ConfigError, match="2 sources hold documents and 0 conversations"):
        plan_mix(sources[1:], MixConfig(pretraining_share=0.2))


def test_too_many_epochs_are_refused() -> None:
    config = MixConfig(total=1000, temperature=None, max_epochs=4)

    with pytest.raises(ConfigError, match=r"'small' would be taken 5 times \(500 of 100 records\)"):
        plan_mix(BIG_AND_SMALL, config)


def test_configs_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="'a' is given twice"):
        MixConfig(sources=(SourceConfig(name="a"), SourceConfig(name="a")))
    with pytest.raises(ValueError, match="group 'author' is unknown"):
        MixConfig(group_by="author")
    with pytest.raises(ValueError, match="needs score_field"):
        MixConfig(order="score")
    with pytest.raises(ValueError, match="means nothing for order='shuffled'"):
        MixConfig(descending=True)
    with pytest.raises(ValueError, match="size=None and share=None: exactly one"):
        SubsetConfig()
    with pytest.raises(ValueError, match="group 'x' is unknown"):
        SubsetConfig(size=1, stratify_by=("x",))
