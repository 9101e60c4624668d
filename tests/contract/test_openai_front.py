"""The HTTP front as the openai client uses it, before a real sampler with a tiny random policy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.core.artifacts import Lineage, open_configured_store
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.models.references import ModelReferences
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.seeds import derive_seed
from plumbline.sampler.service import SamplerService
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc, types_pb2

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("uvicorn", reason="the extra `http` is not installed")

from plumbline.openai_front.server import front_in_thread  # noqa: E402 - needs the extra

QUESTION: list[Any] = [{"role": "user", "content": "the dog ran to the sea"}]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, tiny_policy: Path) -> tuple[Settings, str]:
    """A store's settings and the artifact id of the tiny policy in it."""
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"))
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    return settings, open_configured_store(settings).put("policy", tiny_policy, lineage=lineage).id


@pytest.fixture(scope="module")
def model(policy: tuple[Settings, str]) -> str:
    return policy[1]


@pytest.fixture(scope="module")
def sampler(policy: tuple[Settings, str]) -> Iterator[str]:
    settings, model = policy
    engine = SamplerEngine(ModelReferences(open_configured_store(settings)), device="cpu")
    engine.load(model)

    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(SamplerService(engine), server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as address:
        yield address


@pytest.fixture(scope="module")
def url(sampler: str) -> Iterator[str]:
    with front_in_thread(Settings(), target=sampler) as address:
        yield f"http://{address}/v1"


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def stub(sampler: str) -> Iterator[Any]:
    with connect("sampler", target=sampler) as made:
        yield made


def draw(stub: Any, model: str, *, k: int, template: int = 0, **parameters: Any) -> Any:
    """What the sampler itself says to QUESTION."""
    return stub.SampleResponses(
        pb.SampleResponsesRequest(
            policy=model,
            prompts=[prompt_to_wire([user("the dog ran to the sea")])],
            responses_per_prompt=k,
            parameters=types_pb2.SamplingParameters(**parameters),
            prompt_template=template,  # type: ignore[arg-type]
        )
    )


def test_a_chat_says_what_the_sampler_draws(client: Any, stub: Any, model: str) -> None:
    reply = client.chat.completions.create(
        model=model, messages=QUESTION, seed=5, temperature=0.8, top_p=0.9, max_tokens=12
    )
    drawn = draw(stub, model, k=1, seed=5, temperature=0.8, top_p=0.9, max_response_tokens=12)

    (expected,) = drawn.samples[0].responses
    assert reply.object == "chat.completion"
    assert reply.model == model
    assert reply.system_fingerprint == model[:12]
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content) == ("assistant", expected.text)
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert reply.usage.prompt_tokens == drawn.usage.prompt_tokens
    assert reply.usage.completion_tokens == len(expected.token_ids) == 12
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 12


def test_a_stream_joins_to_the_whole_reply(client: Any, model: str) -> None:
    how = {"model": model, "messages": QUESTION, "seed": 3, "max_completion_tokens": 20}
    whole = client.chat.completions.create(**how)
    chunks = list(
        client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True})
    )

    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {model}
    assert chunks[0].choices[0].delta.role == "assistant"
    *told, last = chunks
    text = "".join(chunk.choices[0].delta.content or "" for chunk in told)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in told]
    assert reasons == [None] * (len(told) - 1) + [whole.choices[0].finish_reason]
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None for chunk in told)
    plain = list(client.chat.completions.create(**how, stream=True))
    assert plain[-1].choices[0].finish_reason == reasons[-1]


