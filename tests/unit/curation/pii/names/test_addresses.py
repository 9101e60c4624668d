"""Addresses in both scripts."""

from __future__ import annotations

import pytest

from plumbline.curation.pii.names.config import NamesConfig
from plumbline.curation.pii.names.recognizer import AddressRecognizer
from plumbline.curation.pii.spans import without_overlaps

ADDRESSES = AddressRecognizer(NamesConfig())


def addresses_in(text: str) -> list[str]:
    spans = without_overlaps(ADDRESSES.find([text])[0])
    assert all(span.type == "ADDRESS" for span in spans)
    return [text[span.start : span.end] for span in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I live at 14 Elm Grove, Leeds LS6 2AB.", ["14 Elm Grove, Leeds LS6 2AB"]),
        ("Go to 4821 North Willow Avenue now", ["4821 North Willow Avenue"]),
        ("at 9 Oak Street\nApt. 12\nSpringfield, IL 62704", None),
        ("Send it to P.O. Box 12, Springfield, IL 62704.", ["P.O. Box 12, Springfield, IL 62704"]),
        ("PSC 4321, Box 8765\nAPO AP 96512", ["PSC 4321, Box 8765\nAPO AP 96512"]),
        ("Schillerstraße 12, 10625 Berlin", ["Schillerstraße 12, 10625 Berlin"]),
        ("12 rue de la Paix, 75002 Paris", ["12 rue de la Paix, 75002 Paris"]),
        ("Calle Mayor 5, 28013 Madrid", ["Calle Mayor 5, 28013 Madrid"]),
        ("she moved to 380 quarry lane", ["380 quarry lane"]),
        ("wait at the corner of 5 Hill Street and Elm Road", None),
    ],
)
def test_latin_addresses(text: str, expected: list[str] | None) -> None:
    whole = [text.removeprefix("at ").removeprefix("wait at ")]
    assert addresses_in(text) == (expected or whole)


@pytest.mark.parametrize(
    "text",
    [
        "He ran 5 miles down the road and 12 angry men won 3 prizes.",
        "In 2018 Forest fires burned 300 homes; see page 42.",
        "The Main Street in Springfield has 40 Shops.",
        "Version 3 Court 2, UUID 550e8400-e29b-41d4-a716-446655440000",
        "costs $250 Drive safely",
    ],
)
def test_other_numbers_make_no_address(text: str) -> None:
    assert addresses_in(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("现居住于浙江省杭州市西湖区文一路88号,电话", ["浙江省杭州市西湖区文一路88号"]),
        ("住在朝阳区建国路88号3号楼201室。", ["朝阳区建国路88号3号楼201室"]),
        (
            "地址:广州市天河区体育西路103号海天大厦1201室",
            ["广州市天河区体育西路103号海天大厦1201室"],
        ),
        ("户籍地址为湖南省长沙市岳麓区桔子洲街道", ["湖南省长沙市岳麓区桔子洲街道"]),
    ],
)
def test_chinese_addresses(text: str, expected: list[str]) -> None:
    assert addresses_in(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "湖南省长沙市是一座城市。",
        "由其住所地县级以上市场监督管理部门处罚",
        "第三章第十五号令,共5层意思",
        "道路交通安全法第8条",
    ],
)
def test_places_of_chinese_prose_are_no_addresses(text: str) -> None:
    assert addresses_in(text) == []
