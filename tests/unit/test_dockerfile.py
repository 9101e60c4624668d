"""The Dockerfile against the package: a target per service, extras and modules that exist."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest

from plumbline.core.settings import SERVICES

REPOSITORY = Path(__file__).parents[2]
TARGETS = {*SERVICES, "openai-front", "worker"}
WITH_TORCH = {"sampler", "reward", "worker"}


def stages() -> dict[str, str]:
    """Text of each build stage by name."""
    text = (REPOSITORY / "Dockerfile").read_text()
    pieces = re.split(r"^FROM (\S+) AS (\S+)$", text, flags=re.MULTILINE)[1:]
    return {
        name: f"FROM {base}\n{body}"
        for base, name, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True)
    }


def test_there_is_a_target_for_every_service_and_make_images_builds_them_all() -> None:
    script = (REPOSITORY / ".ci" / "images").read_text()
    found = re.search(r'^all="(.*)"$', script, flags=re.MULTILINE)
    assert found is not None
    assert set(found[1].split()) == TARGETS
    assert set(stages()) >= TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_target_runs_a_module_of_the_package_as_nobody(target: str) -> None:
    stage = stages()[target]
    command = re.search(r"^CMD (\[.*\])$", stage, flags=re.MULTILINE)
    assert command is not None
    module = json.loads(command[1])[2]
    assert importlib.util.find_spec(module) is not None
    assert "USER 10001:10001" in stage


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_target_installs_extras_that_exist(target: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = re.search(r"plumbline\[([a-z,]+)\]", stages()[target])
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_only_images_that_compute_models_are_built_on_torch(target: str) -> None:
    base = stages()[target].partition("\n")[0]
    assert base == ("FROM torch" if target in WITH_TORCH else "FROM core")
