"""The prose heuristics, in English and in Chinese, on texts that each break one of them."""

from __future__ import annotations

import pytest

from plumbline.curation.filters.config import LanguageConfig, QualityConfig
from plumbline.curation.filters.rules import Objection, QualityRule
from plumbline.curation.view import DocumentView

ENGLISH = (
    "The committee will meet again on Thursday to discuss the new library and its budget. "
    "Members of the public who have questions may write to the clerk before the meeting. "
)
CHINESE = "委员会将于周四再次开会，讨论新图书馆的预算。有问题的居民可以在会议之前写信给秘书。"
PROSE = {"en": "\n".join([ENGLISH] * 6), "zh": "\n".join([CHINESE] * 8)}


def judge(text: str, **config: object) -> Objection | None:
    rule = QualityRule(QualityConfig.model_validate(config))
    return rule.judge([DocumentView(text, LanguageConfig())])[0]


def code(text: str, **config: object) -> str | None:
    objection = judge(text, **config)
    return objection.code if objection else None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_prose_stays(language: str) -> None:
    assert judge(PROSE[language]) is None


def test_chinese_is_not_dropped_for_its_missing_spaces() -> None:
    """Four lines of 41 characters are 4 words between spaces, and about 80 words."""
    text = "\n".join([CHINESE] * 4)
    assert len(text.split()) == 4
    assert judge(text, min_words=50, statistics_from_words=1) is None
    assert code(CHINESE, min_words=50) == "TOO_FEW_WORDS"
    assert code(ENGLISH, min_words=50) == "TOO_FEW_WORDS"


def test_short_documents_are_not_judged_by_shares() -> None:
    assert judge("# # # What a day it was...") is None


ELLIPSES = {"max_symbol_word_ratio": 1}
LISTING = "\n".join(f"Item {n} of the catalogue" for n in range(40))
LISTING_ZH = "\n".join(f"第{n}号商品在售中心" for n in range(40))


@pytest.mark.parametrize(
    ("expected", "text", "config"),
    [
        ("WORD_LENGTH", "the incomprehensibilities of internationalization " * 30, {}),
        ("SYMBOLS", PROSE["en"].replace(" ", " # ", 60), {}),
        ("SYMBOLS", PROSE["zh"].replace("，", "……").replace("。", "……"), {}),
        (
            "ALPHABETIC_WORDS",
            "The costs of this year and of the last one were 12 345 67 8 90 1 3. " * 30,
            {"mean_word_length": (1, 10)},
        ),
        ("LETTERS", (CHINESE + "★☆——" * 14 + "。") * 8, {}),
        ("CLAUSE_LENGTH", (CHINESE.replace("，", "").replace("。", "")) * 12, {}),
        ("STOP_WORDS", "cheap shoes best price buy online discount sale shop fast ship " * 12, {}),
        ("STOP_WORDS", "高清图片素材免费下载，优惠促销特价包邮，新款上市热卖推荐。" * 12, {}),
        ("BULLET_LINES", "\n".join(f"- {ENGLISH}" for _ in range(6)), {}),
        ("BULLET_LINES", "\n".join(f"• {CHINESE}" for _ in range(8)), {}),
        ("ELLIPSIS_LINES", "\n".join(ENGLISH.strip()[:-1] + "..." for _ in range(6)), {}),
        ("ELLIPSIS_LINES", "\n".join(CHINESE[:-1] + "……" for _ in range(8)), ELLIPSES),
        ("LINE_ENDS", "\n".join(ENGLISH.strip()[:-1] for _ in range(6)), {}),
        ("LINE_ENDS", "\n".join(CHINESE[:-1] for _ in range(8)), {}),
        ("SHORT_LINES", LISTING, {"min_ended_line_share": 0, "min_stop_words": 0}),
        ("SHORT_LINES", "\n".join("我的心在这里。" for _ in range(40)), {}),
        ("TOO_MANY_WORDS", PROSE["en"], {"max_words": 100}),
        ("PLACEHOLDER_TEXT", "Lorem ipsum dolor sit amet, and so the page goes on and on.", {}),
        ("PLACEHOLDER_TEXT", "这里是占位文本，请替换为正式的内容，谢谢您的配合。", {}),
        ("CURLY_BRACES", PROSE["en"].replace(" the ", " {the} "), {"max_brace_share": 0}),
        (
            "BOILERPLATE",
            "Please enable JavaScript to see the page.\nWe use cookies.\nThe weather is nice.",
            {},
        ),
        ("BOILERPLATE", "查看隐私政策和使用条款。\n版权所有，违者必究。\n今天天气很好。", {}),
    ],
)
def test_each_measure(expected: str, text: str, config: dict[str, object]) -> None:
    assert code(text, **config) == expected


def test_list_like_pages_go() -> None:
    """40 lines of 5 words: 0.2 lines per word; a line of two words has 0.5."""
    names = "\n".join(f"The {n} of." for n in range(80))
    lenient = {
        "max_short_line_share": 1,
        "min_alphabetic_word_share": 0,
        "mean_word_length": (1, 9),
    }
    assert code(names, **lenient) == "LIST_LIKE"


def test_code_and_tables_are_not_prose() -> None:
    program = "def add(a, b):\n    return {a: b}\n\n" * 40
    table = "\n".join(f'{{"id": {n}, "name": "x"}},' for n in range(60))
    assert judge(program) is None
    assert judge(table) is None
    assert judge(program, judge_undetermined=True) is not None


def test_the_batch_does_not_matter() -> None:
    texts = [*PROSE.values(), LISTING, LISTING_ZH, "", "#", "lorem ipsum " * 9]
    rule = QualityRule(QualityConfig())
    together = rule.judge([DocumentView(text, LanguageConfig()) for text in texts])

    assert together == [judge(text) for text in texts]
