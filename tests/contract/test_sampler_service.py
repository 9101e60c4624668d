"""SamplerService over loopback gRPC, with a tiny random policy."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status
from prometheus_client import REGISTRY
from safetensors.torch import save_file

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
from plumbline.models.adapters import merge_adapters
from plumbline.models.checkpoint import load_causal_lm, save_model
from plumbline.models.references import ModelReferences
from plumbline.sampler.client import (
    SamplingRequest,
    compute_logprobs,
    rollout_logprobs,
    sample_rollouts,
)
from plumbline.sampler.config import SamplerConfig
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.generation import sample_batch
from plumbline.sampler.interface import SamplingOptions
from plumbline.sampler.scheduler import Scheduler
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


@contextlib.contextmanager
def serving(engine: SamplerEngine) -> Iterator[str]:
    """Address of a server of this engine."""

    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(SamplerService(engine), server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as found:
        yield found


@pytest.fixture(scope="module")
def address(engine: SamplerEngine) -> Iterator[str]:
    with serving(engine) as found:
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


def figure(name: str) -> float:
    """A Prometheus figure of this process."""
    return REGISTRY.get_sample_value(f"plumbline_sampler_{name}") or 0.0


def wait_until_idle() -> None:
    """Nothing is drawn, and nobody holds a block of the cache."""
    end = time.monotonic() + 10
    while figure("rows") or figure("cache_blocks_held") or figure("requests_waiting"):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 20 ms, so that what comes meanwhile finds a response half drawn."""
    step = Scheduler.step

    def slow(scheduler: Scheduler) -> None:
        time.sleep(0.02)
        step(scheduler)

    monkeypatch.setattr(Scheduler, "step", slow)


@pytest.mark.usefixtures("slow_steps")
def test_generation_ends_when_the_caller_goes_away(address: str, policy: str) -> None:
    before = figure("response_tokens_total")
    with connect("sampler", target=address) as client:
        stream = client.Generate(generate_request(policy, seed=3, max_response_tokens=100))
        next(stream)
        stream.cancel()

    wait_until_idle()
    assert 1 <= figure("response_tokens_total") - before < 50


@pytest.mark.usefixtures("slow_steps")
def test_a_deadline_ends_a_response_half_way(address: str, policy: str) -> None:
    with connect("sampler", target=address) as client:
        stream = client.Generate(
            generate_request(policy, seed=3, max_response_tokens=100), timeout=0.5
        )
        with pytest.raises(DeadlineExceededError):
            list(stream)

    wait_until_idle()


@pytest.mark.usefixtures("slow_steps")
def test_work_for_a_caller_past_its_deadline_is_abandoned(stub: Any, policy: str) -> None:
    request = pb.SampleResponsesRequest(
        policy=policy,
        prompts=[prompt_to_wire(prompt.messages) for prompt in PROMPTS] * 16,
        responses_per_prompt=64,
        parameters=types_pb2.SamplingParameters(max_response_tokens=100),
    )
    with pytest.raises(DeadlineExceededError):
        stub.SampleResponses(request, timeout=0.5)

    wait_until_idle()


def test_many_callers_are_drawn_together_and_get_what_each_gets_alone(
    address: str, policy: str
) -> None:
    def draw(seed: int) -> list[str]:
        with connect("sampler", target=address) as client:
            request = generate_request(policy, seed=seed, max_response_tokens=40)
            return [message.delta for message in client.Generate(request)]

    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(draw, range(24)))

    for seed in (0, 11, 23):
        assert "".join(together[seed]) == "".join(draw(seed))
    wait_until_idle()


@pytest.mark.usefixtures("slow_steps")
def test_a_full_queue_refuses_and_says_when_to_try_again(settings: Settings, policy: str) -> None:
    engine = SamplerEngine(
        ModelReferences(open_configured_store(settings)),
        SamplerConfig(max_waiting=4, max_rows=2),
        device="cpu",
    )
    with serving(engine) as address, grpc.insecure_channel(address) as channel:
        stub = sampler_pb2_grpc.SamplerServiceStub(channel)
        engine.load(policy)
        requests = [generate_request(policy, seed=s, max_response_tokens=60) for s in range(12)]
        streams = [stub.Generate(request, timeout=60) for request in requests]
        ended = []
        for stream in streams:
            try:
                ended.append(list(stream)[-1].finish_reason)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                details = rpc_status.from_call(error).details
                kinds = {detail.type_url.rpartition(".")[2] for detail in details}
                assert "RetryInfo" in kinds
                ended.append("refused")

    assert 1 <= ended.count("refused") <= 8
    wait_until_idle()


