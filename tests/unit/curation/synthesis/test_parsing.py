"""What a policy wrote is read in the shapes that policies write it."""

from __future__ import annotations

import hashlib
from importlib import resources

import pytest

from plumbline.curation.synthesis import templates as package
from plumbline.curation.synthesis.judgement import is_refusal, leaks_template, says_nothing
from plumbline.curation.synthesis.parsing import (
    Instance,
    parse_equal,
    parse_instances,
    parse_instructions,
    parse_rating,
    parse_single,
    parse_yes_no,
)
from plumbline.curation.synthesis.records import text_language
from plumbline.curation.synthesis.templates import Language, templates

FILES = {
    "en.1": "ad2f1f3895dbce15",
    "zh.1": "846705b580562a2d",
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_templates_change_only_with_their_version(language: Language) -> None:
    content = resources.files(package).joinpath(f"{language}.yaml").read_bytes()

    assert hashlib.sha256(content).hexdigest()[:16] == FILES[templates(language).version]


def test_both_languages_have_the_same_prompts() -> None:
    def paths(entry: object, prefix: str = "") -> set[str]:
        if not isinstance(entry, dict):
            return {prefix}
        return {path for key, value in entry.items() for path in paths(value, f"{prefix}.{key}")}

    english, chinese = (paths(dict(templates(name)._entries)) for name in ("en", "zh"))
    assert english == chinese


@pytest.mark.parametrize(
    "text",
    [
        " Write a poem.\n10. Name a river.\n11. Why?",
        "Here are three new tasks:\n\n9. Write a poem.\n\n10. Name a river.\n11. Why?",
        "Task 9: Write a poem.\nTask 10: Name a river.\nTask 11: Why?",
        '9) "Write a poem."\n10) **Name a river.**\n11) Instruction: Why?',
        "Write a poem.\n10. Name a\n   river.\n11. Why?\n\nThese tasks are diverse.",
    ],
)
def test_lists_of_instructions(text: str) -> None:
    assert parse_instructions(text, finished=True) == ["Write a poem.", "Name a river.", "Why?"]


def test_a_list_that_was_cut_off_loses_its_last_item() -> None:
    assert parse_instructions("写一首诗。\n10、说出一条", finished=False) == ["写一首诗。"]
    assert parse_instructions("", finished=True) == []


def test_instances_in_both_orders_and_languages() -> None:
    text = " 2 + 2\nOutput: 4\n\nExample 2\nInput: <none>\nOutput: five\nand six"
    assert parse_instances(text, "input", finished=True) == [
        Instance("2 + 2", "4"),
        Instance("", "five\nand six"),
    ]
    text = "示例1\n标签：正面\n输入：真好看\n示例2\n标签：负面\n输入：太难看"
    assert parse_instances(text, "label", finished=True) == [
        Instance("真好看", "正面"),
        Instance("太难看", "负面"),
    ]
    assert parse_instances(text, "label", finished=False) == [Instance("真好看", "正面")]
    assert parse_instances("Example 1\nInput: a\n", "input", finished=True) == []
    assert parse_instances("**Input:** N/A\n**Output:** b", "input", finished=True) == [
        Instance("", "b")
    ]


def test_judgements() -> None:
    assert [parse_yes_no(t) for t in (" Yes.", "no, it is not", "是的", "否", "不是", "maybe")] == [
        True,
        False,
        True,
        False,
        False,
        None,
    ]
    assert [parse_equal(t) for t in ("Equal", "Not equal.", "不同", "相同", "hm")] == [
        True,
        False,
        False,
        True,
        None,
    ]
    assert [parse_rating(t) for t in (" 4", "Good.\nScore: 5", "评分：3", "45", "3.5", "none")] == [
        4,
        5,
        3,
        None,
        None,
        None,
    ]


def test_single_instructions_lose_their_marker() -> None:
    assert parse_single('#Rewritten Prompt#:\n"Do it twice."') == "Do it twice."
    assert parse_single("请求：写一首诗。") == "写一首诗。"


def test_refusals_and_empty_talk() -> None:
    assert is_refusal("I'm sorry, but I can't assist with that request.")
    assert is_refusal("很抱歉，我无法回答这个问题。")
    assert is_refusal("As an AI language model, I cannot browse the web.")
    assert not is_refusal("I'm sorry that you are not happy with your purchase; we will refund it.")
    assert not is_refusal("The sorry state of the road delayed them.")
    assert says_nothing("... 的了吗？ and the!") and not says_nothing("the river")


def test_the_prompts_own_words_are_told_from_those_that_people_use() -> None:
    assert leaks_template("#Rewritten Prompt#: Name a river.")
    assert leaks_template("Here are new task instructions for a text-only assistant")
    assert not leaks_template("Write a story for the given prompt.")
    assert leaks_template("Write a story for the given prompt.", rewriting=True)


def test_the_language_is_what_carries_most_words() -> None:
    assert text_language("请用 Python 写一个排序函数") == "zh"
    assert text_language("Translate 你好 into English, please") == "en"
