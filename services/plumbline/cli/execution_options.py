"""`--executor`, `--nodes`, `--ranks-per-node`, `--pool`: where a job runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from plumbline.core.errors import FailedPreconditionError

if TYPE_CHECKING:
    from plumbline.core.execution import Execution
    from plumbline.v1 import jobs_pb2

_PANEL = "Where it runs"

Executor = Annotated[
    str,
    typer.Option(
        help="local or kubernetes; what the platform was set up for unless given.",
        rich_help_panel=_PANEL,
    ),
]
Nodes = Annotated[int, typer.Option(help="Machines, with a pod on each.", rich_help_panel=_PANEL)]
RanksPerNode = Annotated[
    int,
    typer.Option(
        "--ranks-per-node",
        "--ranks",
        help="Processes on each machine that compute together, one per accelerator.",
        rich_help_panel=_PANEL,
    ),
]
Pool = Annotated[str, typer.Option(help="Pool of machines of the cluster.", rich_help_panel=_PANEL)]


def chosen_execution(executor: str, nodes: int, ranks_per_node: int, pool: str) -> Execution:
    """What the options say.

    Raises:
        ConfigError: a value that is not accepted.
    """
    from plumbline.core.execution import read_execution

    return read_execution(
        {"executor": executor, "nodes": nodes, "ranks_per_node": ranks_per_node, "pool": pool},
        where="options",
    )


def refuse_without_platform(execution: Execution) -> None:
    """
    Raises:
        FailedPreconditionError: the stage was to run in this process, which is one rank.
    """
    from plumbline.core.execution import Execution

    if execution not in (Execution(), Execution(executor="local")):
        raise FailedPreconditionError(
            f"{execution.describe()} was asked for, and no platform runs that could start it; "
            "start one by `plumbline up`, or name one by PLUMBLINE_PIPELINE_TARGET"
        )


def describe_execution(message: jobs_pb2.Execution) -> dict[str, str | int] | None:
    """Where a job runs, as JSON types; None where nothing was asked for."""
    from plumbline.core.job_service import execution_from_wire

    return execution_from_wire(message).as_spec() or None