def test_a_policy_that_is_replaced_finishes_what_it_began(
    settings: Settings, policy: str, tiny_llama: Callable[..., Any], tiny_tokenizer: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    store = open_configured_store(settings)
    save_model(tiny_llama(seed=7), tiny_tokenizer, tmp_path / "second")
    lineage = Lineage(stage="test", version=1, config={"second": True}, inputs={})
    second = store.put("policy", tmp_path / "second", lineage=lineage).id
    engine = SamplerEngine(ModelReferences(store), SamplerConfig(max_policies=1), device="cpu")
    with serving(engine) as address, connect("sampler", target=address) as stub:
        texts = {}
        for one in (policy, second):
            deltas = list(stub.Generate(generate_request(one, seed=1, max_response_tokens=60)))
            texts[one] = "".join(delta.delta for delta in deltas)
        stub.LoadPolicy(pb.LoadPolicyRequest(policy=policy))
        stop = threading.Event()
        seen: list[tuple[str, str]] = []

        def ask() -> None:
            with connect("sampler", target=address) as client:
                while not stop.is_set():
                    deltas = list(
                        client.Generate(generate_request("", seed=1, max_response_tokens=60))
                    )
                    (named,) = {delta.policy_id for delta in deltas}
                    seen.append((named, "".join(delta.delta for delta in deltas)))

        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(ask) for _ in range(6)]
            for swap in range(10):
                stub.LoadPolicy(pb.LoadPolicyRequest(policy=(second, policy)[swap % 2]))
                time.sleep(0.1)
            stop.set()
            for one in asking:
                one.result()

    assert {named for named, _ in seen} == {policy, second}
    assert all(text == texts[named] for named, text in seen)


def test_adapters_are_a_policy_of_their_own(
    settings: Settings, policy: str, tiny_policy: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    model, _ = load_causal_lm(tiny_policy)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.inject_adapter_in_model(config, model)
    config.save_pretrained(tmp_path / "adapters")
    save_file(
        peft.get_peft_model_state_dict(model), tmp_path / "adapters/adapter_model.safetensors"
    )
    merge_adapters(model)
    engine = SamplerEngine(ModelReferences(open_configured_store(settings)), device="cpu")
    prompt = (user("the cat"),)
    options = SamplingOptions(temperatures=(0.0,), max_response_tokens=8)

    before = engine.sample(policy, [prompt], options, k=1, seeds=[0])
    described = engine.load(f"path:{tmp_path / 'adapters'}", policy)
    policy_id, (sampled,) = engine.sample("", [prompt], options, k=1, seeds=[0])

    assert described.id == policy_id and policy_id.endswith(f"+{policy}")
    ids = list(sampled.prompt_token_ids)
    expected = sample_batch(
        model, [ids], k=1, temperatures=(0.0,), seeds=[0], max_response_tokens=8, eos_id=2
    )
    assert sampled.responses[0].sampled.token_ids == expected[0][0].token_ids
    # The base draws what it drew before.
    assert engine.sample(policy, [prompt], options, k=1, seeds=[0]) == before
    assert {one.id for one in engine.policies()[0]} == {policy, policy_id}


def test_every_drawing_parameter_reaches_the_engine(stub: Any, policy: str) -> None:
    def draw(**parameters: Any) -> Any:
        response = stub.SampleResponses(
            pb.SampleResponsesRequest(
                policy=policy,
                prompts=[prompt_to_wire(PROMPTS[0].messages)],
                parameters=types_pb2.SamplingParameters(
                    seed=5, max_response_tokens=8, **parameters
                ),
            )
        )
        return response.samples[0].responses[0]

    plain = draw()
    greedy = draw(temperature=0.0)
    assert draw(min_p=1.0).token_ids == greedy.token_ids == draw(top_k=1).token_ids
    assert set(draw(logit_bias={60: 100.0}).token_ids) == {60}
    assert draw(repetition_penalty=10.0).token_ids != plain.token_ids
    detailed = draw(top_logprobs=3)
    assert detailed.token_ids == plain.token_ids
    assert [d.token_id for d in detailed.details] == list(plain.token_ids)
    assert all(len(d.alternatives) == 3 for d in detailed.details)
    joined = b"".join(d.text for d in detailed.details if d.token_id > 5).decode(errors="replace")
    assert joined.strip() == plain.text.strip()
    assert list(plain.details) == []
    for bad, field in (
        ({"min_p": 2.0}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"logit_bias": {999: 1.0}}, "logit_bias"),
        ({"logit_bias": {5: 101.0}}, "logit_bias"),
        ({"top_logprobs": 21}, "top_logprobs"),
    ):
        with pytest.raises(InvalidInputError) as refused:
            draw(**bad)
        assert refused.value.field == field


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
