"""Mentions of groups: whole words, Han terms, overlaps, everyday words, and the file formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.curation.analysis.config import IdentityConfig
from plumbline.curation.analysis.identity import (
    IdentityMatcher,
    builtin_terms,
    load_terms,
    parse_descriptors,
)
from plumbline.curation.normalize import normalize, tokens

NOUNS = ("man", "men", "people")


def matcher(value: Any, **options: Any) -> IdentityMatcher:
    return IdentityMatcher(parse_descriptors(value, where="test"), **options)


def found(matcher: IdentityMatcher, text: str) -> list[str]:
    return [term.term for term in matcher.find(tokens(normalize(text).text)).terms]


def test_words_are_matched_whole() -> None:
    terms = matcher({"orientation": ["gay", "ace", "pan"]})

    assert found(terms, "A pancake in space, nosegay.") == []
    assert found(terms, "He is Gay; she is ACE.") == ["ace", "gay"]


def test_spellings_and_endings_of_one_term_are_found() -> None:
    terms = matcher({"all": ["hard-of-hearing", "Muslim", "Chinese", "hippy"]})

    assert found(terms, "hard of hearing") == found(terms, "Hard‑of‑Hearing") == ["hard-of-hearing"]
    assert found(terms, "the Muslims' and a Muslim’s and muslim's") == ["Muslim"]
    assert found(terms, "two hippies") == ["hippy"]
    assert found(terms, "Ｍｕｓｌｉｍ") == ["Muslim"]
    assert found(matcher({"all": ["Muslim"]}, plurals=False), "Muslims") == []


def test_han_terms_are_found_in_unspaced_text() -> None:
    terms = matcher({"race": ["黑人"], "region": ["东北人"], "race2": ["人"]})

    assert found(terms, "这位黑人和东北人说") == ["黑人", "东北人"]


def test_the_longest_of_overlapping_terms_counts() -> None:
    terms = matcher({"nationality": ["American"], "race": ["Native American", "African-American"]})

    assert found(terms, "a Native American poet") == ["Native American"]
    assert found(terms, "African American and American") == ["American", "African-American"]


def test_neighbouring_terms_are_both_found() -> None:
    terms = matcher({"all": ["gay", "Muslim", "deaf"]})

    assert found(terms, "gay Muslim deaf") == ["Muslim", "deaf", "gay"]


def test_everyday_words_count_before_a_person_only() -> None:
    value = {
        "race": {"white": [{"descriptor": "white", "ambiguous": True}]},
        "gender": ["male"],
    }
    terms = matcher(value, person_nouns=(*NOUNS, "male"))

    mentions = terms.find(tokens("white paint"))
    assert (mentions.terms, [term.term for term in mentions.ambiguous]) == ((), ["white"])
    assert found(terms, "two white men") == ["white"]
    assert terms.find(tokens("white men paint it white")).ambiguous == ()
    # The noun is not used up: it may be a term of its own.
    assert found(terms, "a white male") == ["male", "white"]


def test_groups_are_axes_buckets_and_terms() -> None:
    terms = matcher({"religion": {"all": ["Sikh"]}, "age": {"old": ["elderly"]}})
    mentions = terms.find(tokens("an elderly Sikh, elderly"))

    assert mentions.axes == ("age", "religion")
    assert mentions.groups == (
        "age", "age/old", "age/old/elderly", "religion", "religion/all", "religion/all/Sikh",
    )  # fmt: skip


def test_one_spelling_in_two_axes_mentions_both() -> None:
    terms = matcher({"gender": {"queer": ["LGBTQ", "LGBTQ+"]}, "orientation": ["LGBTQ"]})

    assert [term.key for term in terms.find(["lgbtq"]).terms] == [
        "gender/queer/LGBTQ", "orientation/all/LGBTQ",
    ]  # fmt: skip


def test_the_format_of_the_file_is_checked() -> None:
    for value, message in (
        ([], "list; accepted: an object"),
        ({"a": {"b": "c"}}, "a/b is str; accepted: a list"),
        ({"a/b": ["c"]}, "must not hold '/'"),
        ({"a": [3]}, "int; accepted: an object"),
        ({"a": [{"preference": "reviewed"}]}, "holds no descriptor"),
        ({"a": ["+++"]}, "holds no descriptor"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            list(parse_descriptors(value, where="terms.json"))
    with pytest.raises(InvalidInputError, match="at least one is needed"):
        matcher({})


def test_files_replace_the_builtin_terms_of_their_script(tmp_path: Path) -> None:
    (tmp_path / "en.json").write_text(json.dumps({"religion": ["Quaker"], "nonce": ["stad"]}))
    (tmp_path / "broken.json").write_text("{")
    terms = load_terms([tmp_path / "en.json"], IdentityConfig())

    assert found(terms, "Quaker Muslim stad 穆斯林") == ["Quaker", "穆斯林"]
    assert found(load_terms([], IdentityConfig()), "Quaker Muslim") == ["Muslim"]
    only = load_terms([tmp_path / "en.json"], IdentityConfig(builtin=False))
    assert found(only, "Quaker Muslim 穆斯林") == ["Quaker"]
    with pytest.raises(InvalidInputError, match=r"broken\.json is not JSON"):
        load_terms([tmp_path / "broken.json"], IdentityConfig())


def test_the_builtin_terms_cover_both_languages() -> None:
    axes = {(term.axis, term.bucket) for term in builtin_terms()}

    assert {"religion", "race_ethnicity", "gender_and_sex", "ability"} <= {axis for axis, _ in axes}
    assert {bucket for _, bucket in axes} == {"en", "zh"}


def test_holistic_bias_is_read_whole(public_data: Callable[[str], Path]) -> None:
    path = public_data("holistic_bias/descriptors.json")
    terms = load_terms([path], IdentityConfig(builtin=False))

    assert len({term.axis for term in terms.terms}) == 12  # 13 less the invented words
    assert len(terms.terms) > 550
    for term in terms.terms:
        mentions = terms.find(tokens(normalize(f"I met a {term.term} person.").text))
        assert term in mentions.terms, term
    nouns = tokens("The tulver and the blicket were on the table.")
    assert terms.find(nouns).terms == ()
