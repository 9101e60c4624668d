from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.readers.naming import Ids, value_id
from plumbline.retriever.readers.numerals import dates_in, han_number
from plumbline.retriever.readers.statutes import Law, first_day, split_law

CHINESE = """# 中华人民共和国示例法

2003年6月28日 第十届全国人民代表大会常务委员会第三次会议通过

<!-- INFO END -->

## 序 言

为了示例，制定本法。

## 第一章 总　则

第一条 为了规范示例，制定本法。

第二条 示例包括：

（一）甲；

（二）乙。

<!-- FORCE BREAK -->

第二条之一 【定义】 示例是指例子。

## 第二章 听取和审议人民政府、人民法院和

人民检察院的报告

### 第一节 一般规定

第三条 依照本法第一条
第二条的规定办理。

## 第三章 附则

第四条 本法自2004年1月1日起施行。
"""

ENGLISH = """# Data Act 2018

[Act No. 12 of 2018]

An Act about data.

## Part I Preliminary

Section 1. This Act comes into force on 25 May 2018.

Section 2
Definitions

In this Act, data means facts.
Section 1 of the old Act is repealed.

## Part II Duties

Section 12A. Keep data safe.

(a) at rest; and

(b) in transit.
"""

EUROPEAN = """# Data Regulation

CHAPTER I
General provisions

Section 1

Article 1
Subject-matter

1. This Regulation lays down rules.

Article 2 — Scope

It applies to data. Article 1 applies too.
"""


def split(text: str, title: str = "示例法", adopted: str = "", **fields: Any) -> list[Any]:
    return split_law(Law(title, text, "law.md", 1, adopted, fields))


def test_chinese_articles_with_their_paragraphs_and_items() -> None:
    values = split(CHINESE, category="行政法")

    assert [(value.id, value.title, value.text) for value in values] == [
        ("示例法:序言", "示例法 序言", "为了示例，制定本法。"),
        ("示例法:1", "示例法 第一章 总则 第一条", "为了规范示例，制定本法。"),
        ("示例法:2", "示例法 第一章 总则 第二条", "示例包括：\n（一）甲；\n（二）乙。"),
        ("示例法:2-1", "示例法 第一章 总则 第二条之一 定义", "示例是指例子。"),
        (
            "示例法:3",
            "示例法 第二章 听取和审议人民政府、人民法院和人民检察院的报告 第一节 一般规定 第三条",
            "依照本法第一条\n第二条的规定办理。",
        ),
        ("示例法:4", "示例法 第三章 附则 第四条", "本法自2004年1月1日起施行。"),
    ]
    assert {(v.source, v.language, v.category) for v in values} == {("示例法", "zh", "行政法")}


def test_english_sections_with_headings_and_references_left_alone() -> None:
    values = split(ENGLISH, "Data Act 2018")

    assert [(value.id, value.title, value.text) for value in values] == [
        ("Data-Act-2018:preamble", "Data Act 2018", "An Act about data."),
        (
            "Data-Act-2018:1",
            "Data Act 2018 Part I Preliminary Section 1",
            "This Act comes into force on 25 May 2018.",
        ),
        (
            "Data-Act-2018:2",
            "Data Act 2018 Part I Preliminary Section 2 Definitions",
            "In this Act, data means facts.\nSection 1 of the old Act is repealed.",
        ),
        (
            "Data-Act-2018:12A",
            "Data Act 2018 Part II Duties Section 12A",
            "Keep data safe.\n(a) at rest; and\n(b) in transit.",
        ),
    ]
    assert {value.effective_from for value in values} == {"2018-05-25"}
    assert {value.language for value in values} == {"en"}


def test_where_articles_are_numbered_sections_are_headings() -> None:
    values = split(EUROPEAN, "Data Regulation")

    assert [(value.id, value.title) for value in values] == [
        (
            "Data-Regulation:1",
            "Data Regulation CHAPTER I General provisions Section 1 Article 1 Subject-matter",
        ),
        (
            "Data-Regulation:2",
            "Data Regulation CHAPTER I General provisions Section 1 Article 2 Scope",
        ),
    ]
    assert values[1].text == "It applies to data. Article 1 applies too."


def test_paragraph_signs_mark_sections() -> None:
    values = split("# Code\n\n§ 3 Warranty. The seller warrants.\n\n§ 4a Notice is due.\n", "Code")

    assert [(value.id, value.text) for value in values] == [
        ("Code:3", "Warranty. The seller warrants."),
        ("Code:4a", "Notice is due."),
    ]


def test_a_number_that_comes_again_gets_an_id_of_its_own() -> None:
    values = split("第一条 甲。\n\n第一条 乙。")

    assert [value.id for value in values] == ["示例法:1", "示例法:1.2"]


def test_a_space_on_the_wrong_side_still_begins_an_article() -> None:
    values = split("第一条 甲。\n\n第二 条乙。\n\n依照\n第一条的规定。\n")

    assert [(value.id, value.title, value.text) for value in values] == [
        ("示例法:1", "示例法 第一条", "甲。"),
        ("示例法:2", "示例法 第二条", "乙。\n依照\n第一条的规定。"),
    ]


