"""From a file to ordered stages: substitution, blocks, references, and every refusal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fake_stages import STAGES

from plumbline.core.errors import ConfigError
from plumbline.core.execution import Execution
from plumbline.pipeline.config import load_pipeline
from plumbline.pipeline.planner import Plan, input_params, is_artifact_reference, plan_pipeline


def plan(text: str, params: dict[str, Any] | None = None, base_dir: Path | None = None) -> Plan:
    return plan_pipeline(
        load_pipeline(text, source_name="p.yaml"), params or {}, STAGES, base_dir=base_dir
    )


def refusal(text: str, params: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(text, params)
    return caught.value.message


def stages(*lines: str, params: str = "{}") -> str:
    listed = "".join(f"  - {{{line}}}\n" for line in lines)
    return f"name: p\nparams: {params}\nstages:\n{listed}"


def test_stages_are_put_in_order_and_keep_the_files_order_where_free() -> None:
    planned = plan(
        stages(
            "name: last, uses: fake.add, inputs: {numbers: [b, a]}",
            "name: a, uses: fake.count",
            "name: b, uses: fake.count, with: {start: 2}",
        )
    )

    assert [stage.name for stage in planned.stages] == ["a", "b", "last"]
    assert planned.stages[-1].inputs == {"numbers": ("stage:b", "stage:a")}
    assert planned.stages[-1].depends_on == ("b", "a")


def test_config_is_validated_and_defaults_are_written_out() -> None:
    (stage,) = plan(stages("name: a, uses: fake.count")).stages

    assert stage.config == {"start": 0}


def test_a_param_keeps_its_type_alone_and_becomes_text_inside_text() -> None:
    text = stages(
        "name: c, uses: fake.count",
        "name: a, uses: fake.add, inputs: {numbers: c}, "
        'with: {amount: "${params.rate}", label: "x${params.n}$${n}"}',
        params="{rate: 0.5, n: 3}",
    )

    config = plan(text, {"rate": 2}).stages[1].config

    assert config == {"amount": 2.0, "label": "x3${n}", "fail": False}


def test_a_block_hands_its_result_on() -> None:
    text = """\
name: p
params: {rounds: 2}
stages:
  - {name: zero, uses: fake.count}
  - repeat:
      name: loop
      count: ${params.rounds}
      carry:
        value: {first: zero, next: up}
        all: {first: [zero], next: ["${carry.all}", up]}
      stages:
        - name: up
          uses: fake.add
          with: {label: "v${index}"}
          inputs: {numbers: "${carry.all}", extra: "${carry.value}"}
  - {name: end, uses: fake.report, inputs: {numbers: loop.value}}
