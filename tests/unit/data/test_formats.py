"""Each foreign format becomes the record that it means; anything doubtful is refused."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.data.formats import BrokenRecordError, detect_format
from plumbline.data.records import (
    Conversation,
    Document,
    Grade,
    LabelledResponse,
    Message,
    Preference,
    Prompt,
    Record,
    Role,
    ScoredResponses,
    ValueSpec,
    assistant,
    system,
    user,
)


def read(row: Any, *makes: type[Record]) -> Any:
    return detect_format(row, makes).read(row, "file.jsonl")


HH = "\n\nHuman: 你好\n\nAssistant: 您好\n\nHuman: Why?\n\nAssistant: "


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        (
            {"instruction": "翻译", "input": "cat", "output": "猫"},
            (user("翻译\ncat"), assistant("猫")),
        ),
        (
            {
                "instruction": "b?",
                "input": "",
                "output": "B",
                "system": "Be brief.",
                "history": [["a?", "A"]],
            },
            (system("Be brief."), user("a?"), assistant("A"), user("b?"), assistant("B")),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "q"},
                    {"from": "function_call", "value": "f()"},
                    {"from": "observation", "value": "1"},
                    {"from": "gpt", "value": "one"},
                ],
                "tools": "[]",
            },
            (user("q"), assistant("f()"), Message(Role.TOOL, "1"), assistant("one")),
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": [{"type": "text", "text": "q"}]},
                    {"role": "assistant", "content": "a"},
                ]
            },
            (system("s"), user("q"), assistant("a")),
        ),
        (
            {"query": "还有呢？", "response": "没有了", "history": [["有吗", "有"]]},
            (user("有吗"), assistant("有"), user("还有呢？"), assistant("没有了")),
        ),
        ({"prompt": "q", "completion": "a"}, (user("q"), assistant("a"))),
    ],
    ids=["alpaca-zh", "alpaca-history", "sharegpt-tools", "messages", "query", "prompt"],
)
def test_demonstrations(row: dict[str, Any], messages: tuple[Message, ...]) -> None:
    record = read(row)

    assert isinstance(record, Conversation)
    assert record.messages == messages
    assert record.source == "file.jsonl"


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": HH + "Because.", "rejected": HH + "No."},
        {
            "prompt": [
                {"role": "user", "content": "你好"},
                {"role": "assistant", "content": "您好"},
                {"role": "user", "content": "Why?"},
            ],
            "chosen": [{"role": "assistant", "content": "Because."}],
            "rejected": "No.",
        },
        {
            "conversations": [
                {"from": "human", "value": "你好"},
                {"from": "gpt", "value": "您好"},
                {"from": "human", "value": "Why?"},
            ],
            "chosen": {"from": "gpt", "value": "Because."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        {
            "instruction": "Why?",
            "history": [["你好", "您好"]],
            "chosen": "Because.",
            "rejected": "No.",
        },
        {
            key: [
                {"role": "user", "content": "你好"},
                {"role": "assistant", "content": "您好"},
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": reply},
            ]
            for key, reply in (("chosen", "Because."), ("rejected", "No."))
        },
    ],
    ids=["hh_rlhf", "messages", "sharegpt", "alpaca", "whole_dialogues"],
)
def test_preference_pairs(row: dict[str, Any]) -> None:
    record = read(row)

    assert isinstance(record, Preference)
    assert record.prompt == (user("你好"), assistant("您好"), user("Why?"))
    assert (record.chosen, record.rejected) == ("Because.", "No.")


def test_judgements_of_a_pair_are_kept() -> None:
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    record = read(
        {
            **pair,
            "grade": "Negligibly better / unsure",
            "head": "safety",
            "agreement": "0.8",
            "chosen_is_safe": True,
            "annotator": 3,
        }
    )

    assert record.grade is Grade.NEGLIGIBLY_BETTER
    assert (record.head, record.agreement, record.chosen_is_safe) == ("safety", 0.8, True)
    assert record.metadata == {"annotator": "3"}
    assert {read({**pair, "grade": grade.value}).grade for grade in Grade} == set(Grade)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "a", "label": False},
        {"prompt": "q", "response": "a", "desirable": "0"},
        {"instruction": "q", "input": "", "output": "a", "kto_tag": False},
        {
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "label": "false",
        },
    ],
)
def test_labelled_responses(row: dict[str, Any]) -> None:
    record = read(row)

    assert isinstance(record, LabelledResponse)
    assert (record.prompt, record.response, record.desirable) == ((user("q"),), "a", False)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "responses": ["a", "b"], "scores": [1, 0.5]},
        {
            "prompt": "q",
            "responses": [{"response": "a", "score": 1}, {"text": "b", "score": 0.5}],
        },
    ],
)
def test_scored_lists(row: dict[str, Any]) -> None:
    record = read(row)

    assert isinstance(record, ScoredResponses)
    assert (record.responses, record.scores) == (("a", "b"), (1.0, 0.5))


def test_documents_prompts_and_values() -> None:
    document = read({"text": "文本", "lang": "zh", "meta": {"k": 1}})
    assert isinstance(document, Document)
    assert (document.language, document.metadata) == ("zh", {"meta": '{"k": 1}'})

    prompt = read({"messages": [{"role": "user", "content": "q"}]}, Prompt)
    assert prompt.messages == (user("q"),)

    value = read({"text": "Be kind.", "triggers": ["a", "b"], "effective_from": "2024-01-01"})
    assert isinstance(value, ValueSpec)
    assert value.triggers == ("a", "b")


@pytest.mark.parametrize(
    ("row", "reason", "words"),
    [
        ({"question": "q", "answer": "a"}, "UNKNOWN_FORMAT", "no known format has the keys"),
        ({"instruction": "i", "output": "o", "text": "t"}, "AMBIGUOUS_FORMAT", "alpaca, text"),
        (
            {"instruction": "i", "output": "o", "query": "q", "response": "r"},
            "AMBIGUOUS_FORMAT",
            "alpaca, query_response",
        ),
        ([1], "BROKEN_RECORD", "a list"),
        ({"instruction": "i", "output": ""}, "EMPTY_FIELD", "'output' is empty"),
        ({"instruction": "i", "output": None}, "BROKEN_RECORD", "missing or null"),
        ({"text": "\ud800"}, "WRONG_ENCODING", "surrogate"),
        ({"messages": [{"role": "owl", "content": "x"}]}, "BROKEN_RECORD", "'owl' is unknown"),
        ({"messages": [{"role": "user", "content": "x"}]}, "BROKEN_RECORD", "nothing to learn"),
        ({"messages": [], "images": []}, "BROKEN_RECORD", "empty"),
        (
            {"messages": [{"role": "user", "content": "x"}], "images": ["a.png"]},
            "BROKEN_RECORD",
            "only text",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "NO_PREFERENCE", "the same"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "grade": "great"}, "BROKEN_RECORD", "gr"),
        ({"prompt": "q", "completion": "a", "label": "maybe"}, "BROKEN_RECORD", "true or false"),
        ({"prompt": "q", "responses": ["a", "b"], "scores": [1]}, "BROKEN_RECORD", "as many"),
        (
            {"prompt": "q", "responses": ["a", "b"], "scores": [1, float("nan")]},
            "BROKEN_RECORD",
            "finite",
        ),
        (
            {"chosen": HH + "a", "rejected": "\n\nHuman: x\n\nAssistant: b"},
            "BROKEN_RECORD",
            "differ before",
        ),
        ({"chosen": HH, "rejected": HH + "b"}, "EMPTY_FIELD", "'chosen' is empty"),
    ],
)
def test_doubtful_rows_are_refused(row: Any, reason: str, words: str) -> None:
    with pytest.raises(BrokenRecordError, match=words) as caught:
        read(row)
    assert caught.value.reason == reason


def test_the_kind_wanted_decides_between_formats() -> None:
    row = {"instruction": "i", "output": "o", "text": "i o"}

    assert isinstance(read(row, Conversation), Conversation)
    assert isinstance(read(row, Document), Document)


def test_labelled_responses_are_never_read_as_demonstrations() -> None:
    """An undesirable response must not be imitated."""
    row = {"prompt": "q", "completion": "a", "label": False}

    with pytest.raises(BrokenRecordError, match="no known format"):
        read(row, Conversation)


def test_ids_are_kept_or_made_from_content() -> None:
    first, second = read({"text": "x"}), read({"text": "x", "note": "n"})

    assert read({"text": "x", "id": 7}).id == "7"
    assert first.id == second.id != read({"text": "y"}).id
