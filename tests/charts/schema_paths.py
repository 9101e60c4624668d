"""The chart's schema of values, walked as the values are nested."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from charts.rendering import CHART

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """One subschema, where it was first met."""

    path: str
    schema: Schema
    definition: str
    """Name of the definition that it refers to; empty for one of its own."""

    @property
    def is_open(self) -> bool:
        """Whether it takes keys of an object that it does not know, with any value."""
        is_object = self.schema.get("type") == "object" or "properties" in self.schema
        return is_object and self.schema.get("additionalProperties", True) in (True, {})


@functools.cache
def root() -> Schema:
    loaded: Schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return loaded


def resolve(schema: Schema) -> tuple[Schema, str]:
    """A schema with what its `$ref` names, and that name; keys of its own win."""
    reference = schema.get("$ref")
    if reference is None:
        return schema, ""
    _, *parts = reference.split("/")
    named, _ = resolve(functools.reduce(lambda found, part: found[part], parts, root()))
    own = {key: value for key, value in schema.items() if key != "$ref"}
    return {**named, **own}, parts[-1]


def places() -> Iterator[Place]:
    """Every subschema that a value can come to, each definition once."""
    seen: set[str] = set()

    def walk(schema: Schema, path: str) -> Iterator[Place]:
        found, definition = resolve(schema)
        yield Place(path, found, definition)
        if definition in seen:
            return
        seen.update({definition} - {""})
        for name, child in (found.get("properties") or {}).items():
            yield from walk(child, f"{path}.{name}")
        for key in ("additionalProperties", "items"):
            if isinstance(found.get(key), Mapping):
                yield from walk(found[key], f"{path}[]")
        for key in ("allOf", "anyOf", "oneOf"):
            for child in found.get(key) or []:
                yield from walk(child, f"{path}()")

    yield from walk(root(), "")
