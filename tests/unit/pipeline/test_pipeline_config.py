"""The pipeline file: every fault is reported with its line."""

from __future__ import annotations

import pytest

from plumbline.core.errors import ConfigError
from plumbline.pipeline.config import MAX_NESTING, RepeatItem, StageSpec, load_pipeline

GOOD = """\
name: example
params:
  seed: 7
  base: {type: path, description: a model}
stages:
  - name: world
    uses: curation.synthesize
    with: {seed: "${params.seed}"}
  - repeat:
      name: rlhf
      count: 2
      carry: {policy: {first: world, next: ppo}}
      stages:
        - {name: ppo, uses: trainer.ppo, inputs: {policy: "${carry.policy}"}}
"""


def error_of(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_pipeline(text, source_name="p.yaml")
    return caught.value


def test_a_good_file_is_read_with_lines() -> None:
    loaded = load_pipeline(GOOD, source_name="p.yaml")

    world, block = loaded.spec.stages
    assert isinstance(world, StageSpec)
    assert isinstance(block, RepeatItem)
    assert world.with_ == {"seed": "${params.seed}"}
    assert loaded.spec.params["seed"].default == 7
    assert loaded.spec.params["base"].required
    assert loaded.source.line(("stages", 0, "uses")) == 7
    assert loaded.source.line(("stages", 1, "repeat", "count")) == 11


def test_stages_as_a_map_mean_the_same() -> None:
    listed = "name: a\nstages:\n  - {name: x, uses: r.o}\n  - {name: y, uses: r.o}\n"
    mapped = "name: a\nstages:\n  x: {uses: r.o}\n  y: {uses: r.o}\n"

    assert load_pipeline(listed).spec == load_pipeline(mapped).spec


def test_a_block_in_a_map_is_named_by_its_key() -> None:
    text = "name: a\nstages:\n  b:\n    repeat:\n      count: 1\n      stages: {x: {uses: r.o}}\n"

    block = load_pipeline(text).spec.stages[0]

    assert isinstance(block, RepeatItem)
    assert (block.repeat.name, block.repeat.stages[0].name) == ("b", "x")


def test_unknown_key_names_its_line_and_the_closest_key() -> None:
    error = error_of("name: a\nstages:\n  - name: x\n    uses: r.o\n    inputz: {}\n")

    assert error.message.startswith("p.yaml:5: unknown key 'inputz'; did you mean 'inputs'?")
    assert "accepted: execution, inputs, name, tags, uses, with" in error.message


def test_unknown_key_inside_a_block() -> None:
    error = error_of(GOOD.replace("count: 2", "cout: 2"))

    assert error.message.startswith("p.yaml:11: unknown key 'cout'; did you mean 'count'?")


def test_unknown_top_level_key() -> None:
    error = error_of("name: a\nstage: []\n")

    assert error.message.startswith("p.yaml:2: unknown key 'stage'; did you mean 'stages'?")


def test_missing_key_points_at_its_stage() -> None:
    error = error_of("name: a\nstages:\n  - name: x\n  - {name: y, uses: r.o}\n")

    assert error.message.startswith("p.yaml:3: missing key")
    assert "uses" in error.message


def test_a_key_written_twice_is_refused() -> None:
    error = error_of("name: a\nname: b\nstages: []\n")

    assert error.message == "p.yaml:2: key 'name' is written twice (first on line 1)"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the file is empty"),
        ("- a\n", "a pipeline is a map"),
        ("name: [\n", "not YAML"),
        ("name: a\nstages: []\n", "wrong value for 'stages'"),
        ("name: a b\nstages: [{name: x, uses: r.o}]\n", "wrong value for 'name'"),
        ("a: !!python/object:os.system {}\n", "p.yaml:1"),
    ],
)
def test_what_is_no_pipeline_is_refused(text: str, part: str) -> None:
    assert part in error_of(text).message


def test_anchors_and_merge_keys_share_configuration() -> None:
    text = """\
name: a
stages:
  - {name: x, uses: r.o, with: &shared {seed: 1, steps: 2}}
  - name: y
    uses: r.o
    with:
      <<: *shared
      steps: 9
"""
    _, second = load_pipeline(text).spec.stages

    assert isinstance(second, StageSpec)
    assert second.with_ == {"steps": 9, "seed": 1}


def test_deep_nesting_and_nested_anchors_are_bounded() -> None:
    deep = "name: a\nx: " + "[" * (MAX_NESTING + 2) + "]" * (MAX_NESTING + 2)
    laughs = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + chr(ord(name) - 1)] * 10)}]\n" for name in "bcdefgh"
    )

    assert "nested deeper" in error_of(deep).message
    assert "merged in one another" in error_of("name: a\nx: &x {<<: *x}\n").message
    assert "nested deeper" in error_of("name: a\nx: &x [*x]\n").message
    assert "values" in error_of(laughs).message
