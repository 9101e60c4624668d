"""Where a job runs: on which executor, on how many nodes and ranks, on which machines.

A job's record holds it beside the stage's configuration, as `execution`, and only where it differs
from the default. It is no part of the stage key: where something runs does not change what it is.
A rank is one process of a stage that several compute together; torchrun starts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from plumbline.core.errors import ConfigError
from plumbline.core.stages import Stage
from plumbline.core.validation import FrozenConfig, parse_config

STAGE_PROCESS = "plumbline.stage_process"
"""Module that runs one rank of one attempt at a job."""
RENDEZVOUS_PORT = 29500
GANG_PATIENCE_S = 3600
"""Between the first and the last node that starts: images are pulled, machines are added."""

_RENDEZVOUS = "plumbline.core.rendezvous"
_TORCHRUN = "torch.distributed.run"
_POOL_NAME = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"


class Execution(FrozenConfig):
    """Where one job runs."""

    executor: Literal["", "local", "kubernetes"] = ""
    """`local`: processes of the worker's machine. `kubernetes`: pods of a Kubernetes Job. Empty:
    what the worker was set up for."""
    nodes: int = Field(1, ge=1, le=4096)
    """Machines, with one pod on each."""
    ranks_per_node: int = Field(1, ge=1, le=64)
    """Processes on each machine; where there are accelerators, one for each of them."""
    pool: str = Field("", pattern=_POOL_NAME)
    """Name of a pool in the launcher's configuration, which says what machines its pods need.
    Empty: the launcher's default."""

    @model_validator(mode="after")
    def _local_is_one_machine(self) -> Execution:
        if self.executor != "local":
            return self
        if self.nodes > 1:
            raise ValueError(
                f"nodes={self.nodes} with executor='local' is not accepted, which has one machine; "
                "accepted: nodes=1, or executor='kubernetes'"
            )
        if self.pool:
            raise ValueError(
                f"pool={self.pool!r} with executor='local' is not accepted, pools are a "
                "cluster's; accepted: no pool, or executor='kubernetes'"
            )
        return self

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.nodes * self.ranks_per_node

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Execution:
        """What a job's record says."""
        return cls.model_validate(spec.get("execution") or {})

    def describe(self) -> str:
        """In words, for people."""
        ranks = f"{self.nodes} x {self.ranks_per_node} ranks" if self.world_size > 1 else "one rank"
        on = f" on {self.executor}" if self.executor else ""
        return ranks + on + (f", pool {self.pool}" if self.pool else "")

    def as_spec(self) -> dict[str, Any]:
        """What differs from the default, as JSON types; empty where nothing does."""
        return self.model_dump(mode="json", exclude_defaults=True)


def read_execution(values: Mapping[str, Any], *, where: str = "execution") -> Execution:
    """Validate what a user wrote.

    Raises:
        ConfigError: an unknown key, or a value that is not accepted.
    """
    return parse_config(Execution, values, where=where)


def check_ranks(
    stage: Stage, config: BaseModel, execution: Execution, stages: Mapping[str, Stage]
) -> None:
    """Whether a stage can run on so many ranks, with this configuration.

    Args:
        stages: the catalogue, of which the message names those that can.
    Raises:
        ConfigError: the stage runs on one rank only, or a setting does.
    """
    if execution.world_size == 1:
        return
    asked = f"nodes={execution.nodes}, ranks_per_node={execution.ranks_per_node}"
    if not stage.ranks:
        able = sorted(name for name, known in stages.items() if known.ranks)
        raise ConfigError(
            f"stage {stage.name} runs on one rank, and {asked} were asked for; accepted: 1 and 1, "
            f"or one of the stages that run on several: {', '.join(able) or 'none'}",
            field="execution",
        )
    for name in stage.one_rank_settings:
        value = getattr(config, name)
        if value != type(config).model_fields[name].get_default(call_default_factory=True):
            raise ConfigError(
                f"stage {stage.name}: {name}={value!r} works on one rank, and {asked} were asked "
                f"for; accepted: leave {name} out, or run on one rank",
                field=name,
            )


def check_one_machine(execution: Execution) -> None:
    """
    Raises:
        ConfigError: the job asks for what the worker's own machine does not have.
    """
    if execution.nodes > 1 or execution.pool:
        asked = f"pool={execution.pool!r}" if execution.pool else f"nodes={execution.nodes}"
        raise ConfigError(
            f"{asked} was asked for, and this worker runs jobs on its own machine; accepted: "
            "nodes=1 without a pool, or a worker with PLUMBLINE_EXECUTOR=kubernetes",
            field="execution",
        )


def rank_command(
    python: str,
    module_arguments: Sequence[str],
    execution: Execution,
    node_rank: int | str = 0,
    endpoint: str = "",
) -> list[str]:
    """The command that runs all ranks of one node of an attempt.

    Args:
        python: the interpreter.
        module_arguments: of `plumbline.stage_process`; every rank gets the same.
        node_rank: number of the node, from 0; text where something else is going to put the
            number in, such as `$(JOB_COMPLETION_INDEX)` in a pod's command.
        endpoint: host:port of node 0, by which the nodes of a job with several find each other.
    """
    program = ["-m", STAGE_PROCESS, *module_arguments]
    if execution.world_size == 1:
        return [python, *program]
    torchrun = [python, "-m", _TORCHRUN, f"--nproc-per-node={execution.ranks_per_node}"]
    # An attempt that failed is begun anew by the platform, which counts them.
    once = "--max-restarts=0"
    if execution.nodes == 1:
        return [*torchrun, "--standalone", once, *program]
    host, _, port = endpoint.rpartition(":")
    return [
        *(python, "-m", _RENDEZVOUS, f"--patience-s={GANG_PATIENCE_S}", host),
        *torchrun,
        f"--nnodes={execution.nodes}",
        f"--node-rank={node_rank}",
        f"--master-addr={host}",
        f"--master-port={port}",
        f"--rdzv-conf=timeout={GANG_PATIENCE_S}",
        once,
        *program,
    ]
