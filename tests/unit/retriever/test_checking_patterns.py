from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.checking.patterns import LinearPattern


def patterns() -> st.SearchStrategy[str]:
    """Patterns of the accepted grammar that Python's engine reads alike."""
    atoms = st.sampled_from(
        ["a", "b", ".", "\\d", "\\W", "[ab]", "[^a]", "[a-c1]", "\\b", "^", "$", "\\.", "好"]
    )
    bounds = st.sampled_from(["?", "*", "+", "{2}", "{0,2}", "{1,}"])

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        group = inner.map(lambda text: f"({text})")
        return st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map("|".join),
            group,
            st.tuples(group, bounds).map("".join),
        )

    return st.recursive(atoms, grown, max_leaves=6)


@settings(max_examples=300, deadline=None)
@given(pattern=patterns(), text=st.text(alphabet="ab1. \n好_", max_size=8))
def test_it_finds_what_the_backtracking_engine_finds(pattern: str, text: str) -> None:
    # Python's $ also matches before a last line break; ours, like \Z, does not.
    expected = re.search(pattern.replace("$", r"\Z"), text) is not None

    assert LinearPattern(pattern).found_in(text) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^Dear .+ bye$", "Dear Ann, bye", True),
        ("^Dear", "O Dear", False),
        (r"\bArticle \d{1,3}\b", "see Article 14 there", True),
        (r"\bArticle \d{1,3}\b", "see Article 1444", False),
        ("(?i)refund", "REFUNDS", True),
        ("refund", "REFUNDS", False),
        (r"[\d-]+", "--", True),
        ("第[一二三]+条", "依照第二条", True),
        ("[]x]", "]", True),
        ("[a^]", "^", True),
    ],
)
def test_examples(pattern: str, text: str, found: bool) -> None:
    assert LinearPattern(pattern).found_in(text) is found


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(a*)*b", "a*a*a*a*a*a*a*b", "(.*a){12}b", "(a|aa)+$"]
)
def test_patterns_that_stop_other_engines_take_linear_time(pattern: str) -> None:
    """At 5,000 characters a backtracking engine would need more steps than there are atoms."""
    matcher = LinearPattern(pattern)
    started = time.process_time()

    matcher.found_in("a" * 5_000 + "!")

    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a" * 301,
        "(a",
        "a)",
        "[a",
        "*a",
        "a**?",
        "(?=a)",
        "(?P<n>a)",
        r"(a)\1",
        "a{1,",
        "a{200}",
        "a{3,1}",
        "a+?",
        r"\q",
        "^*",
        "[b-a]",
        "((a{50}){50}){50}",
        "((((){100}){100}){100}){100}",
        "(" * 21 + "a" + ")" * 21,
        "(" * 300,
    ],
)
def test_what_is_not_accepted_is_refused_with_the_accepted(pattern: str) -> None:
    with pytest.raises(InvalidInputError, match=r"accepted|states"):
        LinearPattern(pattern)
