"""What counts as a match, word by word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.curation.decontamination.config import DecontaminateConfig
from plumbline.curation.decontamination.samples import EvaluationSet, Sample
from plumbline.curation.decontamination.search import ContaminationSearch
from plumbline.curation.normalize import tokens

TEN = DecontaminateConfig()


def search(samples: Sequence[Sequence[str]], config: DecontaminateConfig) -> ContaminationSearch:
    named = tuple(Sample(str(i), tuple(words)) for i, words in enumerate(samples))
    return ContaminationSearch([EvaluationSet("set", named)], config)


def words(text: str) -> list[str]:
    """One word for each character, so that examples stay readable."""
    return list(text)


def test_nine_words_are_no_match_and_ten_are() -> None:
    found = search([words("abcdefghijklmnop")], TEN)

    assert found.find(["near"], [words("..abcdefghi..")]) == [[]]
    (match,) = found.find(["far"], [words("..abcdefghij..")])[0]
    assert (match.sample, match.start, match.end, match.words) == (0, 2, 12, 10)
    assert found.shares().tolist() == [10 / 16]
    assert found.documents.tolist() == [1]
    assert found.document_ids == [["far"]]


def test_four_words_may_differ_after_the_first_ten() -> None:
    """Sample: a-j klmnopqrs; document: a-j, then every other word differs, x for it.

    k(x) l m(x) n o(x) p q(x) r s(x): four differ, the match ends on r, and a fifth ends it.
    """
    found = search([words("abcdefghijklmnopqrs!")], TEN)

    (match,) = found.find(["d"], [words("abcdefghijxlxnxpxrx!")])[0]
    assert (match.end, match.words) == (18, 14)
    assert found.contaminated_words().tolist() == [14]


def test_a_match_never_ends_on_a_difference() -> None:
    found = search([words("abcdefghij12345")], TEN)

    (match,) = found.find(["d"], [words("abcdefghij67890")])[0]
    assert (match.end, match.words) == (10, 10)


def test_differences_within_the_first_ten_are_not_bridged() -> None:
    """Nine equal words on each side of one that differs."""
    found = search([words("abcdefghi-jklmnopqr")], TEN)

    assert found.find(["d"], [words("abcdefghi+jklmnopqr")]) == [[]]


def test_two_runs_with_a_difference_between_are_one_match_and_its_tail() -> None:
    found = search([words("abcdefghij-klmnopqrst")], TEN)

    matches = found.find(["d"], [words("abcdefghij+klmnopqrst")])[0]
    assert [(m.start, m.end, m.words) for m in matches] == [(0, 21, 20), (11, 21, 10)]
    assert found.contaminated_words().tolist() == [20]


def test_matches_at_different_distances_are_different_matches() -> None:
    """The document holds words 1 to 10 of the sample before words 0 to 9."""
    found = search([words("abcdefghijk")], TEN)

    matches = found.find(["d"], [words("bcdefghijk-----abcdefghij")])[0]
    assert [(m.start, m.end, m.words) for m in matches] == [(0, 10, 10), (15, 25, 10)]


def test_matches_stay_within_their_sample() -> None:
    """The text runs on in the next sample, which has to be found by itself."""
    found = search([words("abcdefghijkl"), words("mnopqr")], TEN)

    (match,) = found.find(["d"], [words("abcdefghijklmnopqr")])[0]
    assert (match.sample, match.words) == (0, 12)


def test_collisions_take_thirteen_and_bridge_nothing() -> None:
    config = DecontaminateConfig(method="collision")
    found = search([words("abcdefghijklm-nop")], config)

    assert found.find(["d"], [words("abcdefghijkl")]) == [[]]
    (match,) = found.find(["d"], [words("abcdefghijklm+nop")])[0]
    assert match.words == 13


def test_chinese_is_compared_character_by_character() -> None:
    question = "中华人民共和国的首都是哪一座城市？"
    found = search([tokens(question)], TEN)

    (match,) = found.find(["d"], [tokens("试题：" + question + "答案：北京。")])[0]
    assert match.words == 16
    assert found.shares().tolist() == [1.0]


def test_templates_count_and_are_not_followed() -> None:
    """Three samples share ten words and go on alike; with one place allowed it is a template."""
    samples = [words("abcdefghij-x1"), words("abcdefghij-x2"), words("abcdefghij-x3")]
    found = search(samples, DecontaminateConfig(template_places=2))

    matches = found.find(["d"], [words("abcdefghij-")])[0]
    assert {match.sample for match in matches} == {0, 1, 2}
    assert found.contaminated_words().tolist() == [11, 11, 11]


def test_short_samples_are_never_found() -> None:
    found = search([words("abc")], TEN)

    assert found.find(["d"], [words("abc" * 10)]) == [[]]
    assert found.shares().tolist() == [0.0]


def brute_shares(
    samples: list[list[str]], documents: list[list[str]], n: int, budget: int
) -> list[float]:
    shares = []
    for sample in samples:
        marked = [False] * len(sample)
        for document in documents:
            for i in range(len(sample) - n + 1):
                for j in range(len(document) - n + 1):
                    if sample[i : i + n] != document[j : j + n]:
                        continue
                    left = budget
                    for k in range(min(len(sample) - i, len(document) - j)):
                        if sample[i + k] == document[j + k]:
                            marked[i + k] = True
                        elif left:
                            left -= 1
                        else:
                            break
        shares.append(sum(marked) / max(len(sample), 1))
    return shares


@settings(max_examples=150, deadline=None)
@given(
    samples=st.lists(st.lists(st.sampled_from("ab"), max_size=25), min_size=1, max_size=4),
    documents=st.lists(st.lists(st.sampled_from("ab"), max_size=25), min_size=1, max_size=4),
    budget=st.integers(0, 3),
)
def test_as_a_search_of_every_place(
    samples: list[list[str]], documents: list[list[str]], budget: int
) -> None:
    """With two letters there are matches everywhere, and many overlap."""
    config = DecontaminateConfig(ngram=5, skip_budget=budget, template_places=1000)
    together, alone = search(samples, config), search(samples, config)
    together.find([str(i) for i in range(len(documents))], documents)
    for i, document in enumerate(documents):
        alone.find([str(i)], [document])

    assert together.shares().tolist() == brute_shares(samples, documents, 5, budget)
    assert np.array_equal(alone.shares(), together.shares())
    assert np.array_equal(alone.documents, together.documents)
