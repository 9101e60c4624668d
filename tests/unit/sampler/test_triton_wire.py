"""The tensors of Triton's vLLM backend, to it and from it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from plumbline.core.errors import FailedPreconditionError
from plumbline.sampler.backends.triton_client import ModelFacts, TensorReply
from plumbline.sampler.backends.triton_wire import (
    checked_spec,
    piece_of,
    request_tensors,
    wanted_outputs,
)
from plumbline.sampler.interface import SamplingOptions

VLLM = ModelFacts(
    name="vllm",
    version="1",
    # As src/model.py of the vLLM backend completes a model's configuration.
    inputs=frozenset(
        {
            "text_input",
            "image",
            "stream",
            "sampling_parameters",
            "exclude_input_in_output",
            "return_finish_reason",
            "return_cumulative_logprob",
            "return_logprobs",
            "return_num_input_tokens",
            "return_num_output_tokens",
            "embedding_request",
        }
    ),
    outputs=frozenset(
        {
            "text_output",
            "finish_reason",
            "cumulative_logprob",
            "logprobs",
            "num_input_tokens",
            "num_output_tokens",
        }
    ),
    parameters={},
)
OLD = ModelFacts(
    "old", "1", frozenset({"text_input", "sampling_parameters"}), frozenset({"text_output"}), {}
)


def tensors(options: SamplingOptions, facts: ModelFacts = VLLM, **how: Any) -> dict[str, Any]:
    spec = checked_spec(options, seed=5, temperature=options.temperatures[0], default_tokens=256)
    made = request_tensors(facts, "thé", options, spec, **{"stream": False, **how})
    return {name: array.tolist() for name, array in made.items()}


def test_a_request_asks_for_what_the_model_can_tell() -> None:
    made = tensors(SamplingOptions())
    parameters = json.loads(made.pop("sampling_parameters")[0])

    assert parameters == {
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 256,
        "seed": 5,
        "logprobs": 0,
    }
    assert made == {
        "text_input": ["thé".encode()],
        "exclude_input_in_output": [True],
        "stream": [False],
        "return_finish_reason": [True],
        "return_logprobs": [True],
        "return_num_input_tokens": [True],
    }
    assert tensors(SamplingOptions(), stream=True)["stream"] == [True]
    assert set(tensors(SamplingOptions(), OLD)) == {"text_input", "sampling_parameters"}
    assert set(wanted_outputs(VLLM)) == {
        "text_output",
        "finish_reason",
        "logprobs",
        "num_input_tokens",
    }


def test_parameters_have_vllms_names() -> None:
    options = SamplingOptions(
        temperatures=(0.7,),
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        repetition_penalty=1.2,
        logit_bias={7: 1.5},
        stop=("a", "b"),
        max_response_tokens=9,
    )
    assert json.loads(tensors(options)["sampling_parameters"][0]) == {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 3,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "logit_bias": {"7": 1.5},
        "stop": ["a", "b"],
        "max_tokens": 9,
        "seed": 5,
    }


def test_logprobs_are_asked_for_only_where_they_tell_tokens() -> None:
    assert "return_logprobs" in tensors(SamplingOptions(temperatures=(0.0,)))
    cut = tensors(SamplingOptions(top_p=0.9))
    assert "return_logprobs" not in cut
    assert "logprobs" not in json.loads(cut["sampling_parameters"][0])


def told(*positions: list[tuple[int, float]], reason: str = "stop") -> TensorReply:
    """A reply with, for each token, the drawn one and then the likeliest by falling logprob."""
    entries = [
        {
            str(token_id): {"logprob": logprob, "rank": rank, "decoded_token": f"<{token_id}>"}
            for rank, (token_id, logprob) in enumerate(position)
        }
        for position in positions
    ]
    texts = {"text_output": "sea", "finish_reason": reason, "logprobs": json.dumps(entries)}
    arrays = {name: np.array([text.encode()], dtype=np.object_) for name, text in texts.items()}
    return TensorReply("1", arrays | {"num_input_tokens": np.uint32(6)})


def piece(reply: TensorReply, options: SamplingOptions) -> Any:
    return piece_of(
        reply, VLLM, options, options.temperatures[0], lambda token_id, shown: shown.encode()
    )


def test_the_first_entry_is_the_drawn_token_and_the_likeliest_follow_by_logprob() -> None:
    # The first token is the fourth likeliest, the second one the likeliest itself.
    reply = told([(4, -2.0), (1, -0.5), (2, -1.5)], [(9, -0.25), (8, -1.75)])
    found = piece(reply, SamplingOptions(top_logprobs=2))

    assert [(one.token_id, one.logprob, one.finish_reason) for one in found.tokens] == [
        (4, -2.0, None),
        (9, -0.25, "stop"),
    ]
    first, second = found.details
    assert (first.token_id, first.text, first.logprob) == (4, b"<4>", -2.0)
    assert [one.token_id for one in first.alternatives] == [1, 2]
    assert [one.token_id for one in second.alternatives] == [9, 8]
    assert (found.text, found.finish_reason, found.prompt_tokens) == ("sea", "stop", 6)


@pytest.mark.parametrize(
    ("options", "logprob"),
    [
        (SamplingOptions(), -2.0),
        (SamplingOptions(temperatures=(0.0,), top_k=1, top_p=0.5), 0.0),
        (SamplingOptions(temperatures=(0.0,), repetition_penalty=1.1), None),
        (SamplingOptions(temperatures=(0.7,)), None),
        (SamplingOptions(top_p=0.9), None),
        (SamplingOptions(min_p=0.1), None),
        (SamplingOptions(logit_bias={1: 1.0}), None),
    ],
)
def test_tokens_are_told_where_the_logprobs_they_were_drawn_with_are_known(
    options: SamplingOptions, logprob: float | None
) -> None:
    drawn = piece(told([(4, -2.0)]), options).tokens
    assert [one.logprob for one in drawn] == ([] if logprob is None else [logprob])
    assert all(one.untempered_logprob == -2.0 for one in drawn)


def test_details_of_tokens_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="not those that tokens were drawn with"):
        tensors(SamplingOptions(temperatures=(0.7,), top_logprobs=1))
    with pytest.raises(FailedPreconditionError, match="tells no logprobs"):
        tensors(SamplingOptions(top_logprobs=1), OLD)


def test_a_reply_before_the_last_has_no_reason_and_may_have_no_logprobs() -> None:
    empty = told(reason="None")
    null = dict(empty.tensors) | {"logprobs": np.array([b"null"], dtype=np.object_)}
    for reply in (empty, TensorReply("1", null)):
        found = piece(reply, SamplingOptions())
        assert (found.finish_reason, found.tokens, found.details) == (None, (), ())
