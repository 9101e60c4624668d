"""Estimators of the KL divergence of the policy from the reference, from sampled tokens.

Legend: any shape; one entry per sampled token.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, *, estimator: Estimator) -> Tensor:
    """Per-token estimate, nats, for tokens drawn from the policy.

    With r = log p_ref - log p: k1 = -r is unbiased but may be negative; k2 = r^2 / 2 is biased and
    never negative; k3 = e^r - 1 - r is unbiased and never negative. They are meant as a reward
    penalty or a measure: the gradient of k1 or k3 as a loss is not the gradient of the divergence.

    Args:
        logprobs: nats, under the policy that drew the tokens; ref_logprobs alike.
    Source: Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.
    """
    log_ratio = ref_logprobs - logprobs
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return log_ratio.square() / 2
    return log_ratio.expm1() - log_ratio