def test_items_stand_in_for_articles() -> None:
    values = split("对刑法作如下修改：\n\n一、增加一条。\n\n“内容”。\n\n二、删去一条。\n")

    assert [(value.id, value.text) for value in values] == [
        ("示例法:前言", "对刑法作如下修改："),
        ("示例法:1", "增加一条。\n“内容”。"),
        ("示例法:2", "删去一条。"),
    ]


def test_a_document_without_parts_is_one_value() -> None:
    (value,) = split("Be kind.\n\nBe brief.", "House style", effective_from="2024-01-01")

    assert (value.id, value.text) == ("House-style", "Be kind.\nBe brief.")
    assert value.effective_from == "2024-01-01"


@pytest.mark.parametrize("text", ["# Law\n\n第一条\n\n第二条 有。", "第三条   \n"])
def test_an_article_without_text_names_its_line(text: str) -> None:
    line = 1 + text.count("\n", 0, text.index("第"))

    with pytest.raises(InvalidInputError, match=f"law.md:{line}: .*has no text"):
        split(text)


def test_code_is_no_heading_and_a_sentence_no_line_of_promulgation() -> None:
    opening = "# Style\n\n2024-01-01 was a Monday.\n\n"
    text = opening + "## Run\n\n```sh\n# Article 1\n  make\n```\nThen stop.\n"

    values = split(text, "Style")

    assert [(value.id, value.text) for value in values] == [
        ("Style:preamble", "2024-01-01 was a Monday."),
        ("Style:Run", "```sh\n# Article 1\n  make\n```\nThen stop."),
    ]


def test_a_document_without_text_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"law\.md:1: '示例法' has no text"):
        split("# 示例法\n\n<!-- INFO END -->\n")


@pytest.mark.parametrize(
    ("text", "header", "adopted", "expected"),
    [
        # Adopted in August, in force from the next year's August.
        ("本法自2008年8月1日起施行。", "", "2007-08-30", "2008-08-01"),
        # Amended long after it first came into force.
        ("本法自1993年12月1日起施行。", "", "2019-04-23", "2019-04-23"),
        ("本法自公布之日起施行。", "", "2020-06-30", "2020-06-30"),
        ("本规定自一九九二年九月三十日起施行。", "", "", "1992-09-30"),
        ("", "1988年4月12日 公布\n1993年3月29日 修正", "", "1993-03-29"),
        ("It shall apply from 25 May 2018.", "", "2016-04-27", "2018-05-25"),
        ("前款自2030年1月1日起计算。", "", "2020-01-01", "2020-01-01"),
        ("", "", "", ""),
    ],
)
def test_the_day_from_which_an_edition_is_in_force(
    text: str, header: str, adopted: str, expected: str
) -> None:
    assert first_day(text, header, adopted) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("一", 1),
        ("十", 10),
        ("十五", 15),
        ("二十", 20),
        ("一百零二", 102),
        ("一百一十", 110),
        ("一千二百六十", 1260),
        ("二〇", 20),
        ("１２", 12),
        ("7", 7),
        ("甲", -1),
        ("", -1),
    ],
)
def test_chinese_numbers(text: str, number: int) -> None:
    assert han_number(text) == number


def test_dates_in_order_of_their_place() -> None:
    text = "on May 3, 2019, not 2019-02-30, then 2020年1月2日 and 4th March 2021"

    assert [day.isoformat() for day in dates_in(text)] == ["2019-05-03", "2020-01-02", "2021-03-04"]


def test_ids_are_cut_and_stay_distinct() -> None:
    one, other = value_id("长" * 200, "1"), value_id("长" * 200, "2")

    assert len(one) == len(other) == 128
    assert one != other
    assert value_id("刑法修正案（七）", "1") == "刑法修正案-7:1".replace("7", "七")
    ids = Ids()
    assert [ids.take("a", "1") for _ in range(3)] == ["a:1", "a:1.2", "a:1.3"]


PIECES = st.sampled_from(
    [
        "第一条 甲。",
        "第二条",
        "第三条之一 【题】乙。",
        "# 法",
        "## 第一章 总则",
        "### 序言",
        "一、丙。",
        "Article 1 Of data",
        "Section 2. Text.",
        "Part II",
        "CHAPTER I",
        "§ 3",
        "2020年1月1日 通过",
        "本法自2020年1月1日起施行。",
        "<!-- INFO END -->",
        "---",
        "",
        "Plain words.",
        "\u3000",
    ]
)


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(PIECES, max_size=12), noise=st.text(max_size=20))
def test_any_document_is_split_or_refused(lines: list[str], noise: str) -> None:
    """No input breaks the reader; what it makes can be stored, under ids of their own."""
    text = "\n".join([*lines, noise])
    try:
        values = split(text)
    except InvalidInputError as error:
        assert "has no text" in error.message
        return

    ids = [value.id for value in values]
    assert len(ids) == len(set(ids))
    assert all(value.text.strip() for value in values)
