"""What documents say of the chart's values is so: its README, and the commands in docs/."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import Any

import pytest
import yaml
from charts.rendering import (
    CHART,
    CI_FILES,
    ROOT,
    VALUE_FILES,
    Object,
    Rendered,
    helm,
    loaded_chart,
    override,
    pods_of,
    refusal,
    render,
)
from charts.test_pods import quantity

KUBERNETES = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
README = (CHART / "README.md").read_text(encoding="utf-8")
FRONT_PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
_UNSAID = {
    "nameOverride",
    "fullnameOverride",
    "commonLabels",
    "commonAnnotations",
    "clusterDomain",
    "extraEnv",
    "importRoots",
    "pseudonyms",
}
"""Small keys, explained in values.yaml alone."""
COMMANDS = [
    command.replace("\\\n", " ")
    for command in re.findall(
        r"^ *(helm .*(?:install|upgrade)(?:[^\n\\]|\\\n)*)",
        f"{KUBERNETES}\n{README}\n{FRONT_PAGE}",
        re.MULTILINE,
    )
]
"""Installations and upgrades that a reader may type; `<digest>` stands for one of his."""
INSTALLATION = COMMANDS[0]
"""What the upgrades build upon."""


def test_every_section_of_the_values_is_named() -> None:
    named = set(re.findall(r"`([A-Za-z]+)`", README))

    assert set(loaded_chart().values) - _UNSAID <= named


def test_every_file_under_ci_is_named() -> None:
    assert {path.name for path in CI_FILES} == set(re.findall(r"`ci/([a-z-]+\.yaml)`", README))


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_examples_are_accepted(text: str) -> None:
    values = yaml.safe_load(text)

    assert refusal(values) == ""
    assert render(changes=values).objects


def test_keys_that_it_speaks_of_exist() -> None:
    sections = set(loaded_chart().values)
    for path in re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)`", README):
        first, *rest = path.split(".")
        if first not in sections:
            continue
        place = loaded_chart().values[first]
        for key in rest:
            assert key in place, path
            place = place[key]


@pytest.mark.parametrize("command", COMMANDS)
def test_values_in_commands_are_accepted_and_do_not_contradict(command: str) -> None:
    before = values_in(INSTALLATION) if "--reuse-values" in command else {}

    assert render(changes=override(before, values_in(command))).objects


def values_in(command: str) -> dict[str, Any]:
    given = list(itertools.pairwise(shlex.split(command, comments=True)))
    values: dict[str, Any] = {}
    for option, word in given:
        if option in ("-f", "--values") and (ROOT / word).exists():
            values = override(values, yaml.safe_load((ROOT / word).read_text()))
    for option, word in given:
        parse = {"--set": helm().parse_set_string, "--set-json": helm().parse_set_json}.get(option)
        if parse:
            values = override(values, parse(word.replace("<digest>", "0" * 64)))
    return values


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) >= 5
    assert values_in(INSTALLATION)


def test_upgrades_keep_the_values_of_the_installation() -> None:
    for command in COMMANDS:
        assert "upgrade" not in command or "--reuse-values" in command, command


def test_installing_takes_images_of_the_product_alone_from_one_s_registry() -> None:
    named = [command for command in COMMANDS if "registry=" in command.lower()]
    assert len(named) == 2
    for command in named:
        made = render(changes=values_in(command))
        images = {pod.main["image"].rpartition(":")[0] for pod in made.pods()}
        foreign = {image for image in images if "/plumbline-" not in image}

        assert foreign == {"docker.io/valkey/valkey", "docker.io/versity/versitygw"}
        assert {image.rpartition("/")[0] for image in images - foreign} == {
            "registry.example/plumbline"
        }


@pytest.mark.parametrize("name", VALUE_FILES)
def test_sizes_are_the_sums_of_what_is_rendered(name: str) -> None:
    row = re.search(rf"^\| {name}(?:\.yaml)? \| (.*) \| .* \|$", KUBERNETES, re.MULTILINE)
    assert row
    release = render(name)
    sums = [0.0, 0.0, 0.0, 0.0]
    for entry in release.of_kind("Deployment", "StatefulSet", "ScaledJob"):
        for pod in pods_of(entry):
            asked = pod.main["resources"]
            amounts = (
                1.0,
                quantity(asked["requests"]["cpu"]),
                quantity(asked["requests"]["memory"]) / 2**30,
                quantity(asked["limits"]["memory"]) / 2**30,
            )
            count = fewest(release, entry)
            sums = [total + count * amount for total, amount in zip(sums, amounts, strict=True)]

    said = [cell.removesuffix(" GiB") for cell in row[1].split(" | ")]
    digits = [len(cell.partition(".")[2]) for cell in said]
    assert [f"{total:.{count}f}" for total, count in zip(sums, digits, strict=True)] == said


def fewest(release: Rendered, entry: Object) -> int:
    """Pods that a workload has at least; of a ScaledJob one."""
    for scaler in release.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        spec = scaler["spec"]
        if spec["scaleTargetRef"]["name"] == entry["metadata"]["name"]:
            return int(spec.get("minReplicas", spec.get("minReplicaCount")))
    return int(entry["spec"].get("replicas", 1))
