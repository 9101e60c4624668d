"""values.schema.json refuses what is wrong, and says where.

Every refusal is Helm's own, as `helm install` gives it; a path in its message is a JSON pointer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from charts.rendering import CHART, VALUE_FILES, override, refusal, values_of
from charts.schema_paths import places

DEFAULTS: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
UNKNOWN = {"unexpectedKey": {"unexpectedKey": {"unexpectedKey": 1}}}
"""No map of names takes it either: neither one of strings nor one of pools or workers."""
WRONG = [["unexpectedItem"]]
PASSED_ON = "kubernetes"
"""The definition of what Kubernetes alone knows, and refuses where it is wrong."""

Path = tuple[str, ...]


def pointer(path: Path) -> str:
    """JSON pointer of a path."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def blames(message: str, path: Path) -> bool:
    """Whether a message blames a path, or a place under it."""
    return f"at '{pointer(path)}'" in message or f"at '{pointer(path)}/" in message


def mappings(values: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """Paths of all mappings."""
    yield path
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from mappings(value, (*path, key))


def leaves(values: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """Paths of everything else."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def nested(path: Path, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


CLOSED = [path for path in mappings(DEFAULTS) if path != ("global",)]
"""Other charts of a parent may read `global`."""
LEAVES = list(leaves(DEFAULTS))


@functools.cache
def refusal_of_unknown_keys() -> str:
    return refusal(functools.reduce(override, (nested(path, UNKNOWN) for path in CLOSED), {}))


@functools.cache
def refusal_of_wrong_types() -> str:
    return refusal(functools.reduce(override, (nested(path, WRONG) for path in LEAVES), {}))


@pytest.mark.parametrize("path", CLOSED, ids=".".join)
def test_an_unknown_key_is_refused_at_every_level(path: Path) -> None:
    message = refusal_of_unknown_keys()

    own = f"at '{pointer(path)}': additional properties 'unexpectedKey' not allowed"
    assert own in message or blames(message, (*path, "unexpectedKey")), message


@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_a_value_of_the_wrong_type_is_refused_at_every_leaf(path: Path) -> None:
    assert blames(refusal_of_wrong_types(), path), refusal_of_wrong_types()


@pytest.mark.parametrize("name", VALUE_FILES)
def test_the_values_that_come_with_the_chart_are_accepted(name: str) -> None:
    assert refusal(values_of(name)) == ""


def test_a_parent_chart_s_globals_are_accepted() -> None:
    assert refusal({"global": {"anotherChart": True}}) == ""


def test_no_object_of_the_schema_takes_unknown_keys() -> None:
    assert [p.path for p in places() if p.is_open and p.definition != PASSED_ON] == [".global"]


def test_every_property_of_the_schema_is_described() -> None:
    named = [place for place in places() if place.path and not place.path.endswith(("]", ")"))]

    assert len(named) > 200
    assert [place.path for place in named if not place.schema.get("description")] == []
