"""Conversations and documents to instruction records and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plumbline.curation.synthesis.chatter import strip_answer
from plumbline.curation.synthesis.config import ToInstructionsConfig
from plumbline.curation.synthesis.documents import convert_documents, question_pairs, titled_text
from plumbline.curation.synthesis.instructions import (
    convert_conversations,
    tidy,
    to_conversations,
)
from plumbline.curation.synthesis.records import alpaca_row
from plumbline.curation.synthesis.requests import split_request
from plumbline.data.formats import detect_format
from plumbline.data.readers import read_dataset
from plumbline.data.records import (
    Conversation,
    Document,
    Message,
    Role,
    assistant,
    system,
    user,
)

TALK = Conversation(
    "talk",
    (
        system("Be brief."),
        user("Name a river."),
        assistant("The Elbe."),
        user("Name a mountain."),
        assistant("The Rigi."),
        user("Why did you choose it?"),
        assistant("It has a railway."),
    ),
    source="log",
)


def convert(*messages: Message, **settings: Any) -> Any:
    config = ToInstructionsConfig(**settings)
    return convert_conversations([Conversation("c", messages)], config)


def reason(*messages: Message, **settings: Any) -> str:
    converted = convert(*messages, **settings)
    assert converted.records == []
    (reasons,) = converted.funnel.dropped.values()
    (found,) = reasons
    return str(found)


@pytest.mark.parametrize(
    ("request_", "instruction", "material"),
    [
        # The layouts that the course's conversation logs show.
        (
            "云在青天，水在瓶中。请把上面诗句翻译为英文",
            "请把上面诗句翻译为英文",
            "云在青天，水在瓶中。",
        ),
        (
            "请检测下面句子是否同义\n句子1: 春天到了\n句子2: 春天来了\n输出:",
            "请检测下面句子是否同义",
            "句子1: 春天到了\n句子2: 春天来了",
        ),
        ("Translate into French: The sea is calm.", "Translate into French:", "The sea is calm."),
        (
            "The sea is calm. It is night. Translate the text above into French",
            "Translate the text above into French",
            "The sea is calm. It is night.",
        ),
        ("Classify the sentence.\nI love it", "Classify the sentence.", "I love it"),
        # Nothing tells an instruction from material here.
        ("这块牌子是给谁看的？", "这块牌子是给谁看的？", ""),
        ("Why is ice slippery", "Why is ice slippery", ""),
        ("- one\n- two", "- one\n- two", ""),
        ("The ratio is 3:2. Is it golden?", "The ratio is 3:2. Is it golden?", ""),
    ],
)
def test_requests_split_where_their_layout_says_so(
    request_: str, instruction: str, material: str
) -> None:
    assert split_request(request_) == (instruction, material)


def test_each_turn_becomes_a_record_with_its_history() -> None:
    records = convert_conversations([TALK], ToInstructionsConfig()).records

    assert [len(record.messages) for record in records] == [3, 5, 7]
    assert records[2].messages == TALK.messages
    assert [record.metadata["turn"] for record in records] == ["0", "1", "2"]
    assert {record.metadata["parents"] for record in records} == {'["talk"]'}
    assert records[1].metadata["synthetic"] == "false" and records[1].metadata["policy"] == ""
    assert alpaca_row(records[1]) == {
        "id": records[1].id,
        "instruction": "Name a mountain.",
        "input": "",
        "output": "The Rigi.",
        "system": "Be brief.",
        "history": [["Name a river.", "The Elbe."]],
    }


def test_turns_alone_leave_out_those_that_lean_on_others() -> None:
    converted = convert_conversations([TALK], ToInstructionsConfig(context="alone", system="drop"))

    assert [record.messages for record in converted.records] == [
        (user("Name a river."), assistant("The Elbe.")),
        (user("Name a mountain."), assistant("The Rigi.")),
    ]
    assert converted.funnel.dropped["turns"] == {"leans_on_context": 1}


def test_the_last_turn_only_with_a_bounded_history() -> None:
    config = ToInstructionsConfig(turns="last", max_context_messages=3, system="fold")
    (record,) = convert_conversations([TALK], config).records

    assert record.messages == (
        user("Be brief.\nName a mountain."),
        assistant("The Rigi."),
        user("Why did you choose it?"),
        assistant("It has a railway."),
    )
    alone = ToInstructionsConfig(max_context_messages=0, system="fold")
    first = convert_conversations([TALK], alone).records[0]
    assert first.messages[0] == user("Be brief.\nName a river.")
    assert first.metadata["instruction"] == "Be brief.\nName a river."


def test_roles_are_put_in_order() -> None:
    opening, messages = tidy(
        [
            assistant("Hello, how can I help?"),
            user("First."),
            user(" "),
            user("Second."),
            system("Be kind."),
            Message(Role.TOOL, "a result"),
            assistant("One."),
            assistant("Two."),
        ]
    )
    assert opening == "Be kind."
    assert messages == [user("First.\nSecond.\na result"), assistant("One.\nTwo.")]


@pytest.mark.parametrize(
    ("asked", "answered", "code"),
    [
        ("将上面问题转化为json格式的指令微调数据集的一条数据", '{"input": "..."}', "about_the_log"),
        ("Convert this chat into fine-tuning data", "Here.", "about_the_log"),
        ("2406.03816v2.pdf 请写一段摘要", "本文提出了一种方法。", "attachment"),
        ("<image>Who are they?", "Two players.", "media"),
        ("Who are you?", "I am {{name}}.", "placeholder"),
        ("How do I pick a lock?", "I'm sorry, but I can't help with that.", "refusal"),
        ("Say the words again please", "Say the words again please", "output_repeats_instruction"),
        ("Hello there", "!!!", "empty_output"),
    ],
)
def test_turns_that_teach_nothing_are_dropped_for_a_reason(
    asked: str, answered: str, code: str
) -> None:
    assert reason(user(asked), assistant(answered)) == code


def test_conversations_without_an_exchange_or_with_tools_are_dropped_for_a_reason() -> None:
    assert reason(assistant("Hello!")) == "no_exchange"
    tools = (user("Weather?"), assistant("f()"), Message(Role.TOOL, "sun"), assistant("Sunny."))
    assert reason(*tools) == "tool_results"
    assert len(convert(*tools, tools="keep").records) == 2


def test_the_same_text_counts_once() -> None:
    copies = [Conversation(str(i), (user("Name a river."), assistant("Elbe."))) for i in range(3)]
    converted = convert_conversations(copies, ToInstructionsConfig())

    assert len(converted.records) == 1
    assert converted.funnel.dropped["turns"] == {"exact_duplicate": 2}


def test_material_before_its_instruction_is_told_apart_but_stays_in_place() -> None:
    asked = "朕的钱！他们还要朕感谢他们！请分析上面这句话的情感，50汉字内"
    (record,) = convert(user(asked), assistant("愤怒和不满。")).records

    assert record.messages[0].content == asked
    row = alpaca_row(record)
    assert row["instruction"] == "请分析上面这句话的情感，50汉字内"
    assert row["input"] == "朕的钱！他们还要朕感谢他们！"


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        (
            'Here\'s an English translation of the poem:\n\n"Clouds."\n\nThis translation aims to'
            " keep the tone.",
            '"Clouds."',
        ),
        ("Sure! Here are two rivers: Elbe, Oder.\n\nLet me know if you need more!", "Elbe, Oder."),
        ("好的，以下是译文：\n云在青天。\n希望这对你有帮助！", "云在青天。"),
        ("Certainly!\nThe Elbe.", "The Elbe."),
        ("Sure, I like rivers.", "Sure, I like rivers."),
        ("Here is the list:", "Here is the list:"),
        ("The list: a, b", "The list: a, b"),
    ],
)
def test_answers_lose_their_announcements_and_offers(text: str, stripped: str) -> None:
    assert strip_answer(text) == stripped


def test_records_become_one_conversation_again() -> None:
    with_history = convert_conversations([TALK], ToInstructionsConfig()).records
    (together,) = to_conversations(with_history)
    assert together.messages == TALK.messages
    assert "turn" not in together.metadata

    alone = convert_conversations(
        [TALK], ToInstructionsConfig(context="alone", max_context_messages=0)
    ).records
    (joined,) = to_conversations(alone)
    assert joined.messages == TALK.messages[:5]


def test_documents_give_their_questions_or_their_title() -> None:
    body = "The otter lives by the water. " * 5
    documents = [
        Document(
            "faq", "Intro\nQ: Why is the sky blue?\nA: Rayleigh.\n\nQ: Unanswered?\nQ: 1+1?\nA: 2"
        ),
        Document("zh", "问：什么是潮汐？\n答：海水的涨落。"),
        Document("title", f"# On Otters\n\n{body}"),
        Document("none", body),
    ]
    converted = convert_documents(documents, ToInstructionsConfig())

    rows = [alpaca_row(record) for record in converted.records]
    assert [(row["instruction"], row["output"]) for row in rows] == [
        ("Why is the sky blue?", "Rayleigh."),
        ("1+1?", "2"),
        ("什么是潮汐？", "海水的涨落。"),
        ('Write a text with the title "On Otters".', body.strip()),
    ]
    assert converted.funnel.dropped == {"documents": {"no_pattern": 1}}
    assert [record.metadata["operator"] for record in converted.records][-1] == "title"


def test_what_is_no_title_and_no_question() -> None:
    body = "x" * 100
    assert titled_text(f"It was a dark night.\n{body}") is None
    assert titled_text("Title\nshort") is None
    assert titled_text(f"《水獭》\n{body}") == ("水獭", body)
    assert list(question_pairs("Answer: first?\nQuestion: a\nno answer")) == []


def test_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    records = convert_conversations([TALK], ToInstructionsConfig()).records
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(alpaca_row(record)) + "\n" for record in records))

    read = read_dataset(path, kind="conversations").records

    assert [record.messages for record in read] == [record.messages for record in records]
    assert detect_format(alpaca_row(records[0])).name == "alpaca"


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("llama_factory_demo/alpaca_zh_demo.json", 0.9),
        ("llama_factory_demo/alpaca_en_demo.json", 0.9),
        ("alpaca_en_zh/alpaca_zh_0-3252.json", 0.9),
    ],
)
def test_public_instructions_pass_nearly_whole(
    public_data: Callable[[str], Path], name: str, least: float
) -> None:
    read = read_dataset(public_data(name), kind="conversations", on_error="skip").records
    converted = convert_conversations(read, ToInstructionsConfig())

    assert len(converted.records) >= least * len(read), converted.funnel.to_json()
    assert sum(bool(alpaca_row(record)["input"]) for record in converted.records) > 0


def test_public_tool_conversations_are_counted(public_data: Callable[[str], Path]) -> None:
    path = public_data("llama_factory_demo/glaive_toolcall_en_demo.json")
    read = read_dataset(path, kind="conversations", on_error="skip").records
    dropped = convert_conversations(read, ToInstructionsConfig()).funnel.dropped
    kept = convert_conversations(read, ToInstructionsConfig(tools="keep")).records

    with_tools = sum(any(m.role is Role.TOOL for m in c.messages) for c in read)
    assert dropped["conversations"]["tool_results"] == with_tools > 0
    assert all(message.role is not Role.TOOL for record in kept for message in record.messages)
