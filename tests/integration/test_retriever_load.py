"""One retriever process under load: sixteen clients ask while imports and roll-backs move the tag.

A short form runs with the other integration tests; the long form is a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.rpc import connect
from plumbline.v1 import retriever_pb2 as pb

pytestmark = pytest.mark.integration

CLIENTS, RULES, K = 16, 300, 5
EVERY_S = 1.0
"""Between two moves of the tag."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A retriever process on a state directory of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")},
        "PLUMBLINE_STATE_DIR": str(tmp_path / "state"),
        "PLUMBLINE_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "plumbline.retriever.server"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.terminate()
        process.wait(timeout=30)


@dataclass(frozen=True, slots=True)
class Move:
    """The tag went to an artifact at some time between two."""

    artifact: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told, and when it had asked and got it."""

    artifact: str
    ids: tuple[str, ...]
    asked: float
    got: float


@dataclass
class Seen:
    """What happened, in order of its end."""

    moves: list[Move] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    ids: dict[str, set[str]] = field(default_factory=dict)
    """Of each artifact, those of its values."""


def rules(generation: int) -> list[pb.ValueSpec]:
    """Values of a state; half of them are its own, half are in every state."""
    return [
        pb.ValueSpec(
            id=f"rule-{number}" if number % 2 else f"rule-{number}-of-{generation}",
            text=f"Bread of kind {number} is baked for {number + 10} minutes.",
            kind=pb.VALUE_KIND_CHANGING,
        )
        for number in range(RULES)
    ]


def import_state(stub: Any, generation: int, seen: Seen) -> str:
    values, began = rules(generation), time.monotonic()
    reply = stub.ImportValues(
        pb.ImportValuesRequest(knowledge_base="house", values=values, replace_all=True)
    )
    seen.moves.append(Move(reply.artifact, began, time.monotonic()))
    seen.ids[reply.artifact] = {value.id for value in values}
    return str(reply.artifact)


def roll_back(stub: Any, artifact: str, seen: Seen) -> None:
    began = time.monotonic()
    stub.TagKnowledgeBase(pb.TagKnowledgeBaseRequest(knowledge_base="house", target=artifact))
    seen.moves.append(Move(artifact, began, time.monotonic()))


def keep_moving(address: str, seen: Seen, stop: threading.Event) -> None:
    """Import a new state, then go back to an older one, and so on."""
    with connect("retriever", target=address) as stub:
        generation = 1
        states = [seen.moves[0].artifact]
        while not stop.wait(EVERY_S):
            if generation % 3:
                states.append(import_state(stub, generation, seen))
            else:
                roll_back(stub, states[generation % len(states)], seen)
            generation += 1


def keep_asking(address: str, client: int, end: float) -> list[Answer]:
    answers = []
    with connect("retriever", target=address) as stub:
        number = client
        while time.monotonic() < end:
            number = (number * 7 + 1) % RULES
            request = pb.RetrieveValuesRequest(
                knowledge_base="house", query=f"bread of kind {number}", k=K
            )
            asked = time.monotonic()
            reply = stub.RetrieveValues(request)
            ids = tuple(hit.value.id for hit in reply.values)
            answers.append(Answer(reply.artifact, ids, asked, time.monotonic()))
    return answers


def artifacts_between(moves: list[Move], asked: float, got: float) -> set[str]:
    """What a query may be answered from: where the tag was when it was asked, and where it went.

    While a move is on its way, the tag may be on either side of it.
    """
    before = [move for move in moves if move.ended <= asked]
    during = [move for move in moves if move.ended > asked and move.began <= got]
    return {before[-1].artifact, *(move.artifact for move in during)}


def load(address: str, seconds: float) -> Seen:
    seen, stop = Seen(), threading.Event()
    with connect("retriever", target=address) as stub:
        import_state(stub, 0, seen)
    mover = threading.Thread(target=keep_moving, args=(address, seen, stop))
    mover.start()
    try:
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(CLIENTS) as pool:
            # A query that fails raises here.
            parts = pool.map(lambda client: keep_asking(address, client, end), range(CLIENTS))
            seen.answers = [answer for part in parts for answer in part]
    finally:
        stop.set()
        mover.join()
    return seen


def check(seen: Seen, *, least_moves: int) -> None:
    assert len(seen.moves) >= least_moves
    assert len(seen.answers) > 20 * CLIENTS
    assert len({answer.artifact for answer in seen.answers}) >= least_moves // 2
    for answer in seen.answers:
        assert len(answer.ids) == K
        assert set(answer.ids) <= seen.ids[answer.artifact]
        assert answer.artifact in artifacts_between(seen.moves, answer.asked, answer.got)


def test_answers_name_their_artifact_and_are_never_stale(address: str) -> None:
    check(load(address, 8.0), least_moves=5)


@pytest.mark.slow
def test_a_minute_of_answers(address: str) -> None:
    check(load(address, 60.0), least_moves=30)


def test_which_artifacts_may_answer() -> None:
    """Asked before, during and after the move to b, which takes from 2 to 3."""
    moves = [Move("a", 0.0, 1.0), Move("b", 2.0, 3.0)]

    assert artifacts_between(moves, 1.2, 1.8) == {"a"}
    assert artifacts_between(moves, 1.2, 2.5) == {"a", "b"}
    assert artifacts_between(moves, 2.5, 3.5) == {"a", "b"}
    assert artifacts_between(moves, 3.1, 3.2) == {"b"}
