"""Names in Latin script."""

from __future__ import annotations

import pytest

from plumbline.curation.pii.names.config import NamesConfig
from plumbline.curation.pii.names.recognizer import NameRecognizer
from plumbline.curation.pii.spans import without_overlaps

NAMES = NameRecognizer(NamesConfig(languages=("en",)))


def names_in(text: str, recognizer: NameRecognizer = NAMES) -> list[str]:
    spans = without_overlaps(recognizer.find([text])[0])
    assert all(span.type == "PERSON" and 0 < span.confidence <= 1 for span in spans)
    return [text[span.start : span.end] for span in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yesterday Samantha Whitfield called.", ["Samantha Whitfield"]),
        ("It was signed by Giovanni van der Berg.", ["Giovanni van der Berg"]),
        ("We asked Mary K. Thornton Jr. about it.", ["Mary K. Thornton Jr"]),
        ("J. Kowalski wrote it.", ["J. Kowalski"]),
        ("JOHN SMITH was late.", ["JOHN SMITH"]),
        ("then Björn Åkesson left", ["Björn Åkesson"]),
        ("Please thank Tamara for it.", ["Tamara"]),
    ],
)
def test_given_names_and_surnames_make_names(text: str, expected: list[str]) -> None:
    assert names_in(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Vixterholm will see you.", ["Vixterholm"]),
        ("Ask Mr Quillory.", ["Quillory"]),
        ("my name is Zorvath Quint", ["Zorvath Quint"]),
        ("my name is olivia hartmann.", ["olivia hartmann"]),
        ("Dear Ms. O'Brien,\nhello", ["O'Brien"]),
        ("Best regards,\nRose Baker", ["Rose Baker"]),
        ("I'm May, nice to meet you", ["May"][:0]),
        ("Hello, I'm Rose and I need help", ["Rose"]),
        ('{"full_name": "Alice Johnson"}', ["Alice Johnson"]),
    ],
)
def test_words_before_ask_for_a_name(text: str, expected: list[str]) -> None:
    assert names_in(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "In May we will visit Paris, Florence and Washington in the state of Georgia.",
        "Will the market rise? Mark my words, Grace is a virtue and Hope is eternal.",
        "The Michael Jackson Street crosses St. Mary Road near Thomas Jefferson University.",
        "The Christian and Jewish communities, and Native American veterans, met in Jordan.",
        "Monday, August 4. The National Library is closed in June and July.",
        "from models.Jordan import Thomas_Baker  # @karen/maria",
        "I'm Roman Catholic, and I'm Deaf.",
        "this text has no capital letter, though mark and rose will be in may",
        "",
    ],
)
def test_other_words_are_no_names(text: str) -> None:
    assert names_in(text) == []


def test_a_possessive_is_left_out() -> None:
    assert names_in("That is Tamara's book and Kevin Olson’s car.") == ["Tamara", "Kevin Olson"]


def test_parts_of_a_found_name_are_found_again() -> None:
    text = "Dr. Ingrid Vexholm spoke. Later Vexholm left, and Ingrid stayed."
    assert names_in(text) == ["Ingrid Vexholm", "Vexholm", "Ingrid"]


def test_a_name_inside_another_word_is_not_found_again() -> None:
    text = "Tamara Olsen lives here; see Olsenhaven, tamara@example.org and /home/Tamara."
    assert names_in(text) == ["Tamara Olsen"]


def test_a_list_of_surnames_is_of_people_unless_it_is_a_firm() -> None:
    assert names_in("three founders: Kovalev, Okonkwo and Pettersson met") == [
        "Kovalev",
        "Okonkwo",
        "Pettersson",
    ]
    assert names_in("she works at Kovalev, Okonkwo and Pettersson") == []


def test_further_names_count_by_themselves() -> None:
    config = NamesConfig(further_given_names=("Zyxquil",), further_surnames=("Vantolm",))
    text = "Then Zyxquil spoke to May Vantolm."
    assert names_in(text) == []
    assert names_in(text, NameRecognizer(config)) == ["Zyxquil", "May Vantolm"]


def test_what_is_never_personal_stays_out() -> None:
    recognizer = NameRecognizer(NamesConfig(never=("isaac newton",)))
    assert names_in("Isaac Newton met Samantha Whitfield.", recognizer) == ["Samantha Whitfield"]
