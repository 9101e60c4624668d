"""What documents say of the chart's values is so: its README, and the commands in docs/."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import Any

import pytest
import yaml
from charts.rendering import CHART, CI_FILES, ROOT, helm, loaded_chart, override, refusal, render

KUBERNETES = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
README = (CHART / "README.md").read_text(encoding="utf-8")
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
        r"^ *(helm .*(?:install|upgrade)(?:[^\n\\]|\\\n)*)", f"{KUBERNETES}\n{README}", re.MULTILINE
    )
]
"""Installations and upgrades that a reader may type; `<digest>` stands for one of his."""


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
    words = shlex.split(command, comments=True)
    given = list(itertools.pairwise(words))
    values: dict[str, Any] = {}
    for option, word in given:
        if option in ("-f", "--values") and (ROOT / word).exists():
            values = override(values, yaml.safe_load((ROOT / word).read_text()))
    for option, word in given:
        parse = {"--set": helm().parse_set_string, "--set-json": helm().parse_set_json}.get(option)
        if parse:
            values = override(values, parse(word.replace("<digest>", "0" * 64)))

    assert render(changes=values).objects


def test_the_commands_are_found() -> None:
    assert len(COMMANDS) >= 5
