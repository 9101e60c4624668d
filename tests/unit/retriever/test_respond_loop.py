"""The loop over a sampler inside the process, where the order of things can be seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import UnavailableError
from plumbline.core.settings import Settings
from plumbline.data.records import Message, Role, ValueSpec, user
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.respond.decisions import Outcome, Piece, ReplyRequest
from plumbline.retriever.respond.interfaces import Delta, Draw, Draws
from plumbline.retriever.respond.responder import Responder
from plumbline.retriever.search.filters import ValueQuery

SHIP = ValueSpec(id="ship", text='Never mention "Titanic".', kind="changing", triggers=("ships",))
STANDING = ValueSpec(id="polite", text="Be polite.", kind="fixed")


class Sampler:
    """Replies from a list, a word at a time; notes when a stream begins and ends."""

    def __init__(self, *replies: str) -> None:
        self._replies = list(replies)
        self.events: list[str] = []
        self.prompts: list[Sequence[Message]] = []
        self.error: Exception | None = None

    async def stream(
        self, policy: str, messages: Sequence[Message], options: Mapping[str, Any], seed: int
    ) -> AsyncGenerator[Delta, None]:
        if self.error:
            raise self.error
        self.prompts.append(messages)
        self.events.append("begun")
        try:
            for word in self._replies.pop(0).split(" "):
                yield Delta(word + " ", response_tokens=1)
            yield Delta("", finish_reason="stop", policy_id="p", prompt_tokens=5)
        finally:
            self.events.append("ended")

    async def sample(
        self,
        policy: str,
        messages: Sequence[Message],
        options: Mapping[str, Any],
        seed: int,
        *,
        k: int,
    ) -> Draws:
        self.prompts.append(messages)
        replies = tuple(Draw(self._replies.pop(0)) for _ in range(k))
        return Draws(replies, "p", 5, k)

    async def context_length(self, policy: str) -> int:
        return 0


@pytest.fixture
def answer(tmp_path: Path) -> Callable[..., list[Piece]]:
    """Answers one request over a knowledge base of one rule."""

    def run(sampler: Sampler, *values: ValueSpec, **fields: Any) -> list[Piece]:
        store = open_configured_store(Settings(state_dir=tmp_path))
        engine = RetrieverEngine(store, RetrieverConfig())
        engine.import_values("house", values or (SHIP,))
        responder = Responder(engine, sampler=sampler, in_thread=asyncio.to_thread)
        request = ReplyRequest("house", **{"messages": (user("What of ships?"),), **fields})

        async def collect() -> list[Piece]:
            async with aclosing(responder.respond(request)) as pieces:
                return [piece async for piece in pieces]

        return asyncio.run(collect())

    return run


def test_a_broken_stream_ends_before_the_next_begins(answer: Any) -> None:
    sampler = Sampler("It sailed. The Titanic sank. And so on.", "It sailed on.")

    pieces = answer(sampler, by_sentence=True)

    assert sampler.events == ["begun", "ended", "begun", "ended"]
    decision = pieces[-1].decision
    assert decision.outcome is Outcome.REVISED
    # Of the first stream 5 words had come, of the second 3 and the prompt's tokens.
    assert (decision.response_tokens, decision.prompt_tokens) == (5 + 3, 5)


def test_a_caller_that_stops_reading_ends_the_stream(tmp_path: Path) -> None:
    sampler = Sampler("One. Two. Three. Four.")
    store = open_configured_store(Settings(state_dir=tmp_path))
    engine = RetrieverEngine(store, RetrieverConfig())
    engine.import_values("house", [SHIP])
    responder = Responder(engine, sampler=sampler, in_thread=asyncio.to_thread)
    request = ReplyRequest("house", (user("What of ships?"),), by_sentence=True)

    async def read_one() -> Piece:
        async with aclosing(responder.respond(request)) as pieces:
            return await anext(pieces)

    assert asyncio.run(read_one()).delta == "One."
    assert sampler.events == ["begun", "ended"]


def test_errors_of_the_sampler_end_the_request(answer: Any) -> None:
    sampler = Sampler()
    sampler.error = UnavailableError("the sampler is away")

    with pytest.raises(UnavailableError, match="the sampler is away"):
        answer(sampler)


def test_a_fixed_value_governs_whatever_is_asked(answer: Any) -> None:
    sampler = Sampler("Well.")

    pieces = answer(sampler, STANDING)

    (rules, asked) = sampler.prompts[0]
    assert (rules.role, rules.content) == (Role.SYSTEM, "Rule: Be polite.")
    assert asked == user("What of ships?")
    assert [cited.value_id for cited in pieces[-1].decision.citations] == ["polite"]


def test_a_filter_narrows_a_tenants_choices_but_no_fixed_value(answer: Any) -> None:
    chosen = ValueSpec(id="chosen", text="Be short.", kind="customisable", category="length")
    narrow = ValueSpec(id="narrow", text="Be calm.", kind="fixed", triggers=("ships",))
    other = ValueSpec(id="other", text="Be loud.", kind="fixed", triggers=("trains",))

    pieces = answer(
        Sampler("Well."),
        *(STANDING, SHIP, chosen, narrow, other),
        where=ValueQuery(kinds=("changing",), categories=("sea",)),
    )

    cited = [cited.value_id for cited in pieces[-1].decision.citations]
    assert sorted(cited) == ["narrow", "polite"]


def test_nothing_that_stands_in_a_broken_sentence_is_ever_sent(answer: Any) -> None:
    sampler = Sampler(*["The Titanic sank. It was cold."] * 6)

    pieces = answer(sampler, by_sentence=True)

    assert not any("Titanic" in piece.delta for piece in pieces)
    assert pieces[-1].decision.outcome is Outcome.REFUSED
    # One reply of each attempt: the first, the restated one, and the best of four redraws.
    assert len(pieces[-1].decision.revisions) == 3


@pytest.mark.parametrize(
    ("asked", "governed"), [("How long must a password be?", True), ("What of ships?", False)]
)
def test_a_rule_without_triggers_governs_by_similarity_under_the_default_embedder(
    answer: Any, asked: str, governed: bool
) -> None:
    rule = ValueSpec(
        id="p", text="Passwords must have at least twelve characters.", kind="changing"
    )

    pieces = answer(Sampler(*["Well."] * 9), rule, messages=(user(asked),))

    assert [cited.value_id for cited in pieces[-1].decision.citations] == ["p"] * governed
