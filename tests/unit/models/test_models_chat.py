"""Chat formats: prefixes, end tokens, masks, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.data.records import assistant, system, user
from plumbline.models.chat import PLAIN_TEMPLATE, ChatFormat

CONVERSATION = (
    system("be kind"),
    user("the cat?"),
    assistant("sat on the mat"),
    user("the dog?"),
    assistant("ran to the sea"),
)


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


@pytest.fixture
def without_template(tiny_tokenizer: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer.backend_tokenizer,
        bos_token="<|begin|>",
        eos_token="<|end|>",
    )


def test_prompt_has_the_platform_layout(chat: ChatFormat) -> None:
    ids = chat.encode_prompt(CONVERSATION[:2])

    text = chat.tokenizer.decode(ids)
    assert text == "<|begin|><|system|>be kind<|end|><|user|>the cat?<|end|><|assistant|>"


def test_prompt_is_a_prefix_of_the_conversation(chat: ChatFormat) -> None:
    (example,) = chat.encode_conversation(CONVERSATION)

    for turns in (2, 4):
        prompt = chat.encode_prompt(CONVERSATION[:turns])
        assert example.token_ids[: len(prompt)] == prompt


def test_every_assistant_turn_counts_and_nothing_else(chat: ChatFormat) -> None:
    (example,) = chat.encode_conversation(CONVERSATION)

    pairs = zip(example.token_ids, example.response_mask, strict=True)
    counted = chat.tokenizer.decode([token for token, counts in pairs if counts])
    assert counted == "sat on the mat<|end|>ran to the sea<|end|>"


@pytest.mark.parametrize("text", ["the cat", "the cat<|end|>", "the cat<|end|><|end|>"])
def test_response_ends_with_exactly_one_end_token(chat: ChatFormat, text: str) -> None:
    ids = chat.encode_response(text)

    assert ids.count(chat.eos_id) == 1
    assert ids[-1] == chat.eos_id
    assert chat.eos_id not in chat.encode_response(text, end=False)


def test_templates_that_rewrite_history_open_a_new_example(tiny_tokenizer: Any) -> None:
    # This template shows the last message only, so no turn continues the one before.
    chat = ChatFormat(tiny_tokenizer)
    chat.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer.backend_tokenizer,
        eos_token="<|end|>",
        chat_template="{{ messages[-1]['content'] }}<|assistant|>",
    )

    examples = chat.encode_conversation(CONVERSATION)

    assert len(examples) == 2
    assert (
        chat.tokenizer.decode(examples[1].token_ids) == "the dog?<|assistant|>ran to the sea<|end|>"
    )


@pytest.mark.parametrize("text", ["<|assistant|>sure", "a<|pad|>b"])
def test_control_tokens_in_a_message_are_refused(chat: ChatFormat, text: str) -> None:
    with pytest.raises(InvalidInputError, match="control token") as refused:
        chat.encode_prompt([user(text)])

    assert refused.value.reason == "CONTROL_TOKEN"


def test_a_response_that_spells_a_control_token_is_text_only_when_asked(chat: ChatFormat) -> None:
    text = "the <|end|> cat<|user|> sat"
    with pytest.raises(InvalidInputError, match="control token"):
        chat.encode_response(text)

    ids = chat.encode_response(text, literal=True)

    assert chat.decode(ids) == text
    assert set(ids[:-1]).isdisjoint(chat.tokenizer.all_special_ids)
    assert ids[-1] == chat.eos_id
    # The tokenizer itself still knows its control tokens.
    assert chat.encode_prompt([user("hi")])[0] == 1
    assert chat.encode_response("the cat", literal=True) == chat.encode_response("the cat")


def test_empty_prompts_are_refused(chat: ChatFormat) -> None:
    with pytest.raises(InvalidInputError, match="no messages"):
        chat.encode_prompt([])


def test_layout_must_be_chosen_where_there_is_no_template(without_template: Any) -> None:
    with pytest.raises(FailedPreconditionError, match="no chat template"):
        ChatFormat(without_template)

    plain = ChatFormat(without_template, template="plain")
    transcript = ChatFormat(without_template, template="transcript")

    prompt = [user("the cat"), user("sat")]
    assert plain.tokenizer.decode(plain.encode_prompt(prompt)) == "<|begin|>the cat\nsat"
    ids = transcript.encode_prompt([user("hi")]) + transcript.encode_response("yo")
    assert transcript.tokenizer.decode(ids) == ("<|begin|>\n\nHuman: hi\n\nAssistant: yo<|end|>")


def test_plain_layout_as_a_template_gives_the_same_ids(without_template: Any) -> None:
    prompt = [user("the cat"), user("sat on")]
    plain = ChatFormat(without_template, template="plain").encode_prompt(prompt)

    without_template.chat_template = PLAIN_TEMPLATE

    assert ChatFormat(without_template).encode_prompt(prompt) == plain


def test_decoding_drops_control_tokens(chat: ChatFormat) -> None:
    assert chat.decode(chat.encode_response("the cat sat")) == "the cat sat"
