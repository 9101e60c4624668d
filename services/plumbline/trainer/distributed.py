"""Supervised fine-tuning on several ranks, weights sharded among them (FSDP2).

The stage `trainer.sft` calls `train_on_ranks` where its job has several ranks. Without the platform
it trains from directories:

    torchrun --nproc-per-node 2 -m plumbline.trainer.distributed \
        --base POLICY --conversations DIRECTORY --config sft.yaml --output DIRECTORY
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import yaml
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from transformers import PreTrainedModel

from plumbline.core.errors import ConfigError, FailedPreconditionError, PlumblineError
from plumbline.core.ranks import leave
from plumbline.core.validation import parse_config
from plumbline.data.records import Conversation
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.models.checkpoint import load_causal_lm
from plumbline.trainer.adapters import choose_parameters
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.datasets import read_input
from plumbline.trainer.directory_context import CHECKPOINTS, DirectoryContext
from plumbline.trainer.engine import RunContext, TrainingRun
from plumbline.trainer.execution import autocast, deterministic, pick_device, prepare_layers
from plumbline.trainer.recipes.sft import TEST_LOSS, encode_conversations, plan_steps
from plumbline.trainer.sharding import (
    ShardedRun,
    evaluate_sharded,
    shard,
    train_sharded,
    whole_weights,
)
from plumbline.trainer.stages.common import CONVERSATION_FILES, context_length, write_policy

_THREADS = "OMP_NUM_THREADS"
_COLLECTIVE_PATIENCE = timedelta(hours=1)
"""Ranks wait for the first one while it uploads a checkpoint."""
_HONOURED = frozenset(
    (
        *("freeze", "seed", "learning_rate", "schedule", "minimum_learning_rate_share"),
        *("warmup_share", "minimum_warmup_steps", "betas", "epsilon", "weight_decay"),
        *("max_gradient_norm", "tokens_per_microbatch", "checkpoint_every", "keep_checkpoints"),
        *("log_every", "device", "precision", "activation_checkpointing", "epochs", "batch_size"),
        *("max_steps", "max_length", "template", "on_error"),
    )
)
"""Settings of `trainer.sft` that the command takes; any other has to stay at its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTData:
    """What a policy learns from."""

    examples: Sequence[EncodedConversation]
    held_out: Sequence[EncodedConversation] = ()
    plan: Sequence[Sequence[int]]
    """Indices of each step's examples."""


def train_on_ranks(
    model: PreTrainedModel,
    chat: ChatFormat,
    data: SFTData,
    config: SFTConfig,
    *,
    base: Path,
    output: Path,
    context: RunContext,
) -> tuple[ShardedRun, dict[str, float]]:
    """Train on the ranks of the running process group; the first one writes the policy.

    Args:
        model: on the CPU, with what is to learn chosen; its parts move to the ranks' devices.
        base: what it was loaded from.
    Returns:
        the run, and figures of the held-out examples.
    Raises:
        FailedPreconditionError: the loss is not finite.
    """
    is_first = dist.get_rank() == 0
    mesh = init_device_mesh(pick_device(config.device).type, (dist.get_world_size(),))
    loss = shard(model, mesh, pad_id=chat.pad_id)
    run = ShardedRun({"policy": model}, config, total_steps=len(data.plan), context=context)
    run.saves = is_first
    train_sharded(loss, data.examples, run, data.plan, start=run.resume())
    tested: dict[str, float] = {}
    if data.held_out:
        budget = config.tokens_per_microbatch
        tested = {
            TEST_LOSS: evaluate_sharded(loss, data.held_out, tokens_per_microbatch=budget),
            "examples.test": float(len(data.held_out)),
        }
    weights = whole_weights(model, kept=is_first)
    if is_first:
        _write(weights, base, chat, run, output)
    return run, tested


def run_sharded_sft(config: SFTConfig, base: Path, conversations: Path, output: Path) -> None:
    """Fine-tune a policy on the ranks of the running process group and save it.

    Raises:
        ConfigError: the config asks for what training from directories lacks.
        PlumblineError: what the data, the checkpoint or the training raise.
    """
    _check_honoured(config)
    output.mkdir(parents=True, exist_ok=True)
    records = read_input(
        conversations, Conversation, names=CONVERSATION_FILES, on_error=config.on_error
    ).records
    threads = int(os.environ.get(_THREADS, "1"))
    device = pick_device(config.device)
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
        data = SFTData(examples=examples, plan=plan)
        context = DirectoryContext(output, dist.get_rank() == 0)
        train_on_ranks(model, chat, data, config, base=base, output=output, context=context)
    if dist.get_rank() == 0:
        for name in (CHECKPOINTS, "work"):
            shutil.rmtree(output / name, ignore_errors=True)


def _check_honoured(config: SFTConfig) -> None:
    """
    Raises:
        ConfigError: a setting would have no effect.
    """
    for name, value in config:
        if name not in _HONOURED and value != SFTConfig.model_fields[name].default:
            raise ConfigError(
                f"{name}={value!r} is not accepted by sharded training from directories; leave it "
                "out, or run the stage trainer.sft",
                field=name,
            )


def _write(
    weights: Mapping[str, Tensor], base: Path, chat: ChatFormat, run: TrainingRun, output: Path
) -> None:
    """Save a policy with these weights."""
    model, _ = load_causal_lm(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    write_policy(model, chat, run, output)


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """The group of the ranks that torchrun started; one that exists already is left as it is.

    Args:
        device: as in the config; each rank takes the accelerator of its number on the machine.
    Raises:
        FailedPreconditionError: accelerators were asked for and there are none, or too few.
    """
    if dist.is_initialized():
        yield
        return
    on_accelerators = pick_device(device).type == "cuda"
    if on_accelerators:
        _take_accelerator(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_accelerators else "gloo", timeout=_COLLECTIVE_PATIENCE)
    yield
    # Not after an error: the others would see a lost connection before they are told the cause.
    dist.destroy_process_group()


def _take_accelerator(local_rank: int) -> None:
    """
    Raises:
        FailedPreconditionError: the machine has fewer accelerators than ranks.
    """
    found = torch.cuda.device_count()
    if local_rank >= found:
        raise FailedPreconditionError(
            f"rank {local_rank} of this machine has no accelerator, of which there are {found}; "
            "accepted: as many ranks per node as accelerators, or device='cpu'"
        )
    torch.cuda.set_device(local_rank)


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
        with process_group(config.device):
            run_sharded_sft(config, given.base, given.conversations, given.output)
    except PlumblineError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    leave(main())
