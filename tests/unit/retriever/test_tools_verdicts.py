"""Verdicts on statements and citations, each with one passage that decides it."""

from __future__ import annotations

import pytest

from plumbline.retriever.tools.citations import Libraries, Library, check_reference, references
from plumbline.retriever.tools.config import KnowledgeConfig
from plumbline.retriever.tools.knowledge import compare
from plumbline.retriever.tools.records import ClaimVerdict, Document

SUPPORTED, REFUTED, OPEN = (
    ClaimVerdict.SUPPORTED,
    ClaimVerdict.REFUTED,
    ClaimVerdict.NOT_ENOUGH_EVIDENCE,
)
REACTORS = "The United States has 93 operating reactors, more than France with 56 reactors."
DENSITY = "Jupiter is more dense than Saturn."


@pytest.mark.parametrize(
    ("claim", "passage", "verdict"),
    [
        ("The United States has 93 operating reactors", REACTORS, SUPPORTED),
        ("The United States has ninety-three reactors", "The sky is blue.", OPEN),
        ("The United States has 94 operating reactors", REACTORS, REFUTED),
        ("Jupiter is more dense than Saturn", DENSITY, SUPPORTED),
        ("Jupiter is less dense than Saturn", DENSITY, REFUTED),
        ("Saturn is more dense than Jupiter", DENSITY, REFUTED),
        # Reversed and opposite: the same again.
        ("Saturn is less dense than Jupiter", DENSITY, SUPPORTED),
        ("Jupiter is not more dense than Saturn", DENSITY, REFUTED),
        ("The treaty was signed in 1951", "The treaty was signed in 1952.", REFUTED),
        ("The treaty was signed in 1951", "The treaty was signed by 12 states.", OPEN),
        ("Northgate's president is Paul Brand", "Northgate's president is Ann Hale.", REFUTED),
        # Others may have founded it as well.
        ("Paul Brand founded the firm Northgate", "Ann Hale founded the firm Northgate.", OPEN),
        ("Bob Gray wrote the play", "The play was written in a year.", OPEN),
        # One place with other words: refuted where only one thing can stand there.
        ("The spiciest part of a chili is the seeds", "The spiciest part of a chili is the pith.",
         REFUTED),
        ("A wet dog in winter will feel warm", "A wet dog in winter will feel chilly.", OPEN),
        ("No, the earth is flat", "Yes, the earth is flat.", SUPPORTED),
        ("People use 10% of the brain", "It is a myth that people use 10% of the brain.", REFUTED),
        ("居民身份证的有效期为二十年", "居民身份证的有效期为十年。", REFUTED),
        ("居民身份证的有效期为10年", "居民身份证的有效期为十年。", SUPPORTED),
        ("公民可以伪造居民身份证", "公民不得伪造居民身份证。", REFUTED),
        ("公民应当出示居民身份证", "有下列情形之一的，公民应当出示居民身份证证明身份。", SUPPORTED),
        ("居民身份证由人民政府签发", "居民身份证由公安机关签发。", OPEN),
    ],
)  # fmt: skip
def test_what_a_passage_says_about_a_claim(claim: str, passage: str, verdict: ClaimVerdict) -> None:
    found = compare(claim, passage, "", KnowledgeConfig())

    assert found.verdict is verdict, found.why


def test_a_wrong_number_is_corrected() -> None:
    found = compare("The US has 94 operating reactors", REACTORS.replace("United States", "US"), "",
                    KnowledgeConfig())  # fmt: skip

    assert found.correction == "The US has 93 operating reactors"
    assert found.why == "the passage has 93 where the claim has 94"


def test_the_title_says_what_a_passage_is_about() -> None:
    passage = "The capital has a population of 2 million."
    claim, config = "Kyoto has a population of 2 million", KnowledgeConfig()

    assert compare(claim, passage, "", config).verdict is OPEN
    assert compare(claim, passage, "Kyoto", config).verdict is SUPPORTED


def test_thresholds_are_the_operators() -> None:
    strict = KnowledgeConfig(min_support=1.0)
    claim, passage = (
        "The old red bridge near Porto crosses the river",
        ("The old bridge near Porto crosses the river."),
    )

    assert compare(claim, passage, "", KnowledgeConfig()).verdict is SUPPORTED
    assert compare(claim, passage, "", strict).verdict is OPEN


IDENTITY_CARDS = [
    Document(
        "居民身份证法:14",
        "有下列情形之一的，公民应当出示居民身份证证明身份。",
        "中华人民共和国居民身份证法 第三章 第十四条",
    ),
    Document("居民身份证法:14-1", "之一的内容。", "中华人民共和国居民身份证法 第十四条之一"),
]
CIVIL_CODE = Document("civil", "Article 14 Everyone may own things.", "Civil Code")


def verdicts(text: str, *documents: Document) -> list[tuple[str, ClaimVerdict]]:
    libraries = Libraries([Library(documents)], numbered=documents)
    checks = [check_reference(reference, libraries) for reference in references(text)]
    for check in checks:
        assert text[check.start : check.end] == check.claim
    return [(check.claim, check.verdict) for check in checks]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("根据《居民身份证法》第十四条，应当出示。", [("《居民身份证法》第十四条", SUPPORTED)]),
        ("根据居民身份证法第14条之一办理。", [("居民身份证法第14条之一", SUPPORTED)]),
        ("《中华人民共和国居民身份证法》第十四条", [
            ("《中华人民共和国居民身份证法》第十四条", SUPPORTED)]),
        ("《居民身份证法》第九十九条", [("《居民身份证法》第九十九条", REFUTED)]),
        ("《海商法》第一条", [("《海商法》第一条", OPEN)]),
        ("《居民身份证法》第十四条规定：“公民应当出示居民身份证”。", [
            ("《居民身份证法》第十四条", SUPPORTED)]),
        ("《居民身份证法》第十四条规定：“公民可以不出示居民身份证”。", [
            ("《居民身份证法》第十四条", REFUTED)]),
        ("《静夜思》很有名", [("《静夜思》", OPEN)]),
    ],
)  # fmt: skip
def test_chinese_citations(text: str, expected: list[tuple[str, ClaimVerdict]]) -> None:
    assert verdicts(text, *IDENTITY_CARDS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See Article 14 of the Civil Code.", [("Article 14 of the Civil Code", SUPPORTED)]),
        ("See Article 15 of the Civil Code.", [("Article 15 of the Civil Code", REFUTED)]),
        ("See Section 3 of the Road Act.", [("Section 3 of the Road Act", OPEN)]),
        ("It is so [1], not so [2].", [("[1]", SUPPORTED), ("[2]", REFUTED)]),
        ('They say "everyone may own things" [1].', [("[1]", SUPPORTED)]),
        ('They say "nobody may own things" [1].', [("[1]", REFUTED)]),
        ("Take values[2] of the list.", []),
        ("See 10.1000/xyz.123 and https://example.com/a.", [
            ("10.1000/xyz.123", OPEN), ("https://example.com/a", OPEN)]),
    ],
)  # fmt: skip
def test_english_citations(text: str, expected: list[tuple[str, ClaimVerdict]]) -> None:
    assert verdicts(text, CIVIL_CODE) == expected


def test_a_known_identifier_exists() -> None:
    paper = Document("10.1000/xyz.123", "Text.", "On things")

    assert verdicts("See doi 10.1000/XYZ.123.", paper) == [("10.1000/XYZ.123", SUPPORTED)]


def test_numbers_in_brackets_need_documents() -> None:
    check = check_reference(references("So it is [1].")[0], Libraries([]))

    assert check.verdict is OPEN
