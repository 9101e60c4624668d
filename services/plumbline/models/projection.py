"""Logprobs and cross entropy under a vocabulary projection, without logits of all positions.

Legend: N counted positions, n of them in a chunk, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

CHUNK_LOGITS = {"cpu": 2**23, "cuda": 2**28}
"""Logits that are alive together: 32 MiB of 32-bit floats, or 1 GiB where small products of
matrices would leave an accelerator idle."""
KEPT_LOGITS = 2**26
"""Up to so many are kept for the backward pass, which else computes them again."""


def projected_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """Logprobs [N], nats, of targets under the logits `hidden @ weight.T / temperature`.

    Args:
        hidden: [N, H] states of the counted positions only.
        weight: [V, H].
        targets: [N] token ids.
    """
    if len(targets) == 0:
        return hidden.sum(dim=1).float()
    found: Tensor = _ProjectedLogprobs.apply(*_autocast(hidden, weight), targets, temperature)
    return found


def projected_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, denominator: float
) -> Tensor:
    """Summed cross entropy, nats, over a denominator; a scalar.

    Its gradients are made in the forward pass, chunk by chunk, so that neither all logits are kept
    nor any computed twice.

    Args:
        hidden, weight, targets: as of `projected_logprobs`.
        denominator: counted tokens of the whole optimizer step, so that the gradients of its
            microbatches add up to those of one big batch.
    """
    if len(targets) == 0:
        return hidden.sum().float()
    found: Tensor = _ProjectedCrossEntropy.apply(*_autocast(hidden, weight), targets, denominator)
    return found


class _ProjectedLogprobs(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float
    ) -> Tensor:
        keep = any(ctx.needs_input_grad) and len(targets) * len(weight) <= KEPT_LOGITS
        kept, logprobs = [], []
        for rows, logits in _chunks(hidden, weight, fresh=keep):
            sums, found = _exponentials_(logits, targets[rows], temperature)
            logprobs.append(found)
            if keep:
                kept.append((logits, sums))
        ctx.save_for_backward(hidden, weight, targets)
        ctx.kept, ctx.temperature = kept, temperature
        return torch.cat(logprobs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, targets = ctx.saved_tensors
        # They are overwritten here; a second backward pass computes them again.
        kept, ctx.kept = ctx.kept, []
        gradients = _Gradients(hidden, weight, ctx.needs_input_grad)
        start = 0
        for logits, sums in kept or _computed_again(hidden, weight, targets, ctx.temperature):
            rows = slice(start, start + len(logits))
            scales = (upstream[rows].to(logits.dtype) / ctx.temperature)[:, None]
            # d logprob / d logits = onehot - softmax
            slopes = logits.mul_(-scales / sums)
            slopes.scatter_add_(1, targets[rows, None], scales)
            gradients.add(rows, slopes)
            start = rows.stop
        return gradients.to_hidden, gradients.to_weight, None, None


class _ProjectedCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, denominator: float
    ) -> Tensor:
        learns = any(ctx.needs_input_grad)
        gradients = _Gradients(hidden, weight, ctx.needs_input_grad)
        losses = []
        for rows, logits in _chunks(hidden, weight):
            sums, logprobs = _exponentials_(logits, targets[rows])
            losses.append(-logprobs.sum())
            if learns:
                labels = targets[rows, None]
                slopes = logits.mul_((sums * denominator).reciprocal_())
                slopes.scatter_add_(1, labels, slopes.new_full(labels.shape, -1 / denominator))
                gradients.add(rows, slopes)
        ctx.gradients = gradients
        return torch.stack(losses).sum() / denominator

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        to_hidden, to_weight = (
            part if part is None or upstream == 1 else part * upstream
            for part in (ctx.gradients.to_hidden, ctx.gradients.to_weight)
        )
        return to_hidden, to_weight, None, None


def _exponentials_(
    logits: Tensor, targets: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Overwrite logits [n, V] with their softmax times its denominators.

    In place and with one exponential, as passes over all logits cost what memory costs.

    Returns:
        the denominators [n, 1], and the logprobs [n] of the targets
    """
    if temperature != 1.0:
        logits.div_(temperature)
    logits.sub_(logits.amax(dim=1, keepdim=True))
    chosen = logits.gather(1, targets[:, None])
    sums = logits.exp_().sum(dim=1, keepdim=True)
    return sums, (chosen - sums.log()).squeeze(1)


def _computed_again(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float
) -> Iterator[tuple[Tensor, Tensor]]:
    for rows, logits in _chunks(hidden, weight):
        yield logits, _exponentials_(logits, targets[rows], temperature)[0]


class _Gradients:
    """Gradients of states [N, H] and weight [V, H], from the slopes of the logits.

    Args:
        wanted: whether the states and the weight need theirs.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, wanted: tuple[bool, ...]) -> None:
        self._hidden, self._weight = hidden, weight
        self.to_hidden = torch.empty_like(hidden) if wanted[0] else None
        # Summed over chunks, for which 16 bits are too few.
        self._exact = weight.dtype in (torch.float32, torch.float64)
        self.to_weight: Tensor | None = None
        if wanted[1]:
            self.to_weight = (
                torch.empty_like(weight)
                if self._exact
                else torch.zeros_like(weight, dtype=torch.float32)
            )

    def add(self, rows: slice, slopes: Tensor) -> None:
        """Take in the slopes [n, V] of a chunk; the first chunk comes first."""
        slopes = slopes.to(self._hidden.dtype)
        if self.to_hidden is not None:
            torch.mm(slopes, self._weight, out=self.to_hidden[rows])
        if self.to_weight is not None and self._exact:
            old = 0 if rows.start == 0 else 1
            self.to_weight.addmm_(slopes.T, self._hidden[rows], beta=old)
        elif self.to_weight is not None:
            self.to_weight += slopes.T @ self._hidden[rows]


def _chunks(
    hidden: Tensor, weight: Tensor, *, fresh: bool = False
) -> Iterator[tuple[slice, Tensor]]:
    """Rows and their logits [n, V], 32-bit floats at least, which the caller may overwrite.

    Args:
        fresh: give each chunk memory of its own; else all share one, which costs no page faults.
    """
    size = max(1, CHUNK_LOGITS.get(hidden.device.type, CHUNK_LOGITS["cpu"]) // len(weight))
    exact = hidden.dtype in (torch.float32, torch.float64)
    shared = None
    for start in range(0, len(hidden), size):
        rows = slice(start, min(start + size, len(hidden)))
        if fresh or not exact:
            logits = hidden[rows] @ weight.T
            yield rows, logits if exact else logits.float()
        else:
            if shared is None:
                shared = hidden.new_empty(rows.stop - rows.start, len(weight))
            yield rows, torch.mm(hidden[rows], weight.T, out=shared[: rows.stop - rows.start])


def _autocast(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the type of autocast where it is on, as it does not reach into custom functions."""
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind):
        return hidden, weight
    chosen = torch.get_autocast_dtype(kind)
    return hidden.to(chosen), weight.to(chosen)
