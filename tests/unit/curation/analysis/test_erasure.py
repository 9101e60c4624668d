"""The erasure check against numbers worked by hand."""

from __future__ import annotations

import json
import random

import pytest

from plumbline.curation.analysis.config import ErasureConfig
from plumbline.curation.analysis.erasure import (
    ANY_RULE,
    ErasureCounter,
    ErasureRow,
    benjamini_hochberg,
    fisher_upper_tail,
    rate_difference,
)


def counted(
    *documents: tuple[int, tuple[str, ...], str, str], min_mentions: int = 1
) -> ErasureCounter:
    """A counter of (how many, groups, language, rule)."""
    counter = ErasureCounter(ErasureConfig(min_mentions=min_mentions))
    for count, groups, language, rule in documents:
        for _ in range(count):
            counter.add(groups, language, rule)
    return counter


def row(counter: ErasureCounter, rule: str, group: str) -> ErasureRow:
    (found,) = [row for row in counter.report() if (row.rule, row.group) == (rule, group)]
    return found


def test_removals_are_compared_with_all_documents_of_the_language() -> None:
    """Of 50 documents on religion 20 go (40 %), of all 200 English ones 30 (15 %): +25 points.

    Chinese documents, of which none goes, change nothing.
    """
    counter = counted(
        (20, ("religion",), "en", "toxicity"),
        (30, ("religion",), "en", ""),
        (10, (), "en", "toxicity"),
        (140, (), "en", ""),
        (500, ("religion",), "zh", ""),
    )

    found = row(counter, "toxicity", "religion")
    assert (found.mentions, found.mentions_removed) == (50, 20)
    assert (found.documents, found.documents_removed) == (200, 30)
    assert found.difference == pytest.approx(0.25)
    assert found.flagged and found.significant
    assert {row.language for row in counter.report()} == {"en"}


def test_the_interval_is_newcombes_scaled_by_the_share_of_the_rest() -> None:
    """Newcombe's own example: 56/70 against 48/80 differ by 0.2, interval 0.0524 to 0.3339.

    Here the 80 are the rest of 150, so the difference to the whole is 80/150 of that.
    """
    found = rate_difference(56, 70, 56 + 48, 150)

    assert found.value == pytest.approx(0.2 * 80 / 150)
    assert found.low == pytest.approx(0.0524 * 80 / 150, abs=5e-5)
    assert found.high == pytest.approx(0.3339 * 80 / 150, abs=5e-5)
    assert found.value == pytest.approx(56 / 70 - 104 / 150)


def test_a_group_that_every_document_mentions_cannot_differ() -> None:
    found = rate_difference(3, 10, 3, 10)

    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_fishers_tail_by_hand() -> None:
    """The lady tasting tea: 3 or 4 of 4 cups right by chance is (16 + 1) / 70."""
    assert fisher_upper_tail(3, 4, 4, 8) == pytest.approx(17 / 70)
    assert fisher_upper_tail(4, 4, 4, 8) == pytest.approx(1 / 70)
    assert fisher_upper_tail(0, 4, 4, 8) == 1.0
    assert fisher_upper_tail(5, 5, 4, 8) == 0.0
    # 3 of 3 drawn while 6 of 8 were removed, so at least 1 must be: C(6,3) / C(8,3) = 20 / 56.
    assert fisher_upper_tail(3, 3, 6, 8) == pytest.approx(20 / 56)
    assert fisher_upper_tail(1, 3, 6, 8) == 1.0


def test_benjamini_hochberg_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04, 0.5 times 4/rank: 0.04, 0.04, 0.0533, 0.5; never decreasing."""
    adjusted = benjamini_hochberg([0.04, 0.01, 0.5, 0.02])

    assert adjusted == pytest.approx([4 * 0.04 / 3, 0.04, 0.5, 0.04])
    assert benjamini_hochberg([]) == []


def test_a_rule_is_told_apart_from_all_rules() -> None:
    counter = counted(
        (6, ("age",), "en", "lexicon"), (4, ("age",), "en", "quality"), (10, (), "en", "")
    )

    assert row(counter, "lexicon", "age").documents_removed == 6
    assert row(counter, ANY_RULE, "age").documents_removed == 10


def test_groups_without_support_are_not_compared() -> None:
    counter = counted(
        (2, ("age",), "en", "lexicon"), (3, ("religion",), "en", ""), (9, (), "en", ""),
        min_mentions=3,
    )  # fmt: skip

    assert {row.group for row in counter.report()} == {"religion"}


def test_a_term_that_is_all_of_its_axis_is_not_compared_twice() -> None:
    both = ("religion", "religion/all", "religion/all/Muslim")
    axis = ("religion", "religion/all", "religion/all/Sikh")
    counter = counted((5, both, "en", "lexicon"), (4, axis, "en", ""), (9, (), "en", ""))

    assert {row.group for row in counter.report()} == {
        "religion", "religion/all/Muslim", "religion/all/Sikh",
    }  # fmt: skip


def test_a_small_excess_is_not_flagged() -> None:
    """3 of 20 against 20 of 200: the interval of 5 points reaches below 0."""
    counter = counted(
        (3, ("age",), "en", "lexicon"), (17, ("age",), "en", ""),
        (17, (), "en", "lexicon"), (163, (), "en", ""),
    )  # fmt: skip

    found = row(counter, "lexicon", "age")
    assert found.difference == pytest.approx(0.05)
    assert found.low < 0 < found.high
    assert not found.flagged and not found.significant


def test_counters_of_shards_add_up_in_any_order() -> None:
    rng = random.Random(7)
    documents = [
        (
            tuple(rng.sample(["age", "religion", "ability"], rng.randrange(3))),
            rng.choice(["en", "zh"]),
            rng.choice(["", "", "lexicon", "length"]),
        )
        for _ in range(600)
    ]
    whole, left, right = (ErasureCounter(ErasureConfig(min_mentions=5)) for _ in range(3))
    for index, document in enumerate(documents):
        whole.add(*document)
        (left if index % 3 else right).add(*document)

    assert (left + right).report() == (right + left).report() == whole.report()
    written = json.loads(json.dumps(left.to_json()))
    again = ErasureCounter.from_json(written, ErasureConfig(min_mentions=5))
    assert (again + right).report() == whole.report()


def test_a_group_named_twice_counts_once() -> None:
    counter = counted((1, ("age", "age"), "en", "lexicon"))

    assert row(counter, "lexicon", "age").mentions == 1
