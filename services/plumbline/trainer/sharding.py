"""A policy whose weights are spread over the ranks of a process group (FSDP2), and its training.

Each rank computes its share of every step's examples, and the ranks' gradients are added up. The
loss is divided by the tokens of the whole step, so the number of ranks changes no result beyond
rounding. Checkpoints hold whole tensors, so a run may go on with another number of ranks.

Source: Zhao et al. 2023, arXiv:2304.11277, for full sharding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from plumbline.models.chat import EncodedConversation
from plumbline.models.packing import supports_packing
from plumbline.trainer.batches import microbatches
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.forward import counted_loss
from plumbline.trainer.lisa import decoder_layers


class CountedLoss(nn.Module):
    """`counted_loss` as a module, in whose forward pass the sharded weights are whole."""

    def __init__(self, model: PreTrainedModel, *, pad_id: int) -> None:
        super().__init__()
        self.model, self._pad_id = model, pad_id

    def forward(
        self,
        texts: Sequence[Sequence[int]],
        counted: Sequence[Sequence[bool]],
        denominator: float,
    ) -> Tensor:
        return counted_loss(
            self.model, texts, counted, denominator=denominator, pad_id=self._pad_id
        )


class ShardedRun(TrainingRun):
    """A run whose parameters are spread over the ranks; the first one writes checkpoints."""

    def _whole(self, tensor: Tensor) -> Tensor:
        # Every rank takes part in gathering, also those that do not write.
        return super()._whole(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)

    def _placed(self, value: Tensor, parameter: Tensor) -> Tensor:
        if isinstance(parameter, DTensor) and value.shape == parameter.shape:
            # All ranks read the same file, so none has to send.
            return distribute_tensor(
                value.to(parameter.device),
                parameter.device_mesh,
                parameter.placements,
                src_data_rank=None,
            )
        return super()._placed(value, parameter)


def shard(model: PreTrainedModel, mesh: DeviceMesh, *, pad_id: int) -> CountedLoss:
    """Spread a model over the ranks of a mesh, layer by layer, in place."""
    # Tried while the weights are whole; the answer is kept.
    supports_packing(model)
    loss = CountedLoss(model, pad_id=pad_id)
    for layer in decoder_layers([model]):
        fully_shard(layer, mesh=mesh)
    fully_shard(loss, mesh=mesh)
    for module in loss.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided already; gradients of the ranks are to be added, not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return loss


def train_sharded(
    loss: CountedLoss,
    examples: Sequence[EncodedConversation],
    run: TrainingRun,
    plan: Sequence[Sequence[int]],
    *,
    start: int = 0,
) -> None:
    """Train on every step of a plan; all ranks call it with the same arguments.

    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    loss.train()
    for step in range(start, len(plan)):
        # Dropout follows from step and rank alone, so that a resumed run repeats it.
        torch.manual_seed((run.config.seed * 1_000_003 + step) * 1_009 + dist.get_rank())
        value = _train_step(loss, examples, run, plan[step], step=step)
        norm = run.apply_gradients()
        metrics = {"loss": value, "learning_rate": run.learning_rate, "gradient_norm": norm}
        run.end_unit(step + 1, len(plan), metrics)
    loss.eval()


def evaluate_sharded(
    loss: CountedLoss, examples: Sequence[EncodedConversation], *, tokens_per_microbatch: int
) -> float:
    """`evaluate_sft` on all ranks, with weights that stay sharded.

    Returns:
        mean cross entropy of the assistant's tokens, nats.
    """
    loss.eval()
    every = range(len(examples))
    with torch.no_grad():
        mean = _mean_loss(loss, examples, every, tokens_per_microbatch, learn=False)
    for module in loss.modules():
        if isinstance(module, FSDPModule):
            # A backward pass would have done it.
            module.reshard()
    return mean


def _train_step(
    loss: CountedLoss,
    examples: Sequence[EncodedConversation],
    run: TrainingRun,
    indices: Sequence[int],
    *,
    step: int,
) -> float:
    """Gradients of one step over all ranks; returns the mean loss of its counted tokens."""
    value = _mean_loss(loss, examples, indices, run.config.tokens_per_microbatch, learn=True)
    # Only now, so that all ranks stop together; the weights are as they were.
    check_finite(value, step=step, batch=f"examples {list(indices)[:64]}")
    return value


def _mean_loss(
    loss: CountedLoss,
    examples: Sequence[EncodedConversation],
    indices: Sequence[int],
    budget: int,
    *,
    learn: bool,
) -> float:
    """Mean loss of the counted tokens over all ranks, the same on each; gradients if to learn."""
    denominator = float(sum(sum(examples[index].response_mask) for index in indices))
    shares = _shares(examples, indices, dist.get_world_size(), budget)
    own = shares[dist.get_rank()]
    total = torch.zeros((), dtype=torch.float64)
    for turn in range(max(map(len, shares))):
        # Ranks meet in every pass, so one without examples left computes one that does not count.
        part, weight = (own[turn], 1.0) if turn < len(own) else (indices[:1], 0.0)
        value = loss(
            [examples[index].token_ids for index in part],
            [examples[index].response_mask for index in part],
            denominator,
        )
        if learn:
            (weight * value).backward()
        total += weight * value.item()
    total = total.to(value.device)
    dist.all_reduce(total)
    return total.item()


def _shares(
    examples: Sequence[EncodedConversation], indices: Sequence[int], ranks: int, budget: int
) -> list[list[list[int]]]:
    """Microbatches of every rank; a batch comes sorted by length, so each gets of every length."""
    lengths = {index: len(examples[index].token_ids) for index in indices}
    return [
        microbatches(indices[rank::ranks], lengths, tokens_per_microbatch=budget)
        for rank in range(ranks)
    ]


def whole_weights(model: PreTrainedModel, *, kept: bool) -> dict[str, Tensor]:
    """The weights in one piece, on the CPU; every rank takes part, and only some keep them."""
    weights = {}
    for name, parameter in model.named_parameters():
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if kept:
            weights[name] = whole.detach().cpu()
    return weights
