"""What commands share: assignments, configuration, references."""

from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.cli.console import (
    assignments,
    parse_value,
    read_configuration,
    read_text,
    references,
    seconds,
)
from plumbline.core.errors import ConfigError, InvalidInputError


def test_assignments() -> None:
    assert assignments(["a=1", "b=x=y", "c="], option="--set") == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(InvalidInputError, match="'a' is not of the form KEY=VALUE"):
        assignments(["a"], option="--set")
    with pytest.raises(InvalidInputError, match="a is given twice"):
        assignments(["a=1", "a=2"], option="--set")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1e-4", 1e-4), ("true", True), ("[1, a]", [1, "a"]), ("x", "x"), ("", None)],
)
def test_values_from_the_command_line(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_set_overrides_the_file_and_reaches_nested_keys(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("rate: 0.1\nlength: {enabled: true, min_units: 2}\n")

    configuration = read_configuration(file, ["rate=1e-4", "length.min_units=9", "pii.enabled=no"])

    assert configuration == {
        "rate": 1e-4,
        "length": {"enabled": True, "min_units": 9},
        "pii": {"enabled": False},
    }
    with pytest.raises(ConfigError, match="'rate' is a value, not a map"):
        read_configuration(file, ["rate.x=1"])


@pytest.mark.parametrize(
    ("content", "part"), [("- 1\n", "a map is accepted"), ("a: [", "not YAML")]
)
def test_a_configuration_is_a_yaml_map(tmp_path: Path, content: str, part: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)

    with pytest.raises(ConfigError, match=part):
        read_configuration(file, None)


def test_references_tell_paths_from_artifacts(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("{}")

    assert references({"a": f"{file},policy/x@latest", "b": "artifact:policy/y"}) == {
        "a": [f"path:{file}", "policy/x@latest"],
        "b": ["policy/y"],
    }


def test_unreadable_files_are_invalid_input(tmp_path: Path) -> None:
    binary = tmp_path / "b"
    binary.write_bytes(b"ok\xff")

    with pytest.raises(InvalidInputError, match="no such file"):
        read_text(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="not UTF-8 text \\(byte 2\\)"):
        read_text(binary)
    with pytest.raises(InvalidInputError, match="is a directory"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"), [(1.25, "1.2 s"), (61, "1 min 01 s"), (3725, "1 h 2 min")]
)
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text
