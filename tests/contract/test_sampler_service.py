"""SamplerService over loopback gRPC, with a tiny random policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.core.artifacts import Lineage, open_configured_store
from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.data.records import Prompt, Rollout, user
from plumbline.data.tables import read_records, write_records
from plumbline.data.template import Template
from plumbline.data.wire import prompt_to_wire, template_to_wire
from plumbline.models.references import ModelReferences
from plumbline.sampler.client import (
    SamplingRequest,
    compute_logprobs,
    rollout_logprobs,
    sample_rollouts,
)
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.seeds import derive_seed
from plumbline.sampler.service import SamplerService
from plumbline.sampler.tasks import STAGES
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc, types_pb2

PROMPTS = [
    Prompt(id=f"p{index}", messages=(user(text),), kind="helpful")
    for index, text in enumerate(["the cat", "the dog ran to the sea", "a house", "mat"])
]
REQUEST = SamplingRequest(k=3, temperatures=(1.0, 0.7), top_p=0.95, max_response_tokens=10)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def policy(settings: Settings, tiny_policy: Path) -> str:
    """Artifact id of the tiny policy."""
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    return open_configured_store(settings).put("policy", tiny_policy, lineage=lineage).id


@pytest.fixture(scope="module")
def engine(settings: Settings) -> SamplerEngine:
    return SamplerEngine(ModelReferences(open_configured_store(settings)), device="cpu")


@pytest.fixture(scope="module")
def address(engine: SamplerEngine) -> Iterator[str]:
    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(SamplerService(engine), server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as found:
        yield found


@pytest.fixture
def stub(address: str) -> Iterator[Any]:
    with connect("sampler", target=address) as client:
        yield client


def generate_request(policy: str, **parameters: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        policy=policy,
        prompt=prompt_to_wire(PROMPTS[1].messages),
        parameters=types_pb2.SamplingParameters(**parameters),
    )


def test_a_rollout_carries_what_learning_needs(stub: Any, policy: str) -> None:
    rollouts = sample_rollouts(stub, policy, PROMPTS, REQUEST, seed=4)

    assert [rollout.prompt_id for rollout in rollouts] == [p.id for p in PROMPTS for _ in range(3)]
    assert [rollout.temperature for rollout in rollouts[:3]] == [1.0, 0.7, 1.0]
    assert len({rollout.id for rollout in rollouts}) == 12
    for rollout in rollouts:
        assert rollout.policy_id == policy
        assert rollout.metadata == {"kind": "helpful"}
        assert len(rollout.logprobs) == len(rollout.response_token_ids) <= 10
        assert rollout.prompt_token_ids[0] == 1  # <|begin|>


def test_division_into_calls_and_order_do_not_change_rollouts(stub: Any, policy: str) -> None:
    expected = sample_rollouts(stub, policy, PROMPTS, REQUEST, seed=4)
    progress: list[tuple[int, int]] = []

    divided = sample_rollouts(
        stub,
        policy,
        PROMPTS,
        REQUEST,
        seed=4,
        responses_per_call=6,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    backwards = sample_rollouts(stub, policy, PROMPTS[::-1], REQUEST, seed=4)

    def tokens(rollouts: list[Rollout]) -> list[tuple[int, ...]]:
        return [rollout.response_token_ids for rollout in rollouts]

    assert progress == [(2, 4), (4, 4)]
    assert tokens(divided) == tokens(expected)
    assert sorted(tokens(backwards)) == sorted(tokens(expected))
    assert tokens(sample_rollouts(stub, policy, PROMPTS, REQUEST, seed=5)) != tokens(expected)


def test_seeds_follow_the_contract(stub: Any, policy: str) -> None:
    request = pb.SampleResponsesRequest(
        policy=policy,
        prompts=[prompt_to_wire(prompt.messages) for prompt in PROMPTS[:2]],
        responses_per_prompt=2,
        parameters=types_pb2.SamplingParameters(seed=9, max_response_tokens=8),
    )
    shared = stub.SampleResponses(request)
    request.seeds.extend([9, 10])
    own = stub.SampleResponses(request)

    assert [r.seed for r in shared.samples[1].responses] == [9, derive_seed(9, 1)]
    assert [r.seed for r in own.samples[1].responses] == [10, derive_seed(10, 1)]
    assert own.samples[0] == shared.samples[0]
    assert own.usage.prompt_tokens == sum(len(s.prompt_token_ids) for s in own.samples)
    assert own.usage.response_tokens == sum(
        len(response.token_ids) for sample in own.samples for response in sample.responses
    )


def test_absent_parameters_mean_one_response_at_temperature_one(stub: Any, policy: str) -> None:
    request = pb.SampleResponsesRequest(
        policy=policy, prompts=[prompt_to_wire(PROMPTS[0].messages)]
    )
    absent = stub.SampleResponses(request)
    request.parameters.temperature = 1.0
    request.parameters.top_p = 1.0

    assert absent == stub.SampleResponses(request)
    assert len(absent.samples[0].responses) == 1
    request.parameters.temperature = 0.0
    assert stub.SampleResponses(request) != absent


def test_a_stream_has_no_gaps_and_ends_with_reason_and_usage(stub: Any, policy: str) -> None:
    messages = list(stub.Generate(generate_request(policy, seed=3, max_response_tokens=12)))

    assert [message.sequence for message in messages] == list(range(len(messages)))
    assert all(m.finish_reason == types_pb2.FINISH_REASON_UNSPECIFIED for m in messages[:-1])
    last = messages[-1]
    assert last.finish_reason in (types_pb2.FINISH_REASON_STOP, types_pb2.FINISH_REASON_LENGTH)
    assert last.usage.response_tokens == sum(len(m.token_ids) for m in messages)
    sampled = stub.SampleResponses(
        pb.SampleResponsesRequest(
            policy=policy,
            prompts=[prompt_to_wire(PROMPTS[1].messages)],
            parameters=types_pb2.SamplingParameters(seed=3, max_response_tokens=12),
        )
    ).samples[0]
    assert "".join(message.delta for message in messages) == sampled.responses[0].text
    assert last.usage.prompt_tokens == len(sampled.prompt_token_ids)
    assert {message.policy_id for message in messages} == {policy}


def test_generation_ends_when_the_caller_goes_away(
    address: str, engine: SamplerEngine, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    closed = threading.Event()
    generate = engine.generate

    def watched(*args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            for delta in generate(*args, **kwargs):
                drawn.append(delta)
                time.sleep(0.02)
                yield delta
        finally:
            closed.set()

    monkeypatch.setattr(engine, "generate", watched)
    with connect("sampler", target=address) as client:
        request = generate_request(policy, seed=3, max_response_tokens=100)
        stream = client.Generate(request)
        next(stream)
        stream.cancel()

        assert closed.wait(timeout=10)
        drawn_before_the_end = len(drawn)
        whole = len(list(client.Generate(request)))
    assert drawn_before_the_end < whole
    assert whole > 20


def test_work_for_a_caller_past_its_deadline_is_abandoned(
    stub: Any, policy: str, engine: SamplerEngine
) -> None:
    prompts = [prompt_to_wire(prompt.messages) for prompt in PROMPTS]
    request = pb.SampleResponsesRequest(
        policy=policy,
        prompts=prompts * 16,
        responses_per_prompt=64,
        parameters=types_pb2.SamplingParameters(max_response_tokens=100),
    )
    with pytest.raises(DeadlineExceededError):
        stub.SampleResponses(request, timeout=0.3)

    # The lock of the policy is free again soon, because the batch stops at its next step.
    started = time.monotonic()
    stub.SampleResponses(
        pb.SampleResponsesRequest(
            policy=policy,
            prompts=prompts[:1],
            parameters=types_pb2.SamplingParameters(max_response_tokens=1),
        )
    )
    assert time.monotonic() - started < 5


def test_logprobs_cover_the_end_token(stub: Any, policy: str) -> None:
    pairs = [(PROMPTS[0].messages, "sat on the mat"), (PROMPTS[1].messages, "")]

    (token_ids, logprobs), (end_only, _) = compute_logprobs(stub, policy, pairs)

    assert token_ids[-1] == 2 and len(logprobs) == len(token_ids)
    assert all(logprob < 0 for logprob in logprobs)
    assert end_only == (2,)
    assert compute_logprobs(stub, policy, pairs, pairs_per_call=1)[0][0] == token_ids


def test_logprobs_of_rollouts_are_those_of_their_tokens(stub: Any, policy: str) -> None:
    request = SamplingRequest(k=3, max_response_tokens=10, template="plain")
    rollouts = sample_rollouts(stub, policy, PROMPTS, request, seed=4)

    found = rollout_logprobs(stub, policy, rollouts, template="plain", rollouts_per_call=5)

    assert len(found) == len(rollouts) == 12
    for rollout, logprobs in zip(rollouts, found, strict=True):
        assert logprobs == pytest.approx(rollout.logprobs, abs=1e-4)


def test_the_prompt_template_reaches_every_method(stub: Any, policy: str) -> None:
    pair = [(PROMPTS[0].messages, "sat")]
    prompt_tokens, streamed, logprobs = [], [], []
    templates: tuple[Template, ...] = ("chat", "plain", "transcript")
    for template in templates:
        how = SamplingRequest(max_response_tokens=4, template=template)
        (rollout,) = sample_rollouts(stub, policy, PROMPTS[:1], how)
        prompt_tokens.append(len(rollout.prompt_token_ids))
        request = generate_request(policy, max_response_tokens=4)
        request.prompt.CopyFrom(prompt_to_wire(PROMPTS[0].messages))
        request.prompt_template = template_to_wire(template)
        streamed.append(list(stub.Generate(request))[-1].usage.prompt_tokens)
        logprobs.append(compute_logprobs(stub, policy, pair, template=template)[0][1])

    assert len(set(prompt_tokens)) == 3
    assert streamed == prompt_tokens
    assert len(set(logprobs)) == 3
    with pytest.raises(InvalidInputError, match="prompt_template=9 is unknown; accepted: PROMPT_"):
        stub.SampleResponses(pb.SampleResponsesRequest(policy=policy, prompt_template=9))  # type: ignore[arg-type]


def test_policies_are_described_and_the_loaded_one_is_the_default(
    stub: Any, policy: str, tiny_policy: Path
) -> None:
    described = stub.LoadPolicy(pb.LoadPolicyRequest(policy=policy)).policy

    assert described == stub.GetPolicy(pb.GetPolicyRequest()).policy
    assert (described.id, described.architecture) == (policy, "llama")
    assert described.context_length == 128
    by_path = stub.GetPolicy(pb.GetPolicyRequest(policy=f"path:{tiny_policy}")).policy
    assert by_path.id.startswith("dir:")
    assert by_path.parameters == described.parameters


def test_errors_arrive_typed_and_name_what_is_accepted(stub: Any, policy: str) -> None:
    with pytest.raises(InvalidInputError, match=r"temperature=-1.0; accepted: 0 to 10") as caught:
        list(stub.Generate(generate_request(policy, temperature=-1.0)))
    assert caught.value.field == "temperature"
    with pytest.raises(InvalidInputError, match="top_p=2"):
        list(stub.Generate(generate_request(policy, top_p=2.0)))
    with pytest.raises(NotFoundError):
        stub.GetPolicy(pb.GetPolicyRequest(policy="policy/none@latest"))
    with pytest.raises(InvalidInputError, match="no prompts"):
        stub.SampleResponses(pb.SampleResponsesRequest(policy=policy))
    long_prompt = Prompt(id="long", messages=(user("x" * 500),))
    with pytest.raises(InvalidInputError, match=r"tokens and the policy's context length is 128"):
        sample_rollouts(stub, policy, [long_prompt], REQUEST)


def test_a_fresh_service_without_a_default_says_how_to_name_a_policy(settings: Settings) -> None:
    engine = SamplerEngine(ModelReferences(open_configured_store(settings)), device="cpu")

    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(SamplerService(engine), server)
        return ["plumbline.v1.SamplerService"]

    with (
        serve_in_thread("sampler", register) as address,
        connect("sampler", target=address) as client,
        pytest.raises(FailedPreconditionError, match="LoadPolicy"),
    ):
        client.GetPolicy(pb.GetPolicyRequest())


def test_the_stage_writes_rollouts_and_runs_once(
    settings: Settings, address: str, policy: str, tmp_path: Path
) -> None:
    store = open_configured_store(settings)
    write_records(tmp_path / "prompts_rl.parquet", PROMPTS)
    world = store.put(
        "corpus", tmp_path, lineage=Lineage(stage="test", version=1, config={}, inputs={})
    )
    config = {"k": 2, "max_response_tokens": 6, "responses_per_call": 2, "seed": 1}
    inputs = {"policy": [policy], "prompts": [world.id]}
    connected = settings.model_copy(update={"targets": {"sampler": address}})

    artifact, cached = run_stage(STAGES[0], config, inputs, store=store, settings=connected)
    again, cached_again = run_stage(STAGES[0], config, inputs, store=store, settings=connected)

    assert (artifact.kind, cached, cached_again) == ("rollouts", False, True)
    assert again.id == artifact.id
    rollouts = read_records(store.materialise(artifact.id) / "rollouts.parquet", Rollout)
    assert [rollout.prompt_id for rollout in rollouts[:3]] == ["p0", "p0", "p1"]
    assert len(rollouts) == 8
