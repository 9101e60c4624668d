"""Cross entropy in chunks against the plain one."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import tensor
from torch.testing import assert_close

from plumbline.trainer.losses.cross_entropy import (
    cross_entropy_loss,
    projected_cross_entropy_loss,
)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    # Two tokens at ln 8 each over a denominator of 4.
    loss = cross_entropy_loss(torch.zeros(2, 8), tensor([3, 5]), denominator=4.0)

    assert_close(loss, tensor(math.log(8) / 2))


def test_chunks_change_neither_loss_nor_gradients() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 6), torch.randn(12, 6)
    targets = torch.randint(0, 12, (10,))
    found = []
    for rows_per_chunk in (3, 100):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        loss = projected_cross_entropy_loss(
            h, w, targets, denominator=10.0, rows_per_chunk=rows_per_chunk
        )
        loss.backward()
        found.append((loss.detach(), h.grad, w.grad))

    expected = F.cross_entropy(hidden @ weight.T, targets)
    assert_close(found[0][0], expected)
    for chunked, whole in zip(found[0], found[1], strict=True):
        assert_close(chunked, whole)
