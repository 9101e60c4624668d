"""Every value is explained where it stands, in comments that helm-docs reads (`# -- ...`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import yaml
from charts.rendering import CHART


def undescribed(text: str) -> list[str]:
    """Paths of values that nothing explains.

    A value is explained by a comment above it, by one above a map that holds no further ones, or
    by one above another value of its name: pods, pools and groups repeat the keys of `podDefaults`.
    """
    lines = text.splitlines()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    explained = {key.value for key, _, own in _keys(root, lines) if own}

    def visit(node: yaml.MappingNode, path: str) -> Iterator[str]:
        for key, value, own in _entries(node, lines):
            if isinstance(value, yaml.MappingNode) and value.value:
                if not own or any(inner for *_, inner in _keys(value, lines)):
                    yield from visit(value, f"{path}{key.value}.")
            elif not own and key.value not in explained:
                yield f"{path}{key.value}"

    return list(visit(root, ""))


def _entries(
    node: yaml.MappingNode, lines: Sequence[str]
) -> Iterator[tuple[yaml.Node, yaml.Node, bool]]:
    """(key, value, whether a comment for helm-docs stands above) of one map."""
    for key, value in node.value:
        comment = _comment(lines, key.start_mark.line)
        yield key, value, any(line.startswith("# -- ") for line in comment)


def _keys(
    node: yaml.MappingNode, lines: Sequence[str]
) -> Iterator[tuple[yaml.Node, yaml.Node, bool]]:
    """As `_entries`, with those of the maps in it."""
    for entry in _entries(node, lines):
        yield entry
        if isinstance(entry[1], yaml.MappingNode):
            yield from _keys(entry[1], lines)


def _comment(lines: Sequence[str], row: int) -> Iterator[str]:
    """The lines of the comment that ends right above a row."""
    for line in reversed(lines[:row]):
        if not line.lstrip().startswith("#"):
            return
        yield line.lstrip()


def test_every_value_is_explained() -> None:
    assert undescribed((CHART / "values.yaml").read_text()) == []


def test_a_value_without_an_explanation_is_found() -> None:
    text = """
# -- The first
# goes on
a: 1
# plain
b: 2
# -- A map
c:
  d: 3
# -- A section
e:
  a: 4
  f: 5
  # -- The last
  g: 6
"""
    assert undescribed(text) == ["b", "e.f"]
