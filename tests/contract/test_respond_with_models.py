"""Respond with the platform's own sampler and scorer behind it, over random models."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import aconnect, connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import ValueSpec, user
from plumbline.data.wire import prompt_to_wire
from plumbline.models.references import ModelReferences
from plumbline.retriever.client import whole_reply
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.service import RetrieverService
from plumbline.reward.client import score_pairs
from plumbline.reward.engine import RewardEngine
from plumbline.reward.service import RewardService
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import (
    retriever_pb2,
    retriever_pb2_grpc,
    reward_pb2_grpc,
    sampler_pb2,
    sampler_pb2_grpc,
    types_pb2,
)

PROMPT = (user("the cat sat on"),)
PARAMETERS = types_pb2.SamplingParameters(temperature=1.0, seed=11, max_response_tokens=8)
DRAWS = 6


@pytest.fixture(scope="module")
def stubs(
    tmp_path_factory: pytest.TempPathFactory, tiny_reward_models: dict[str, Path]
) -> Iterator[dict[str, Any]]:
    """Clients of a retriever, and of the sampler and reward services that it calls."""
    store = open_configured_store(Settings(state_dir=tmp_path_factory.mktemp("state")))
    references = ModelReferences(store)
    models = {head: str(tiny_reward_models[head]) for head in ("safety", "helpfulness")}
    config = RetrieverConfig.model_validate({"respond": {"rewards": models}})
    engine = RetrieverEngine(store, config)
    engine.import_values("house", [ValueSpec(id="idle", text="Nothing.", kind="changing")])

    with ExitStack() as stack:
        targets: dict[str, str] = {}

        def calling(name: str) -> Any:
            return functools.cache(lambda: aconnect(name, target=targets[name]))

        services = {
            "sampler": (SamplerService(SamplerEngine(references, device="cpu")), sampler_pb2_grpc),
            "reward": (RewardService(RewardEngine(references, device="cpu")), reward_pb2_grpc),
            "retriever": (
                RetrieverService(engine, calling("sampler"), reward=calling("reward")),
                retriever_pb2_grpc,
            ),
        }
        found = {}
        for name, (servicer, module) in services.items():
            full_name = f"{name.capitalize()}Service"

            def register(
                server: Any, module: Any = module, servicer: Any = servicer, kind: str = full_name
            ) -> list[str]:
                getattr(module, f"add_{kind}Servicer_to_server")(servicer, server)
                return [f"plumbline.v1.{kind}"]

            targets[name] = stack.enter_context(serve_in_thread(name, register))
            found[name] = stack.enter_context(connect(name, target=targets[name]))
        yield found


def respond(stubs: dict[str, Any], policy: Path, **fields: Any) -> tuple[str, Any]:
    request = retriever_pb2.RespondRequest(
        knowledge_base="house",
        policy=str(policy),
        prompt=prompt_to_wire(PROMPT),
        parameters=PARAMETERS,
        **fields,
    )
    return whole_reply(stubs["retriever"].Respond(request))


def test_the_best_of_several_is_the_one_that_the_services_themselves_put_first(
    stubs: dict[str, Any], tiny_policy: Path, tiny_reward_models: dict[str, Path]
) -> None:
    text, last = respond(stubs, tiny_policy, best_of=DRAWS)

    drawn = stubs["sampler"].SampleResponses(
        sampler_pb2.SampleResponsesRequest(
            policy=str(tiny_policy),
            prompts=[prompt_to_wire(PROMPT)],
            responses_per_prompt=DRAWS,
            parameters=PARAMETERS,
        )
    )
    texts = [response.text for response in drawn.samples[0].responses]
    scores = score_pairs(
        stubs["reward"],
        [(PROMPT, each) for each in texts],
        heads=("combined",),
        helpfulness=str(tiny_reward_models["helpfulness"]),
        safety=str(tiny_reward_models["safety"]),
    )
    combined = [by_head["combined"] for by_head in scores]
    assert len(set(texts)) > 1
    assert text == texts[combined.index(max(combined))]
    assert last.scores["combined"] == pytest.approx(max(combined), rel=1e-6)
    assert last.usage.response_tokens == drawn.usage.response_tokens


@pytest.mark.parametrize(
    "mode", [retriever_pb2.CHECK_MODE_UNSPECIFIED, retriever_pb2.CHECK_MODE_SENTENCES]
)
def test_a_single_reply_is_the_sampler_s_own(
    stubs: dict[str, Any], tiny_policy: Path, mode: int
) -> None:
    text, last = respond(stubs, tiny_policy, check_mode=mode)

    own = list(
        stubs["sampler"].Generate(
            sampler_pb2.GenerateRequest(
                policy=str(tiny_policy), prompt=prompt_to_wire(PROMPT), parameters=PARAMETERS
            )
        )
    )
    assert text == "".join(piece.delta for piece in own)
    assert last.finish_reason == own[-1].finish_reason
    assert last.usage == own[-1].usage
