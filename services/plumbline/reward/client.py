"""Scores from a RewardService: records to requests and back.

Works with any synchronous stub; used by the stage, by training against a remote scorer, and by
evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Message, Rollout
from plumbline.data.wire import prompt_to_wire
from plumbline.v1 import reward_pb2, types_pb2

_HEADS = {
    "helpfulness": reward_pb2.HEAD_HELPFULNESS,
    "safety": reward_pb2.HEAD_SAFETY,
    "combined": reward_pb2.HEAD_COMBINED,
}
_MAX_CALL_BYTES = 8 * 2**20
"""Half of the platform's message limit."""

RISKY_KINDS = ("harmful",)
"""Kinds of prompts that are known to invite unsafe responses."""


def score_pairs(
    stub: Any,
    pairs: Sequence[tuple[Sequence[Message], str]],
    *,
    heads: Sequence[str],
    helpfulness: str = "",
    safety: str = "",
    risky: Sequence[bool] | None = None,
    items_per_call: int = 512,
    timeout_s: float = 600.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, float]]:
    """Scores by head of (prompt, response) pairs.

    Args:
        stub: a RewardService stub of `connect("reward")`.
        heads: of helpfulness, safety and combined.
        helpfulness: reward model by artifact id, tag or directory; safety alike. Empty takes the
            service's default.
        risky: one per pair, True where the prompt is known to be risky; None means none is.
        timeout_s: deadline of each call.
        on_progress: called with (pairs done, pairs in all) after each call; what it raises ends
            the work.
    Returns:
        Logits by head, in the order of the pairs.
    Raises:
        InvalidInputError: an unknown head.
    """
    flags = [False] * len(pairs) if risky is None else list(risky)
    wire_heads = [_head_to_wire(head) for head in heads]
    results: list[dict[str, float]] = []
    for start, end in _calls(pairs, items_per_call):
        request = reward_pb2.ScoreResponsesRequest(
            items=[
                reward_pb2.ScoredItem(
                    pair=types_pb2.PromptResponse(prompt=prompt_to_wire(prompt), response=response),
                    risky=flag,
                )
                for (prompt, response), flag in zip(pairs[start:end], flags[start:end], strict=True)
            ],
            heads=wire_heads,
            models=reward_pb2.RewardModels(helpfulness=helpfulness, safety=safety),
        )
        response = stub.ScoreResponses(request, timeout=timeout_s)
        results += [dict(result.scores) for result in response.results]
        if on_progress is not None:
            on_progress(end, len(pairs))
    return results


def score_rollouts(
    stub: Any,
    rollouts: Sequence[Rollout],
    *,
    heads: Sequence[str],
    helpfulness: str = "",
    safety: str = "",
    risky_kinds: Collection[str] = RISKY_KINDS,
    items_per_call: int = 512,
    timeout_s: float = 600.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """The rollouts with their scores filled in; scores of other heads are kept.

    Args:
        risky_kinds: a prompt is risky when the rollout's metadata `kind` is one of these.
    """
    scores = score_pairs(
        stub,
        [(rollout.prompt, rollout.response) for rollout in rollouts],
        heads=heads,
        helpfulness=helpfulness,
        safety=safety,
        risky=[rollout.metadata.get("kind", "") in risky_kinds for rollout in rollouts],
        items_per_call=items_per_call,
        timeout_s=timeout_s,
        on_progress=on_progress,
    )
    return [
        dataclasses.replace(rollout, scores={**rollout.scores, **by_head})
        for rollout, by_head in zip(rollouts, scores, strict=True)
    ]


def _head_to_wire(head: str) -> reward_pb2.Head:
    if head not in _HEADS:
        raise InvalidInputError(
            f"head {head!r} is unknown; accepted: {', '.join(_HEADS)}", field="heads"
        )
    return _HEADS[head]


def _calls(
    pairs: Sequence[tuple[Sequence[Message], str]], items_per_call: int
) -> Iterator[tuple[int, int]]:
    """Ranges of pairs, one per call, within the limits on items and bytes."""
    start = size_bytes = 0
    for index, (prompt, response) in enumerate(pairs):
        characters = sum(len(message.content) for message in prompt) + len(response)
        # UTF-8 takes up to four bytes a character; messages carry a little beside their text.
        cost = 4 * characters + 16 * (len(prompt) + 1)
        full = index - start >= items_per_call or size_bytes + cost > _MAX_CALL_BYTES
        if index > start and full:
            yield start, index
            start, size_bytes = index, 0
        size_bytes += cost
    if start < len(pairs):
        yield start, len(pairs)