"""
    by_name = {stage.name: stage for stage in plan(text).stages}

    assert list(by_name) == ["zero", "up.1", "up.2", "end"]
    assert by_name["up.1"].inputs == {"numbers": ("stage:zero",), "extra": ("stage:zero",)}
    assert by_name["up.2"].inputs["numbers"] == ("stage:zero", "stage:up.1")
    assert by_name["up.2"].inputs["extra"] == ("stage:up.1",)
    assert by_name["up.2"].config["label"] == "v2"
    assert by_name["end"].inputs == {"numbers": ("stage:up.2",)}
    assert "up.5" in [stage.name for stage in plan(text, {"rounds": 5}).stages]


def test_paths_artifacts_and_empty_optional_inputs(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1")
    text = stages(
        'name: a, uses: fake.add, inputs: {numbers: "${params.data}", extra: "${params.more}"}',
        params="{data: {type: path}, more: ''}",
    )

    (by_path,) = plan(text, {"data": "data.txt"}, tmp_path).stages
    (by_tag,) = plan(text, {"data": "corpus/x@latest", "more": "artifact:corpus/y"}).stages

    assert by_path.inputs == {"numbers": (f"path:{tmp_path / 'data.txt'}",)}
    assert by_tag.inputs == {
        "numbers": ("artifact:corpus/x@latest",),
        "extra": ("artifact:corpus/y",),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            stages("name: a, uses: fake.cuont"),
            "p.yaml:4: unknown operation 'fake.cuont'; did you mean 'fake.count'?",
        ),
        (
            stages("name: a, uses: fake.count, with: {strat: 1}"),
            "p.yaml:4: unknown key 'strat' in the configuration of stage 'a' (fake.count); "
            "did you mean 'start'?",
        ),
        (stages("name: a, uses: fake.count, with: {start: -1}"), "(got -1)"),
        (
            stages("name: a, uses: fake.add"),
            "p.yaml:4: stage 'a' (fake.add) misses its input 'numbers' (corpus)",
        ),
        (
            stages("name: a, uses: fake.add, inputs: {nubmers: x}"),
            "has no input 'nubmers'; did you mean 'numbers'?",
        ),
        (
            stages("name: one, uses: fake.count", "name: a, uses: fake.report, "
                   "inputs: {numbers: oen}"),
            "p.yaml:5: 'oen' is no stage of this pipeline, no artifact and no path; "
            "did you mean 'one'?",
        ),
        (
            stages("name: c, uses: fake.count", "name: a, uses: fake.report, "
                   "inputs: {numbers: [c, c]}"),
            "takes one artifact, got 2",
        ),
        (
            stages("name: c, uses: fake.count", "name: r, uses: fake.report, inputs: {numbers: c}",
                   "name: a, uses: fake.add, inputs: {numbers: r}"),
            "p.yaml:6: input 'numbers' of stage 'a' accepts corpus, but stage 'r' makes report",
        ),
        (
            stages("name: a, uses: fake.add, inputs: {numbers: b}",
                   "name: b, uses: fake.add, inputs: {numbers: a}"),
            "the stages wait for one another: ",
        ),
        (stages("name: a, uses: fake.add, inputs: {numbers: a}"), "a -> a"),
        (stages("name: a, uses: fake.count", "name: a, uses: fake.count"), "a second stage"),
        (
            stages("name: a, uses: fake.count, with: {start: '${params.sed}'}", params="{seed: 1}"),
            "unknown value ${params.sed}; did you mean 'params.seed'?",
        ),
        (
            stages("name: a, uses: fake.add, inputs: {numbers: ./nothing.txt}"),
            "no such file or directory",
        ),
        (stages("name: a, uses: fake.count, tags: ['a@b@c']"), "p.yaml:4: stage 'a': tag"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize("count", [0, -1, 1001, "many", 1.5])
def test_a_block_runs_a_whole_number_of_times(count: object) -> None:
    text = (
        "name: p\nparams: {n: {default: 1}}\nstages:\n  - repeat:\n      name: b\n"
        "      count: ${params.n}\n      stages: [{name: a, uses: fake.count}]\n"
    )

    with pytest.raises(ConfigError):
        plan(text, {"n": count})


def test_params_are_checked() -> None:
    text = stages(
        "name: a, uses: fake.count, with: {start: '${params.seed}'}",
        params="{seed: {type: int, description: the seed}}",
    )

    assert "unknown param 'sed'; did you mean 'seed'?" in refusal(text, {"sed": 1})
    assert "param 'seed' has no default and must be given (the seed)" in refusal(text)
    assert "param 'seed': 'x' is not of type int" in refusal(text, {"seed": "x"})
    assert plan(text, {"seed": "12"}).stages[0].config == {"start": 12}


def test_params_that_are_inputs_are_known() -> None:
    text = stages(
        'name: a, uses: fake.add, inputs: {numbers: ["${params.x}"]}, with: {label: "${params.y}"}',
        params="{x: '', y: b}",
    )

    assert input_params(load_pipeline(text).spec) == {"x"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a" * 64, True), ("policy/x@latest", True), ("artifact:policy/x", True), ("a/b", False)],
)
def test_what_names_an_artifact(text: str, expected: bool) -> None:
    assert is_artifact_reference(text) is expected


def test_an_execution_is_read_with_its_params() -> None:
    text = stages(
        "name: a, uses: fake.share, execution: {nodes: '${params.n}', pool: big}",
        "name: b, uses: fake.count",
        params="{n: 3}",
    )

    planned = plan(text, {"n": 2}).stages

    assert [stage.execution for stage in planned] == [Execution(nodes=2, pool="big"), Execution()]


@pytest.mark.parametrize(
    ("uses", "execution", "message"),
    [
        ("share", "{node: 2}", "p.yaml:4: unknown key 'node' in the execution of stage 'a'"),
        ("share", "{nodes: 0}", "p.yaml:4: wrong value for 'nodes' in the execution"),
        ("share", "{nodes: 2, executor: local}", "nodes=2 with executor='local'"),
        (
            "count",
            "{nodes: 2}",
            "stage fake.count runs on one rank.*run on several: fake.share",
        ),
    ],
)
def test_wrong_executions_are_refused_with_their_line(
    uses: str, execution: str, message: str
) -> None:
    found = refusal(stages(f"name: a, uses: fake.{uses}, execution: {execution}"))

    assert re.search(message, found), found


def test_a_setting_for_one_rank_is_refused_on_two() -> None:
    line = "name: a, uses: fake.share, with: {start: 1}, execution: {ranks_per_node: 2}"

    assert "start=1 works on one rank" in refusal(stages(line))
