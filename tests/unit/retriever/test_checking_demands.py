from __future__ import annotations

import pytest

from plumbline.data.records import ValueSpec
from plumbline.retriever.checking.checkers import Verdict, check_value
from plumbline.retriever.checking.demands import demands_of


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("When asked, end the reply with: mind the oven.", ["ends_with: mind the oven"]),
        ("End your answer with “Stay safe.” and be kind.", ["ends_with: Stay safe."]),
        ("End the reply with: mind the oven. Be kind.", ["ends_with: mind the oven"]),
        ('Start every answer with "Dear guest".', ["starts_with: Dear guest"]),
        ("Always mention the refund policy.", ["includes: refund policy"]),
        ("Never mention the price.", ["avoids: price"]),
        ("When asked about bread, mention the oven.", ["includes: oven"]),
        ("Never, ever mention “zebra”.", ["avoids: zebra"]),
        ("Avoid mentioning drugs or alcohol.", ["avoids: drugs", "avoids: alcohol"]),
        ("Never mention “red” or “blue”.", ["avoids: red", "avoids: blue"]),
        ("不得提及“甲”、“乙”和“丙”", ["avoids: 甲", "avoids: 乙", "avoids: 丙"]),
        ("Use at most 80 words.", ["max_words: 80"]),
        ("Never write more than three sentences.", ["max_sentences: 3"]),
        ("Use more than 5 words.", ["min_words: 6"]),
        ("Use fewer than 5 words.", ["max_words: 4"]),
        ("Use fewer than 1 word.", []),
        ("Answer in one sentence and at least 4 words.", ["max_sentences: 1", "min_words: 4"]),
        ("Always answer in French.", ["language: fr"]),
        ("回答以“谢谢”结尾", ["ends_with: 谢谢"]),
        ("请以「您好」开头。", ["starts_with: 您好"]),
        ("不得提及价格。", ["avoids: 价格"]),
        ("必须提到“退款政策”", ["includes: 退款政策"]),
        ("请用中文回答，不超过50个字", ["language: zh", "max_words: 50"]),
        ("最多三句话", ["max_sentences: 3"]),
        ("回答控制在一百字以内", []),  # a number that is not read is no demand
        ("至少20字符", ["min_characters: 20"]),
    ],
)
def test_plain_demands_are_read(rule: str, expected: list[str]) -> None:
    assert [str(checker) for checker in demands_of(rule)] == expected


@pytest.mark.parametrize(
    "rule",
    [
        "Be kind.",
        "Always mention “red” or “blue”.",
        "Always mention red or blue.",
        "End the reply with “bye” or “ciao”.",
        "Do not end the reply with: bye.",
        "不要以“谢谢”结尾",
        "Do not be rude and mention the price.",
        "Never mention anything rude.",
        "Always mention that prices may change.",
        "Mention your sources.",
        "End the reply with a greeting.",
        "Never answer in one word.",
        "Do not answer in English.",
        "广告中不得出现下列情形：",
        "不得不提及价格",
        "Zoo keepers say hello.",
        "Fees include tax.",
        "应当说明理由。",
        "列出以“c”开头的单词。",
        "Never mention the price of the house to the neighbours next door.",
        "word " * 1000 + "End the reply with: bye.",
    ],
)
def test_what_is_not_understood_is_never_followed(rule: str) -> None:
    assert demands_of(rule) == ()
    assert check_value(ValueSpec(id="a", text=rule), "bye").verdict is Verdict.NOT_CHECKABLE


@pytest.mark.parametrize(
    ("rule", "reply", "verdict"),
    [
        ("When asked, end the reply with: mind the oven.", "Bake it. Mind the oven.", "followed"),
        ("When asked, end the reply with: mind the oven.", "Mind the oven. Bake.", "broken"),
        ("Start the reply with: Hello", "hello, you", "followed"),
        ("Always mention the price.", "The Price. is 3", "followed"),
        ("Never mention the price.", "It is cheap", "followed"),
        ("Never mention the price.", "the price is 3", "broken"),
        ("回答以“谢谢”结尾", "好的，谢谢。", "followed"),
    ],
)
def test_replies_are_checked_by_prose(rule: str, reply: str, verdict: str) -> None:
    assert check_value(ValueSpec(id="a", text=rule), reply).verdict == verdict
