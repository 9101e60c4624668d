"""What the stage `sampler.sample` says of its rollouts."""

from __future__ import annotations

import dataclasses

from plumbline.data.records import Rollout, user
from plumbline.sampler.tasks import rollout_metrics

ROLLOUT = Rollout(
    id="r",
    prompt_id="p0",
    prompt=(user("zero"),),
    response="x",
    prompt_token_ids=(1,),
    response_token_ids=(9, 2),
    logprobs=(-1.0, -1.0),
    finish_reason="stop",
    temperature=1.0,
    seed=0,
    policy_id="policy",
)


def test_metrics_are_means_over_rollouts() -> None:
    # Two and four tokens; one of two was cut off.
    longer = dataclasses.replace(ROLLOUT, response_token_ids=(9,) * 4, finish_reason="length")

    metrics = rollout_metrics([ROLLOUT, longer])

    assert metrics == {"rollouts": 2.0, "response_tokens_mean": 3.0, "cut_off_rate": 0.5}
