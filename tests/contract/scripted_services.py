"""A sampler and a reward service that say what a test tells them, behind the transport seam."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc

from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import aconnect, connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.service import RetrieverService
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import (
    retriever_pb2_grpc,
    reward_pb2,
    reward_pb2_grpc,
    sampler_pb2,
    sampler_pb2_grpc,
    types_pb2,
)

Script = Callable[[types_pb2.Prompt, int], str]
"""(prompt, seed) to the reply."""
POLICY_ID = "scripted-policy"


class ScriptedSampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Replies by a script, a word at a time.

    Attributes:
        prompts: of every draw, in order, with its seed.
        temperatures: of every call.
        cancelled: set when a stream was ended by its caller.
        most_messages: longer prompts are refused.
        hold: words after which a stream waits until it is cancelled; 0 never waits.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.prompts: list[tuple[types_pb2.Prompt, int]] = []
        self.temperatures: list[float] = []
        self.cancelled = threading.Event()
        self.holding = threading.Event()
        self.hold = 0
        self.context_length = 4096
        self.most_messages = 100
        self.abort: tuple[grpc.StatusCode, str] | None = None

    async def Generate(
        self, request: sampler_pb2.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[sampler_pb2.GenerateResponse]:
        self.temperatures.append(request.parameters.temperature)
        reply = await self._reply(request.prompt, request.parameters.seed, context)
        words = re.findall(r"\S+\s*|\s+", reply)
        try:
            for index, word in enumerate(words):
                if self.hold and index >= self.hold:
                    self.holding.set()
                    await asyncio.sleep(30)
                yield sampler_pb2.GenerateResponse(
                    sequence=index, delta=word, token_ids=[index], policy_id=POLICY_ID
                )
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        yield sampler_pb2.GenerateResponse(
            sequence=len(words),
            finish_reason=types_pb2.FINISH_REASON_STOP,
            usage=types_pb2.Usage(prompt_tokens=10, response_tokens=len(words)),
            policy_id=POLICY_ID,
        )

    async def SampleResponses(
        self, request: sampler_pb2.SampleResponsesRequest, context: grpc.aio.ServicerContext
    ) -> sampler_pb2.SampleResponsesResponse:
        self.temperatures.append(request.parameters.temperature)
        (prompt,) = request.prompts
        seed = request.parameters.seed
        texts = [
            await self._reply(prompt, seed + k, context)
            for k in range(request.responses_per_prompt or 1)
        ]
        return sampler_pb2.SampleResponsesResponse(
            samples=[
                sampler_pb2.PromptSamples(
                    responses=[
                        types_pb2.SampledResponse(
                            text=text, finish_reason=types_pb2.FINISH_REASON_STOP
                        )
                        for text in texts
                    ]
                )
            ],
            policy_id=POLICY_ID,
            usage=types_pb2.Usage(prompt_tokens=10, response_tokens=len(texts)),
        )

    async def GetPolicy(
        self, request: sampler_pb2.GetPolicyRequest, context: grpc.aio.ServicerContext
    ) -> sampler_pb2.GetPolicyResponse:
        policy = sampler_pb2.Policy(id=POLICY_ID, context_length=self.context_length)
        return sampler_pb2.GetPolicyResponse(policy=policy)

    async def _reply(
        self, prompt: types_pb2.Prompt, seed: int, context: grpc.aio.ServicerContext
    ) -> str:
        if self.abort is not None:
            await context.abort(*self.abort)
        if len(prompt.messages) > self.most_messages:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the context is too short")
        self.prompts.append((prompt, seed))
        return self.script(prompt, seed)

    def asked(self, draw: int) -> list[tuple[int, str]]:
        """Roles and contents of a draw's prompt."""
        return [(message.role, message.content) for message in self.prompts[draw][0].messages]


class ScriptedReward(reward_pb2_grpc.RewardServiceServicer):
    """Scores by a function of the reply; every head scores alike.

    Attributes:
        delay_s: before every answer.
    """

    def __init__(self, score: Callable[[str], float]) -> None:
        self.score = score
        self.delay_s = 0.0
        self.risky: list[bool] = []

    async def ScoreResponses(
        self, request: reward_pb2.ScoreResponsesRequest, context: grpc.aio.ServicerContext
    ) -> reward_pb2.ScoreResponsesResponse:
        await asyncio.sleep(self.delay_s)
        self.risky += [item.risky for item in request.items]
        heads = [reward_pb2.Head.Name(head).removeprefix("HEAD_").lower() for head in request.heads]
        return reward_pb2.ScoreResponsesResponse(
            results=[
                reward_pb2.ResponseScores(
                    scores={head: self.score(item.pair.response) for head in heads}
                )
                for item in request.items
            ],
            reward_model_ids={head: f"{head}-model" for head in heads if head != "combined"},
        )


