"""Supervised fine-tuning on several ranks, weights sharded among them (FSDP2).

    torchrun --nproc-per-node 2 -m plumbline.trainer.distributed \
        --base POLICY --conversations DIRECTORY --config sft.yaml --output DIRECTORY

Each rank computes its share of every step's examples, and the ranks' gradients are added up. The
loss is divided by the tokens of the whole step, so the number of ranks changes no result beyond
rounding. Checkpoints hold whole tensors, so a run may go on with another number of ranks.

Source: Zhao et al. 2023, arXiv:2304.11277, for full sharding.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import yaml
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from plumbline.core.errors import ConfigError, PlumblineError
from plumbline.core.validation import parse_config
from plumbline.data.records import Conversation
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.models.checkpoint import load_causal_lm
from plumbline.models.packing import supports_packing
from plumbline.trainer.adapters import choose_parameters
from plumbline.trainer.batches import microbatches
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.datasets import read_input
from plumbline.trainer.directory_context import CHECKPOINTS, DirectoryContext
from plumbline.trainer.engine import TrainingRun, check_finite
from plumbline.trainer.execution import autocast, deterministic, pick_device, prepare_layers
from plumbline.trainer.forward import counted_loss
from plumbline.trainer.lisa import decoder_layers
from plumbline.trainer.recipes.sft import encode_conversations, plan_steps
from plumbline.trainer.stages.common import context_length, write_policy

_THREADS = "OMP_NUM_THREADS"
_HONOURED = frozenset(
    (
        *("freeze", "seed", "learning_rate", "schedule", "minimum_learning_rate_share"),
        *("warmup_share", "minimum_warmup_steps", "betas", "epsilon", "weight_decay"),
        *("max_gradient_norm", "tokens_per_microbatch", "checkpoint_every", "keep_checkpoints"),
        *("log_every", "device", "precision", "activation_checkpointing", "epochs", "batch_size"),
        *("max_steps", "max_length", "template", "on_error"),
    )
)
"""Settings of `trainer.sft`; any other has to stay at its default."""


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


def _train_step(
    loss: CountedLoss,
    examples: Sequence[EncodedConversation],
    run: TrainingRun,
    indices: Sequence[int],
    *,
    step: int,
) -> float:
    """Gradients of one step over all ranks; returns the mean loss of its counted tokens."""
    denominator = float(sum(sum(examples[index].response_mask) for index in indices))
    shares = _shares(examples, indices, dist.get_world_size(), run.config.tokens_per_microbatch)
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
        (weight * value).backward()
        total += weight * value.item()
    total = total.to(value.device)
    dist.all_reduce(total)
    # Only now, so that all ranks stop together; the weights are as they were.
    check_finite(total.item(), step=step, batch=f"examples {list(indices)[:64]}")
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


def run_sharded_sft(config: SFTConfig, base: Path, conversations: Path, output: Path) -> None:
    """Fine-tune a policy on the ranks of the running process group and save it.

    Raises:
        ConfigError: the config asks for what sharded training lacks.
        PlumblineError: what the data, the checkpoint or the training raise.
    """
    _check_honoured(config)
    is_first = dist.get_rank() == 0
    output.mkdir(parents=True, exist_ok=True)
    names = ("conversations.parquet", "demonstrations.parquet")
    records = read_input(conversations, Conversation, names=names, on_error=config.on_error).records
    device = pick_device(config.device)
    threads = int(os.environ.get(_THREADS, "1"))
    with deterministic(seed=config.seed, threads=threads), autocast(config, device):
        model, tokenizer = load_causal_lm(base)
        chat = ChatFormat(tokenizer, template=config.template)
        limit = min(config.max_length, context_length(model))
        examples = encode_conversations(records, chat, max_length=limit).examples
        plan = plan_steps(
            examples,
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            max_steps=config.max_steps,
        )
        choose_parameters(model, config)
        prepare_layers(model, config)
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        loss = shard(model, mesh, pad_id=chat.pad_id)
        context = DirectoryContext(output, is_first)
        run = ShardedRun({"policy": model}, config, total_steps=len(plan), context=context)
        run.saves = is_first
        train_sharded(loss, examples, run, plan, start=run.resume())
        weights = {name: p.full_tensor().cpu() for name, p in model.named_parameters()}
        if is_first:
            _write(weights, base, chat, run, output)


def _check_honoured(config: SFTConfig) -> None:
    """
    Raises:
        ConfigError: a setting would have no effect.
    """
    for name, value in config:
        if name not in _HONOURED and value != SFTConfig.model_fields[name].default:
            raise ConfigError(
                f"{name}={value!r} is not accepted by sharded training; leave it out, or train on "
                "one rank by the stage trainer.sft",
                field=name,
            )


def _write(
    weights: Mapping[str, Tensor], base: Path, chat: ChatFormat, run: TrainingRun, output: Path
) -> None:
    """Save a policy with these weights, and remove the checkpoints that led to it."""
    model, _ = load_causal_lm(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    write_policy(model, chat, run, output)
    for name in (CHECKPOINTS, "work"):
        shutil.rmtree(output / name, ignore_errors=True)


@contextmanager
def _process_group() -> Iterator[None]:
    """The group of the ranks that torchrun started, on its accelerators where there are any.

    One that exists already is used, and left as it is.
    """
    if dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="plumbline.trainer.distributed")
    parser.add_argument("--base", type=Path, required=True, help="Directory of the policy.")
    parser.add_argument("--conversations", type=Path, required=True, help="Directory of the data.")
    parser.add_argument("--config", type=Path, required=True, help="YAML, as of trainer.sft.")
    parser.add_argument("--output", type=Path, required=True, help="Resumed where it was begun.")
    given = parser.parse_args(argv)
    if "WORLD_SIZE" not in os.environ:
        parser.error("no ranks: start it as `torchrun -m plumbline.trainer.distributed ...`")
    try:
        values = yaml.safe_load(given.config.read_text(encoding="utf-8")) or {}
        config = parse_config(SFTConfig, values, where=given.config.name)
        with _process_group():
            run_sharded_sft(config, given.base, given.conversations, given.output)
    except PlumblineError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
