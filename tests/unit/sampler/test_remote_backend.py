"""What holds for every backend whose policies another server has, before a scripted endpoint."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from plumbline.core.errors import (
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from plumbline.data.records import user
from plumbline.sampler.backends.remote import Drawn, RemoteBackend
from plumbline.sampler.interface import Delta, Policy, Response, SamplingOptions
from plumbline.sampler.requests import Sampled
from plumbline.sampler.seeds import derive_seed

PROMPTS = [[user("one")], [user("two")]]


class Scripted:
    """An endpoint with one model, `m`, whose responses say what they were asked with.

    Attributes:
        policy_ids: of the responses, in turn.
        pause_s: before each response, by prompt.
    """

    def __init__(self) -> None:
        self.policy_ids = ["m/1"]
        self.pause_s: dict[str, float] = {}
        self.fails: set[str] = set()
        self.dropped = 0
        self.drawn = 0

    async def find(self, name: str) -> str:
        if name not in ("", "m"):
            raise NotFoundError(f"no model {name}")
        return "m"

    async def describe(self, name: str) -> Policy:
        return Policy("m/1", await self.find(name), "", 0, 0, 0)

    async def load(self, name: str) -> Policy:
        return await self.describe(name)

    async def models(self) -> list[Policy]:
        return [await self.describe("m")]

    async def draw(
        self, model: str, prompt: Any, options: Any, *, seed: int, temperature: float, template: Any
    ) -> Drawn:
        text = prompt[0].content
        try:
            await asyncio.sleep(self.pause_s.get(text, 0))
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        if text in self.fails:
            raise UnavailableError(f"{text} is lost")
        self.drawn += 1
        policy_id = self.policy_ids[(self.drawn - 1) % len(self.policy_ids)]
        sampled = Sampled((), (), "stop", seed)
        return Drawn(policy_id, Response(f"{text} at {temperature}", sampled), (7,))

    async def deltas(
        self, name: str, prompt: Any, options: Any, *, seed: int, template: Any
    ) -> AsyncGenerator[Delta]:
        await self.find(name)
        try:
            for text in ("a", "b"):
                yield Delta(text, (), "m/1", 1)
                await asyncio.sleep(self.pause_s.get(text, 0))
            yield Delta("", (), "m/1", 1, "stop")
        finally:
            self.dropped += 1

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def endpoint() -> Scripted:
    return Scripted()


@pytest.fixture
def backend(endpoint: Scripted) -> Iterator[RemoteBackend[str]]:
    made = RemoteBackend(lambda: endpoint, name="test", default_model="", max_responses=6)
    yield made
    made.close()


def test_each_response_has_a_seed_and_a_temperature_of_its_own(
    backend: RemoteBackend[str],
) -> None:
    options = SamplingOptions(temperatures=(1.0, 0.5))
    policy_id, samples = backend.sample("m", PROMPTS, options, k=3, seeds=[8, 9])

    assert policy_id == "m/1"
    assert [one.text for one in samples[1].responses] == ["two at 1.0", "two at 0.5", "two at 1.0"]
    assert [one.sampled.seed for one in samples[1].responses] == [
        derive_seed(9, index) for index in range(3)
    ]
    assert samples[0].prompt_token_ids == (7,)


def test_the_first_failure_drops_the_other_draws(
    backend: RemoteBackend[str], endpoint: Scripted
) -> None:
    endpoint.fails, endpoint.pause_s = {"one"}, {"two": 60}
    with pytest.raises(UnavailableError, match="one is lost"):
        backend.sample("", PROMPTS, SamplingOptions(), k=2, seeds=[1, 2])
    assert endpoint.dropped == 2


def test_responses_of_two_policies_are_not_mixed(
    backend: RemoteBackend[str], endpoint: Scripted
) -> None:
    endpoint.policy_ids = ["m/1", "m/2"]
    with pytest.raises(UnavailableError, match=r"changed its model .* m/1, m/2"):
        backend.sample("", PROMPTS, SamplingOptions(), k=1, seeds=[1, 2])


def test_a_deadline_drops_what_is_drawn(backend: RemoteBackend[str], endpoint: Scripted) -> None:
    endpoint.pause_s = {"one": 60, "b": 60}
    with pytest.raises(DeadlineExceededError):
        backend.sample(
            "", PROMPTS, SamplingOptions(), k=1, seeds=[1, 2], deadline=time.monotonic() + 0.05
        )
    assert endpoint.dropped == 1

    async def read() -> list[str]:
        deltas = backend.stream(
            "", PROMPTS[0], SamplingOptions(), seed=1, deadline=time.monotonic() + 0.05
        )
        return [delta.text async for delta in deltas]

    with pytest.raises(DeadlineExceededError):
        asyncio.run(read())
    assert endpoint.dropped == 2


def test_a_stream_that_is_left_is_closed(backend: RemoteBackend[str], endpoint: Scripted) -> None:
    whole = list(backend.generate("", PROMPTS[0], SamplingOptions(), seed=1))
    assert [delta.text for delta in whole] == ["a", "b", ""]
    left = backend.generate("", PROMPTS[0], SamplingOptions(), seed=1)
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert endpoint.dropped == 2


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"prompts": [], "seeds": []}, "prompts"),
        ({"k": 0}, "responses_per_prompt"),
        ({"seeds": [1]}, "seeds"),
        ({"k": 4}, "prompts"),
    ],
)
def test_sizes_are_checked_before_anything_is_asked(
    backend: RemoteBackend[str], endpoint: Scripted, arguments: Any, field: str
) -> None:
    how = {"prompts": PROMPTS, "k": 1, "seeds": [1, 2], **arguments}
    with pytest.raises(InvalidInputError) as caught:
        backend.sample("", how.pop("prompts"), SamplingOptions(), **how)
    assert (caught.value.field, endpoint.drawn) == (field, 0)


def test_loading_makes_the_default(backend: RemoteBackend[str]) -> None:
    assert backend.policies()[1] == ""
    assert backend.load("m").id == "m/1"
    assert backend.policies()[1] == "m"
    with pytest.raises(NotFoundError):
        backend.load("n")
    assert backend.policies()[1] == "m"
    with pytest.raises(InvalidInputError, match="no base"):
        backend.load("m", base="n")


def test_an_endpoint_that_cannot_be_made_leaves_no_thread() -> None:
    def connect() -> Any:
        raise NotFoundError("no such endpoint")

    with pytest.raises(NotFoundError, match="no such endpoint"):
        RemoteBackend(connect, name="left-over", default_model="", max_responses=1)
    assert "left-over" not in {thread.name for thread in threading.enumerate()}