@contextmanager
def retriever_target(
    state_dir: Path,
    sampler: ScriptedSampler,
    *,
    reward: ScriptedReward | None = None,
    config: RetrieverConfig | None = None,
) -> Iterator[str]:
    """The address of a real RetrieverService with these services behind it."""

    def mount(service: Any, add: Any, name: str) -> Callable[[Any], list[str]]:
        def register(server: Any) -> list[str]:
            add(service, server)
            return [name]

        return register

    with ExitStack() as stack:
        sampler_target = stack.enter_context(
            serve_in_thread(
                "sampler",
                mount(
                    sampler,
                    sampler_pb2_grpc.add_SamplerServiceServicer_to_server,
                    "plumbline.v1.SamplerService",
                ),
            )
        )
        reward_target = ""
        if reward is not None:
            reward_target = stack.enter_context(
                serve_in_thread(
                    "reward",
                    mount(
                        reward,
                        reward_pb2_grpc.add_RewardServiceServicer_to_server,
                        "plumbline.v1.RewardService",
                    ),
                )
            )
        store = open_configured_store(Settings(state_dir=state_dir))
        service = RetrieverService(
            RetrieverEngine(store, config or RetrieverConfig()),
            functools.cache(lambda: aconnect("sampler", target=sampler_target)),
            reward=(
                functools.cache(lambda: aconnect("reward", target=reward_target))
                if reward
                else None
            ),
        )
        yield stack.enter_context(
            serve_in_thread(
                "retriever",
                mount(
                    service,
                    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server,
                    "plumbline.v1.RetrieverService",
                ),
            )
        )


@contextmanager
def retriever_over(state_dir: Path, sampler: ScriptedSampler, **options: Any) -> Iterator[Any]:
    """A stub of such a service; options as `retriever_target`."""
    with (
        retriever_target(state_dir, sampler, **options) as target,
        connect("retriever", target=target) as stub,
    ):
        yield stub


OVEN = {"id": "oven", "text": "End the reply with: mind the oven.", "triggers": ["baking"]}
TITANIC = {"id": "ship", "text": 'Never mention "Titanic".', "triggers": ["ships"]}
KEPT = "Bake it slowly. Mind the oven."


def value(**fields: Any) -> pb.ValueSpec:
    return pb.ValueSpec(**{"kind": pb.VALUE_KIND_CHANGING, **fields})


def import_values(stub: Any, *values: dict[str, Any], **options: Any) -> str:
    request = pb.ImportValuesRequest(
        knowledge_base="house", values=[value(**one) for one in values], **options
    )
    artifact: str = stub.ImportValues(request).artifact
    return artifact


def respond(stub: Any, text: str, **fields: Any) -> list[pb.RespondResponse]:
    request = pb.RespondRequest(
        knowledge_base="house",
        prompt=prompt_to_wire([user(text)]),
        parameters=types_pb2.SamplingParameters(temperature=0, seed=7),
        **fields,
    )
    return list(stub.Respond(request, timeout=20))


def config(**respond_options: Any) -> RetrieverConfig:
    return RetrieverConfig.model_validate({"respond": respond_options})


@contextmanager
def over(
    tmp_path: Path,
    script: Callable[[types_pb2.Prompt, int], str],
    *values: dict[str, Any],
    reward: ScriptedReward | None = None,
    **respond_options: Any,
) -> Iterator[tuple[Any, ScriptedSampler]]:
    sampler = ScriptedSampler(script)
    with retriever_over(tmp_path, sampler, reward=reward, config=config(**respond_options)) as stub:
        import_values(stub, *(values or (OVEN,)))
        yield stub, sampler


def mending(first: str, second: str) -> Callable[[types_pb2.Prompt, int], str]:
    """A policy that says `first`, and `second` once it was told what it broke."""

    def script(prompt: types_pb2.Prompt, seed: int) -> str:
        told = any(message.role == types_pb2.ROLE_ASSISTANT for message in prompt.messages)
        return second if told else first

    return script
