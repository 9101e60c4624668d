"""Replies that are sent by sentence, and callers that go away."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.retriever.client import whole_reply
from plumbline.v1 import retriever_pb2 as pb

sys.path.append(str(Path(__file__).parent))
from scripted_services import (
    TITANIC,
    mending,
    over,
    respond,
)


def test_sentences_are_sent_as_they_pass(tmp_path: Path) -> None:
    reply = "Sail east. Dr. Moe paid 3.14 euros. Then rest"
    with over(tmp_path, lambda p, s: reply, TITANIC) as (stub, _):
        pieces = respond(stub, "What about ships?", check_mode=pb.CHECK_MODE_SENTENCES)

    assert [piece.delta for piece in pieces if piece.delta] == [
        "Sail east.",
        " Dr. Moe paid 3.14 euros.",
        " Then rest",
    ]
    assert not any(piece.restart for piece in pieces)
    assert pieces[-1].outcome == pb.REPLY_OUTCOME_ANSWERED


def test_a_late_violation_withdraws_what_was_sent(tmp_path: Path) -> None:
    first = "Sail east. Think of the Titanic. Then rest."
    with over(tmp_path, mending(first, "Sail west."), TITANIC) as (stub, sampler):
        sampler.hold = 7
        pieces = respond(stub, "What about ships?", check_mode=pb.CHECK_MODE_SENTENCES)

    deltas = [(piece.delta, piece.restart) for piece in pieces]
    assert deltas == [("Sail east.", False), ("Sail west.", True), ("", False)]
    assert not any("Titanic" in piece.delta for piece in pieces)
    assert pieces[-1].outcome == pb.REPLY_OUTCOME_REVISED
    assert [cited.value_id for cited in pieces[-1].revisions[0].broken] == ["ship"]
    assert sampler.cancelled.wait(5), "the broken reply was drawn to its end"


def test_a_violation_that_only_the_whole_reply_shows_restarts_too(tmp_path: Path) -> None:
    with over(tmp_path, lambda p, s: "Bake it. Enjoy.") as (stub, _):
        pieces = respond(
            stub, "What about baking?", check_mode=pb.CHECK_MODE_SENTENCES, max_revisions=0
        )

    text, last = whole_reply(pieces)
    assert pieces[0].delta == "Bake it."
    assert sum(piece.restart for piece in pieces) == 1
    assert text.startswith("Sorry")
    assert last.outcome == pb.REPLY_OUTCOME_REFUSED


@pytest.mark.parametrize("mode", [pb.CHECK_MODE_UNSPECIFIED, pb.CHECK_MODE_SENTENCES])
def test_a_caller_that_goes_away_ends_the_sampling(tmp_path: Path, mode: int) -> None:
    with over(tmp_path, lambda p, s: "One two. Three four. Five six.") as (stub, sampler):
        sampler.hold = 3
        call = stub.Respond(
            pb.RespondRequest(
                knowledge_base="house",
                prompt=prompt_to_wire([user("What about rowing?")]),
                check_mode=mode,
            ),
            timeout=20,
        )
        assert sampler.holding.wait(10)
        call.cancel()
        assert sampler.cancelled.wait(5)
