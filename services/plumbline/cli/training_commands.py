"""`train`: one training method on given inputs."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.console import (
    ConfigFile,
    Json,
    Out,
    Sets,
    assignments,
    read_configuration,
    references,
)
from plumbline.cli.execution_options import Executor, Nodes, Pool, RanksPerNode, chosen_execution
from plumbline.cli.job_commands import Inputs


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(train)


def train(
    method: Annotated[
        str, typer.Argument(help="pretrain, sft, reward_model, rejection_sampling, ppo or dpo.")
    ],
    input_: Inputs = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Annotated[str | None, typer.Option(help="Tag what was trained.")] = None,
    out: Out = None,
    executor: Executor = "",
    nodes: Nodes = 1,
    ranks_per_node: RanksPerNode = 1,
    pool: Pool = "",
    json_output: Json = False,
) -> None:
    """Train a policy or a reward model: `train sft -i base=DIR -i conversations=FILE`."""
    from plumbline.cli.stage_runs import run_verb

    run_verb(
        f"trainer.{method}",
        read_configuration(config, sets),
        references(assignments(input_, option="--input")),
        out=out,
        tag=tag,
        json_output=json_output,
        execution=chosen_execution(executor, nodes, ranks_per_node, pool),
    )