def test_several_choices_are_the_responses_of_one_seed(client: Any, stub: Any, model: str) -> None:
    how = {"model": model, "messages": QUESTION, "seed": 11, "max_tokens": 8, "n": 4}
    reply = client.chat.completions.create(**how)
    drawn = draw(stub, model, k=4, seed=11, max_response_tokens=8)
    texts = dict.fromkeys(range(4), "")
    seeds = {}
    stream = client.chat.completions.create(
        **how, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                seeds[choice.index] = choice.seed

    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    said = [choice.message.content for choice in reply.choices]
    assert said == [response.text for response in drawn.samples[0].responses]
    assert len(set(said)) > 1
    assert [texts[index] for index in range(4)] == said
    assert seeds == {k: derive_seed(11, k) for k in range(4)}
    assert [choice.seed for choice in reply.choices] == [seeds[k] for k in range(4)]
    assert chunk.usage == reply.usage


def test_a_reply_without_a_seed_tells_the_one_it_took(client: Any, model: str) -> None:
    how = {"model": model, "messages": QUESTION, "max_tokens": 10}
    first = client.chat.completions.with_raw_response.create(**how)
    seed = int(first.headers["x-plumbline-seed"])
    again = client.chat.completions.create(**how, seed=seed)
    other = client.chat.completions.with_raw_response.create(**how)

    assert first.parse().choices[0].message.content == again.choices[0].message.content
    assert int(other.headers["x-plumbline-seed"]) != seed


def test_a_stop_string_ends_the_reply_before_it(client: Any, model: str) -> None:
    how = {"model": model, "messages": QUESTION, "seed": 3, "max_tokens": 20}
    whole = client.chat.completions.create(**how).choices[0].message.content
    stop = whole[6:8]
    cut = client.chat.completions.create(**how, stop=stop).choices[0]
    listed = client.chat.completions.create(**how, stop=["never said", stop]).choices[0]
    streamed = list(client.chat.completions.create(**how, stop=stop, stream=True))

    assert cut.message.content == whole[: whole.index(stop)]
    assert cut.finish_reason == listed.finish_reason == "stop"
    assert listed.message.content == cut.message.content
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == cut.message.content


def test_roles_and_text_parts_reach_the_template(client: Any, model: str) -> None:
    def tokens(*messages: dict[str, Any]) -> int:
        how = {"model": model, "max_tokens": 1, "messages": list(messages)}
        return int(client.chat.completions.create(**how).usage.prompt_tokens)

    asked = {"role": "user", "content": "the cat"}
    parts = [{"type": "text", "text": "the "}, {"type": "text", "text": "cat"}]

    assert tokens({"role": "user", "content": parts}) == tokens(asked)
    system = tokens({"role": "system", "content": "sea"}, asked)
    assert system > tokens(asked)
    assert tokens({"role": "developer", "content": "sea"}, asked) == system
    history = [asked, {"role": "assistant", "content": "mat"}, asked]
    assert tokens(*history) > 2 * tokens(asked)


def test_completions_go_on_with_plain_text(client: Any, stub: Any, model: str) -> None:
    text = QUESTION[0]["content"]
    how = {"model": model, "prompt": text, "seed": 2, "max_tokens": 9}
    reply = client.completions.create(**how, n=2)
    plain = types_pb2.PROMPT_TEMPLATE_PLAIN
    drawn = draw(stub, model, k=2, seed=2, max_response_tokens=9, template=plain)

    assert reply.object == "text_completion"
    said = [choice.text for choice in reply.choices]
    assert said == [response.text for response in drawn.samples[0].responses]
    streamed = ["", ""]
    for chunk in client.completions.create(**how, n=2, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == said


def test_a_list_of_prompts_is_answered_in_order(client: Any, model: str) -> None:
    def say(prompt: Any, **how: Any) -> list[str]:
        given = {"model": model, "seed": 4, "max_tokens": 8, "prompt": prompt, **how}
        return [choice.text for choice in client.completions.create(**given).choices]

    both = say(["the cat", "the dog"], n=2)
    repeated = say(["the cat", "the cat"])

    assert both == say("the cat", n=2) + say("the dog", n=2)
    assert repeated[0] == both[0] != repeated[1]
    stream = client.completions.create(
        model=model,
        seed=4,
        max_tokens=8,
        prompt=["the cat", "the dog"],
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    streamed = ["", "", "", ""]
    usage = None
    for chunk in stream:
        usage = chunk.usage
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == both
    whole = client.completions.create(
        model=model, seed=4, max_tokens=8, prompt=["the cat", "the dog"], n=2
    )
    assert usage == whole.usage


def test_extensions_come_through_extra_body(client: Any, stub: Any, model: str) -> None:
    how = {"model": model, "messages": QUESTION, "seed": 7, "max_tokens": 12}
    reply = client.chat.completions.create(**how, extra_body={"top_k": 2})
    plain = client.chat.completions.create(**how, extra_body={"prompt_template": "plain"})

    drawn = draw(stub, model, k=1, seed=7, max_response_tokens=12, top_k=2)
    assert reply.choices[0].message.content == drawn.samples[0].responses[0].text
    assert plain.usage.prompt_tokens < reply.usage.prompt_tokens
    repeated = client.chat.completions.create(
        **how, temperature=0.0, extra_body={"repetition_penalty": 10.0, "min_p": 0.9}
    )
    drawn = draw(
        stub,
        model,
        k=1,
        seed=7,
        max_response_tokens=12,
        temperature=0.0,
        repetition_penalty=10.0,
        min_p=0.9,
    )
    assert repeated.choices[0].message.content == drawn.samples[0].responses[0].text


def test_models_are_the_policies_in_memory(client: Any, model: str) -> None:
    listed = client.models.list().data
    found = client.models.retrieve(model)

    assert listed[0].id == model
    assert (found.id, found.object, found.policy_id) == (model, "model", model)
    assert found.context_length == 128
    assert client.models.retrieve("default").policy_id == model
    answered = client.chat.completions.create(model="default", messages=QUESTION, max_tokens=1)
    assert answered.model == model


async def test_many_streams_run_side_by_side(url: str, model: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def said(seed: int, *, stream: bool) -> str:
            how = {"model": model, "messages": QUESTION, "seed": seed, "max_tokens": 10}
            reply = await client.chat.completions.create(**how, stream=stream)
            if not stream:
                return str(reply.choices[0].message.content)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in reply])

        streamed = await asyncio.gather(*(said(seed, stream=True) for seed in range(24)))
        whole = await asyncio.gather(*(said(seed, stream=False) for seed in range(24)))

    assert streamed == whole
    assert len(set(whole)) > 12


def test_logprobs_are_those_of_the_policy(client: Any, stub: Any, model: str) -> None:
    how = {"model": model, "messages": QUESTION, "seed": 8, "max_tokens": 6, "temperature": 0.5}
    shown = {"logprobs": True, "top_logprobs": 3}
    (choice,) = client.chat.completions.create(**how, **shown).choices
    entries = choice.logprobs.content
    scored = stub.ComputeLogprobs(
        pb.ComputeLogprobsRequest(
            policy=model,
            pairs=[
                types_pb2.PromptResponse(prompt=prompt_to_wire([user("the dog ran to the sea")]))
            ],
            responses=[pb.ResponseTokens(token_ids=[entry.token_id for entry in entries])],
        )
    ).responses[0]

    assert [entry.logprob for entry in entries] == pytest.approx(scored.logprobs, abs=1e-4)
    assert b"".join(bytes(entry.bytes) for entry in entries).decode("utf-8", "replace") == (
        choice.message.content
    )
    for entry in entries:
        likeliest = [other.logprob for other in entry.top_logprobs]
        assert len(likeliest) == 3
        assert likeliest == sorted(likeliest, reverse=True)
        assert entry.logprob <= likeliest[0] + 1e-6
    stream = list(client.chat.completions.create(**how, **shown, stream=True))
    told = [chunk.choices[0].logprobs for chunk in stream]
    assert [entry for one in told if one for entry in one.content] == entries


def test_completion_logprobs_are_the_same_tokens(client: Any, model: str) -> None:
    how = {"model": model, "prompt": "the cat", "seed": 8, "max_tokens": 6, "logprobs": 2}
    (choice,) = client.completions.create(**how).choices
    streamed = list(client.completions.create(**how, stream=True))

    shown = choice.logprobs
    assert len(shown.tokens) == len(shown.text_offset) == len(shown.top_logprobs) == 6
    assert all(len(alternatives) <= 2 for alternatives in shown.top_logprobs)
    assert shown.text_offset[0] == 0
    offsets = [offset for chunk in streamed for offset in chunk.choices[0].logprobs.text_offset]
    assert offsets == shown.text_offset


def test_a_bias_can_choose_the_token(client: Any, model: str) -> None:
    how = {"model": model, "messages": QUESTION, "max_tokens": 4, "logprobs": True}
    free = client.chat.completions.create(**how, temperature=0).choices[0].logprobs.content
    wanted = (free[0].token_id + 1) % 200 + 10
    biased = client.chat.completions.create(**how, logit_bias={str(wanted): 100}).choices[0]

    assert [entry.token_id for entry in biased.logprobs.content] == [wanted] * 4
    with pytest.raises(openai.BadRequestError, match="accepted: 0 to 294") as caught:
        client.chat.completions.create(**how, logit_bias={"5000": 1})
    assert caught.value.param == "logit_bias"
