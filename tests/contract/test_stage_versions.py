"""What a stage makes is pinned by its version.

A change of output without a new version would let cached artifacts stand for work that would now
come out differently. When a pin breaks on purpose: raise the stage's version, then set the new id.
Stages that compute with floats are left out; their bits may differ between processors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import Artifact, open_configured_store
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage

SMALL_WORLD = {
    "seed": 1,
    "documents": 60,
    "train": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 6},
    "rl": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 6},
    "heldout": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 6},
    "heldout_hard": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 0},
    "governed_prompts": 5,
    "ungoverned_prompts": 5,
}
FEW_RULE_PROMPTS = {"prompts_per_rule": 2, "ungoverned_prompts": 10}

PINS = {
    "curation.synthesize": (2, "a9cb5a3d93c8eaee054eacb0237380aab53c065004b069ff7900eab2d2afc3d5"),
    "curation.synthesize_rules": (
        1,
        "62cac8071b08c47776337d2d57a3c4b2b8cedf850c6c4e15cb7bf548b2012e0a",
    ),
    "curation.curate": (2, "0652e73b117975921bbdb246e7deae7a45f9a150762274a470c2aaf43c96e630"),
    "retriever.import_values": (
        2,
        "6149f0fdb7fd87bb030fe11b6076db7dadd1c55ef5ee9d6246e918a4008916f8",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"))
    store = open_configured_store(settings)

    def run(name: str, config: Mapping[str, Any], inputs: Mapping[str, Sequence[str]]) -> Artifact:
        return run_stage(STAGES[name], config, inputs, store=store, settings=settings)[0]

    world = run("curation.synthesize", SMALL_WORLD, {})
    return {
        "curation.synthesize": world,
        "curation.synthesize_rules": run(
            "curation.synthesize_rules", FEW_RULE_PROMPTS, {"world": [world.id]}
        ),
        "curation.curate": run("curation.curate", {}, {"corpus": [world.id]}),
        "retriever.import_values": run(
            "retriever.import_values", {"limit": 2}, {"values": [world.id]}
        ),
    }


@pytest.mark.parametrize("name", sorted(PINS))
def test_output_changes_only_with_the_version(name: str, made: dict[str, Artifact]) -> None:
    assert (STAGES[name].version, made[name].id) == PINS[name]


def test_pinned_stages_exist() -> None:
    assert set(PINS) <= set(STAGES)
