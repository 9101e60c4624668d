"""Where a job runs: what is accepted, what a record keeps, and the commands that start ranks."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from plumbline.core.errors import ConfigError
from plumbline.core.execution import (
    Execution,
    check_one_machine,
    check_ranks,
    rank_command,
    read_execution,
)
from plumbline.core.stages import Stage, stage_key


class Config(BaseModel):
    """One setting that several ranks cannot follow, and one that they can."""

    noise: float = 0.0
    steps: int = 1


def make_stage(**changes: Any) -> Stage:
    fields: dict[str, Any] = {
        "name": "room.alone",
        "version": 1,
        "config": Config,
        "inputs": {},
        "output_kind": "report",
        "queue": "training",
        "run": "nowhere:nothing",
    }
    return Stage(**{**fields, **changes})


ALONE = make_stage()
SHARED = make_stage(name="room.shared", ranks="nowhere:nothing", one_rank_settings=("noise",))
STAGES = {stage.name: stage for stage in (ALONE, SHARED)}
TWO = Execution(ranks_per_node=2)


def test_a_record_keeps_only_what_was_asked_for() -> None:
    asked = Execution(executor="kubernetes", nodes=4)

    assert Execution().as_spec() == {}
    assert asked.as_spec() == {"executor": "kubernetes", "nodes": 4}
    assert Execution.of({"stage": "x", "execution": asked.as_spec()}) == asked
    assert Execution.of({"stage": "x"}) == Execution()
    assert Execution(nodes=3, ranks_per_node=8).world_size == 24


def test_a_key_knows_nothing_of_where() -> None:
    # The key is of stage, config and inputs; ranks are none of them.
    assert stage_key(SHARED, Config(), {}) == stage_key(
        make_stage(name="room.shared"), Config(), {}
    )


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"executor": "slurm"}, "executor"),
        ({"nodes": 0}, "nodes"),
        ({"ranks_per_node": 65}, "ranks_per_node"),
        ({"pool": "Big_One"}, "pool"),
        ({"pools": "a"}, "pools"),
        ({"executor": "local", "nodes": 2}, None),
        ({"executor": "local", "pool": "a"}, None),
    ],
)
def test_what_no_job_can_ask_for(values: dict[str, Any], field: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        read_execution(values)

    assert refused.value.field == field


def test_ranks_need_a_stage_that_takes_them() -> None:
    check_ranks(ALONE, Config(noise=1.0), Execution(pool="big"), STAGES)
    check_ranks(SHARED, Config(steps=5), TWO, STAGES)

    with pytest.raises(ConfigError, match=r"room\.alone runs on one rank.*several: room\.shared"):
        check_ranks(ALONE, Config(), TWO, STAGES)
    with pytest.raises(ConfigError, match=r"noise=1\.0 works on one rank") as refused:
        check_ranks(SHARED, Config(noise=1.0), TWO, STAGES)
    assert refused.value.field == "noise"


@pytest.mark.parametrize("asked", [Execution(nodes=2), Execution(pool="big")])
def test_a_worker_without_a_cluster_has_one_machine(asked: Execution) -> None:
    check_one_machine(TWO)

    with pytest.raises(ConfigError, match="PLUMBLINE_EXECUTOR=kubernetes"):
        check_one_machine(asked)


def test_one_rank_needs_no_torchrun() -> None:
    command = rank_command("python", ["j1", "--follow=x"], Execution())

    assert command == ["python", "-m", "plumbline.stage_process", "j1", "--follow=x"]


def test_ranks_of_one_machine_meet_by_themselves() -> None:
    command = rank_command("python", ["j1"], TWO, 0, "ignored:1")

    torchrun, stage = command[: command.index("-m", 3)], command[command.index("-m", 3) :]
    assert torchrun == [
        *("python", "-m", "torch.distributed.run"),
        *("--nproc-per-node=2", "--standalone", "--max-restarts=0"),
    ]
    assert stage == ["-m", "plumbline.stage_process", "j1"]


def test_nodes_wait_for_the_name_of_the_first() -> None:
    asked = Execution(nodes=4, ranks_per_node=8)

    command = rank_command("python", ["j1"], asked, "$(INDEX)", "a-0.a.ns.svc:29500")

    assert command[:3] == ["python", "-m", "plumbline.core.rendezvous"]
    host = command.index("a-0.a.ns.svc")
    assert command[host + 1 : host + 4] == ["python", "-m", "torch.distributed.run"]
    assert {
        "--nnodes=4",
        "--nproc-per-node=8",
        "--node-rank=$(INDEX)",
        "--master-addr=a-0.a.ns.svc",
        "--master-port=29500",
        "--max-restarts=0",
    } <= set(command[host:])
    assert command[-3:] == ["-m", "plumbline.stage_process", "j1"]


def test_words_for_people() -> None:
    assert Execution().describe() == "one rank"
    assert Execution(executor="kubernetes", nodes=2, ranks_per_node=8, pool="a").describe() == (
        "2 x 8 ranks on kubernetes, pool a"
    )
