"""Which environment variables the product reads, found in its code.

Settings are asked by letting them read an environment that takes notes. Every other read of the
environment is found in the syntax tree: a literal or a module's constant handed to `os.environ`, or
to something that was given it. A whole string that looks like a variable of this platform counts
too, so that a name in a table is not missed.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import plumbline
from plumbline.core.settings import SERVICES, Settings

PACKAGE = Path(plumbline.__file__).parent
_OURS = re.compile(r"(PLUMBLINE|OTEL)_[A-Z0-9_]*[A-Z0-9]|REDIS_URL")
_READS = {"get", "pop", "setdefault", "getenv"}


class _Notes(Mapping[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@functools.cache
def variables_read() -> frozenset[str]:
    """Names of all variables that a part of the product reads."""
    notes = _Notes()
    Settings.from_environment(notes)
    found = set(notes.asked)
    for path in sorted(PACKAGE.rglob("*.py")):
        if "v1" not in path.relative_to(PACKAGE).parts:
            found |= variables_in(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(found)


def variables_in(tree: ast.Module) -> set[str]:
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if _OURS.fullmatch(node.value) else set()
        elif isinstance(node, ast.JoinedStr):
            found |= _of_each_service(node)
        else:
            asked = _name_asked_for(node)
            name = constants.get(asked.id) if isinstance(asked, ast.Name) else _text(asked)
            found |= {name} if name else set()
    return found


def _of_each_service(node: ast.JoinedStr) -> set[str]:
    """What f"PLUMBLINE_{service.upper()}_ADDRESS_FILE" stands for."""
    match node.values:
        case [ast.Constant(value="PLUMBLINE_"), ast.FormattedValue(), ast.Constant(value=ending)]:
            if re.fullmatch(r"_[A-Z_]+", str(ending)):
                return {f"PLUMBLINE_{service.upper()}{ending}" for service in SERVICES}
    return set()


def _name_asked_for(node: ast.AST) -> ast.expr | None:
    """The expression that names a variable, where a node reads or sets one in `os.environ`."""
    match node:
        case ast.Subscript(value=value, slice=name) if _is_environment(value):
            return name
        case ast.Call(func=ast.Attribute(value=value, attr=attr), args=[name, *_]) if (
            attr in _READS and (_is_environment(value) or attr == "getenv")
        ):
            return name
        case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()], comparators=[value]) if (
            _is_environment(value)
        ):
            return name
    return None


def _is_environment(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
