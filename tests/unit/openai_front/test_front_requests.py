"""What a request may hold, and how it is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `http` is not installed")

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.openai_front.config import CONFIG_VARIABLE, FrontConfig, configured_front
from plumbline.openai_front.convert import generate_requests, sample_request, seeds_of_prompts
from plumbline.openai_front.requests import ChatBody, CompletionBody, parse_body
from plumbline.sampler.seeds import derive_seed
from plumbline.v1 import types_pb2

MESSAGES = [{"role": "user", "content": "where?"}]
CONFIG = FrontConfig()


def chat(**values: Any) -> ChatBody:
    return parse_body(ChatBody, json.dumps({"messages": MESSAGES, **values}).encode())


def completion(**values: Any) -> CompletionBody:
    return parse_body(CompletionBody, json.dumps({"prompt": "where?", **values}).encode())


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
        ({"temperature": 11}, "temperature", "temperature=11 is not accepted"),
        ({"temperature": "1"}, "temperature", "valid number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"n": 129}, "n", "less than or equal to 128"),
        ({"n": True}, "n", "valid integer"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "the same bound"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**63}, "seed", "less than or equal to"),
        ({"stop": ["a", ""]}, "stop[1]", "at least 1 character"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"logit_bias": {"the": 1}}, "logit_bias", 'the key "the" is no token id'),
        ({"logit_bias": {"5": 101}}, "logit_bias[5]", "less than or equal to 100"),
        ({"top_logprobs": 2}, "top_logprobs", "with logprobs=true only"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream=true only"),
        ({"presence_penalty": 0.5}, "presence_penalty", "accepted: 0, or leave it out"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported here; accepted: []"),
        ({"tool_choice": "auto"}, "tool_choice", 'accepted: "none"'),
        ({"response_format": {"type": "json_object"}}, "response_format", '{"type": "text"}'),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": [{"role": "bob", "content": "x"}]}, "messages[0].role", "'developer'"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "surrogate"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
            'type "image_url" is not supported',
        ),
        (
            {"messages": [{"role": "user", "content": "x", "name": "bob"}]},
            "messages[0].name",
            "unknown key",
        ),
        ({"prompt_template": "other"}, "prompt_template", "'transcript'"),
    ],
)
def test_what_would_have_no_effect_is_refused_by_name(
    values: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        chat(**values)

    assert caught.value.field == field
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 4}, "best_of"),
        ({"prompt": [1, 2, 3]}, "prompt[0]"),
        ({"prompt": []}, "prompt"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": MESSAGES}, "messages"),
    ],
)
def test_completions_refuse_what_they_do_not_do(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        completion(**values)

    assert caught.value.field == field


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"n": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError, match="accepted: an object of parameters"):
        parse_body(ChatBody, body)


def test_null_means_absent_and_inert_values_are_accepted() -> None:
    plain = chat()
    spelled_out = chat(
        temperature=None,
        stop=None,
        frequency_penalty=0.0,
        tools=[],
        response_format={"type": "text"},
        parallel_tool_calls=True,
        store=False,
        messages=[{**MESSAGES[0], "name": None}],
    )

    assert spelled_out == plain
    answered = {"role": "assistant", "content": "sea", "refusal": None, "tool_calls": None}
    assert chat(messages=[*MESSAGES, answered]).messages[1].content == "sea"


def test_an_empty_bound_takes_the_samplers_default() -> None:
    request = sample_request(chat(model="default"), 3, CONFIG)

    assert request.policy == ""
    assert request.parameters == types_pb2.SamplingParameters(seed=3)
    zero = sample_request(chat(logprobs=True, temperature=0), 3, CONFIG).parameters
    assert (zero.HasField("temperature"), zero.HasField("top_logprobs")) == (True, True)


def test_a_prompt_keeps_its_seed_in_any_company() -> None:
    # Alone or with others, first or last: the seed of the request; a repetition gets another.
    assert seeds_of_prompts(9, ["a"]) == [9]
    assert seeds_of_prompts(9, ["b", "a"]) == [9, 9]
    first, second, third = seeds_of_prompts(9, ["a", "a", "a"])
    assert first == 9
    assert len({first, second, third}) == 3


def test_streams_draw_what_one_call_draws() -> None:
    body = completion(prompt=["a", "b", "a"], n=2, stream=True)
    whole = sample_request(body, 7, CONFIG)
    streamed = generate_requests(body, 7, CONFIG)

    seeds = [one.parameters.seed for one in streamed]
    assert seeds == [derive_seed(seed, k) for seed in whole.seeds for k in range(2)]
    assert [one.prompt for one in streamed[::2]] == list(whole.prompts)
    assert {one.prompt_template for one in streamed} == {types_pb2.PROMPT_TEMPLATE_PLAIN}


def test_choices_are_bounded() -> None:
    with pytest.raises(InvalidInputError, match="2 prompts times n=3 are 6 choices") as caught:
        sample_request(completion(prompt=["a", "b"], n=3), 0, FrontConfig(max_choices=5))
    assert caught.value.field == "n"
    with pytest.raises(InvalidInputError, match="accepted: up to 2"):
        generate_requests(chat(n=3), 0, FrontConfig(max_streamed_choices=2))


def test_answers_fit_in_one_message() -> None:
    # 128 choices of 1000 tokens with 21 entries each: 128 * 1000 * (20 + 21 * 24) bytes, 64 MiB.
    body = chat(n=128, max_tokens=1000, logprobs=True, top_logprobs=20)
    with pytest.raises(InvalidInputError, match="may take 64 MiB; accepted: up to 16") as caught:
        sample_request(body, 0, CONFIG)
    assert caught.value.field == "n"
    assert len(generate_requests(body, 0, CONFIG)) == 128
    assert sample_request(chat(n=128, max_tokens=1000), 0, CONFIG).responses_per_prompt == 128


def test_the_configuration_is_a_file_that_the_environment_names(tmp_path: Any) -> None:
    path = tmp_path / "front.yaml"
    path.write_text("max_requests: 7\n")

    assert configured_front({CONFIG_VARIABLE: str(path)}).max_requests == 7
    assert configured_front({}) == FrontConfig()
    path.write_text("max_request: 7\n")
    with pytest.raises(ConfigError, match="did you mean 'max_requests'"):
        configured_front({CONFIG_VARIABLE: str(path)})
    with pytest.raises(ConfigError, match="cannot be read"):
        configured_front({CONFIG_VARIABLE: str(tmp_path / "none.yaml")})
