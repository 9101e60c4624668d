"""What holds for every backend whose policies another server has: the same as from the engine.

Modules of tests import these beside fixtures of their own:

    stubs: of the sampler with the weights, and of one whose backend has the same policy elsewhere.
    policy: the policy's id.
    tells_tokens: whether the backend tells tokens whatever they were drawn from.
"""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.core.errors import FailedPreconditionError, InvalidInputError, NotFoundError
from plumbline.data.records import Prompt, user
from plumbline.data.wire import prompt_to_wire
from plumbline.sampler.client import SamplingRequest, sample_rollouts
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import types_pb2

PROMPTS = [
    Prompt(id=f"p{index}", messages=(user(text),), kind="helpful")
    for index, text in enumerate(["the cat", "the dog ran to the sea", "a house"])
]


@pytest.mark.parametrize("template", ["chat", "plain", "transcript"])
def test_rollouts_are_the_native_ones(
    stubs: tuple[Any, Any], policy: str, tells_tokens: bool, template: Any
) -> None:
    request = SamplingRequest(
        k=3, temperatures=(1.0, 0.7), top_p=0.9, max_response_tokens=10, template=template
    )
    own, far = (sample_rollouts(stub, policy, PROMPTS, request, seed=4) for stub in stubs)

    for mine, theirs in zip(own, far, strict=True):
        assert theirs.response == mine.response
        if tells_tokens:
            assert theirs.response_token_ids == mine.response_token_ids != ()
            assert theirs.logprobs == pytest.approx(mine.logprobs, abs=1e-5)
        else:
            assert (theirs.response_token_ids, theirs.logprobs) == ((), ())
        assert (theirs.seed, theirs.policy_id) == (mine.seed, mine.policy_id)
        assert (theirs.finish_reason, theirs.temperature) == (mine.finish_reason, mine.temperature)


@pytest.mark.parametrize(
    "template", [types_pb2.PROMPT_TEMPLATE_UNSPECIFIED, types_pb2.PROMPT_TEMPLATE_PLAIN]
)
def test_streams_are_the_native_ones(
    stubs: tuple[Any, Any], policy: str, tells_tokens: bool, template: Any
) -> None:
    request = pb.GenerateRequest(
        policy=policy,
        prompt=prompt_to_wire(PROMPTS[1].messages),
        parameters=types_pb2.SamplingParameters(seed=3, top_k=9, max_response_tokens=15),
        prompt_template=template,
    )
    own, far = (list(stub.Generate(request)) for stub in stubs)

    assert "".join(piece.delta for piece in far) == "".join(piece.delta for piece in own)
    tokens = [[token for piece in pieces for token in piece.token_ids] for pieces in (far, own)]
    assert tokens[0] == (tokens[1] if tells_tokens else [])
    assert far[-1].finish_reason == own[-1].finish_reason
    assert far[-1].usage.prompt_tokens == own[-1].usage.prompt_tokens
    assert far[-1].usage.response_tokens == len(tokens[0])
    assert {piece.policy_id for piece in far} == {policy}


def test_policies_are_those_of_the_endpoint(stubs: tuple[Any, Any], policy: str) -> None:
    own, far = stubs
    assert far.GetPolicy(pb.GetPolicyRequest()) == own.GetPolicy(pb.GetPolicyRequest())
    assert far.LoadPolicy(pb.LoadPolicyRequest(policy=policy)).policy.id == policy
    with pytest.raises(NotFoundError, match="policy/none"):
        far.GetPolicy(pb.GetPolicyRequest(policy="policy/none@latest"))


def test_parameters_out_of_range_are_named(stubs: tuple[Any, Any], policy: str) -> None:
    request = SamplingRequest(temperatures=(11.0,), max_response_tokens=2)
    with pytest.raises(InvalidInputError, match="temperature=11") as caught:
        sample_rollouts(stubs[1], policy, PROMPTS, request)
    assert caught.value.field == "temperature"


def test_logprobs_of_given_responses_are_refused(stubs: tuple[Any, Any], policy: str) -> None:
    pair = types_pb2.PromptResponse(prompt=prompt_to_wire(PROMPTS[0].messages), response="sat")
    with pytest.raises(FailedPreconditionError, match="computes no logprobs of given responses"):
        stubs[1].ComputeLogprobs(pb.ComputeLogprobsRequest(policy=policy, pairs=[pair]))
