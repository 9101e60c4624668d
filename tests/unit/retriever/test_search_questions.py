from __future__ import annotations

from importlib import resources

import pytest
import yaml

from plumbline.retriever.search.questions import read_question


@pytest.mark.parametrize(
    ("asked", "subject"),
    [
        ("What is the tax year?", "tax year?"),
        ("怎么办理护照", "办理护照"),
        ("身份证丢了去哪里补领", "身份证丢 去 补领"),
    ],
)
def test_words_that_make_a_question_are_left_out_of_its_subject(asked: str, subject: str) -> None:
    assert read_question(asked).subject.split() == subject.split()


@pytest.mark.parametrize("asked", ["what is it?", "为什么？", "怎么", ""])
def test_a_question_of_such_words_alone_is_never_empty(asked: str) -> None:
    assert bool(read_question(asked).subject) == bool(asked)
    assert read_question("what is it?").subject == "what is it?"


def test_words_inside_other_words_stay() -> None:
    assert read_question("canonical island").subject == "canonical island"
    assert not read_question("a companyless place").related


def test_everyday_words_bring_those_of_the_rules() -> None:
    assert "解除劳动合同" in read_question("被辞退了").related.split()
    assert "employer" in read_question("My boss does not pay").related.split()
    assert read_question("船舶吨税").related == ""


def test_full_width_and_case_are_read_alike() -> None:
    assert read_question("ＢＯＳＳ").related == read_question("boss").related


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_lists_are_well_formed(language: str) -> None:
    """One character says too little, and a word that is its own meaning would count twice."""
    folder = resources.files("plumbline.retriever.search") / "wording"
    wording = yaml.safe_load((folder / f"{language}.yaml").read_text(encoding="utf-8"))

    spellings = [word for key in wording["meanings"] for word in key.split("|")]

    assert not [word for word in spellings if len(word) < 2 and word not in ("狗", "猫")]
    assert len(spellings) == len(set(spellings))
    for key, meanings in wording["meanings"].items():
        assert meanings
        assert not set(key.split("|")) & set(meanings)
    assert all(isinstance(word, str) for word in wording["ignored"])
    assert len(wording["ignored"]) == len(set(wording["ignored"]))
