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

PINS = {
    "curation.synthesize": (1, "d4515e2fc29072d5d7b2c47a60513cbf7b6fd3c8ce47fa0820c434d1c129a90b"),
    "curation.curate": (2, "3ab3f9d6ec122f7eedf164b4af5eb3b345d5b85acba88b4aa1f5632b80adb8ba"),
    "retriever.import_values": (
        1,
        "dab09d9c6b0193ac2d77be060b2a05c2d29ac3dc542d108848e764298c391e59",
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
