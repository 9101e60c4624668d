"""Text from tokens: whole characters, nothing past a stop string."""

from __future__ import annotations

import random
from typing import Any

import pytest

from plumbline.models.chat import ChatFormat
from plumbline.sampler.text import IncrementalText, StopStrings


@pytest.fixture(scope="module")
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def pieces_of(chat: ChatFormat, token_ids: list[int], *stops: str) -> list[str]:
    text = IncrementalText(chat.decode, StopStrings(chat.decode, stops))
    return [text.add(token_id) for token_id in token_ids] + [text.finish()]


def test_characters_of_several_tokens_come_whole(chat: ChatFormat) -> None:
    token_ids = chat.encode_response("naïve 世界 🙂 end")

    pieces = pieces_of(chat, token_ids)

    assert "".join(pieces) == "naïve 世界 🙂 end"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert "🙂" in pieces


def test_a_character_cut_off_by_the_limit_is_flushed_as_the_whole_text_has_it(
    chat: ChatFormat,
) -> None:
    token_ids = chat.encode_response("a🙂", end=False)[:-1]

    assert "".join(pieces_of(chat, token_ids)) == chat.decode(token_ids)


def test_pieces_of_random_tokens_join_to_the_text(chat: ChatFormat) -> None:
    generator = random.Random(0)
    for _ in range(50):
        token_ids = [generator.randrange(295) for _ in range(30)]
        assert "".join(pieces_of(chat, token_ids)) == chat.decode(token_ids)


def test_nothing_of_a_stop_string_is_released(chat: ChatFormat) -> None:
    token_ids = chat.encode_response("the cat END and more", end=False)

    pieces = pieces_of(chat, token_ids, "END")

    assert "".join(pieces) == "the cat "


def test_what_only_looked_like_a_stop_string_comes_later(chat: ChatFormat) -> None:
    token_ids = chat.encode_response("an ENCORE", end=False)

    assert "".join(pieces_of(chat, token_ids, "END")) == "an ENCORE"
    assert "".join(pieces_of(chat, chat.encode_response("an EN"), "END")) == "an EN"


def test_the_earliest_stop_string_cuts() -> None:
    stops = StopStrings(lambda ids: "", ["zz", "b"])
    assert stops.cut("aabzz") == "aa"
    assert stops.cut("none") == "none"


def test_a_stop_string_is_met_when_its_last_token_comes(chat: ChatFormat) -> None:
    stops = StopStrings(chat.decode, ["the mat"])
    token_ids = chat.encode_response("cat on the mat", end=False)

    assert stops.met(token_ids)
    assert not stops.met(token_ids[:-1])


def test_the_longest_possible_beginning_is_held_back() -> None:
    stops = StopStrings(lambda ids: "", ["abc", "bcd"])
    assert stops.held_back("xab") == 2
    assert stops.held_back("xabc"[:-1] + "x") == 0
    assert stops.held_back("xb") == 1
