"""One direction of calls, enforced over the imports of every module.

client -> service -> (queue -> tasks ->) engine -> losses
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import plumbline

ROOT = Path(plumbline.__file__).parent
ROOMS = ("curation", "sampler", "reward", "trainer", "retriever", "evaluation")
EDGES = {"service", "tasks", "server", "client", "convert", "remote"}
"""Modules of a room that may know the wire or the queue; the others are its engine."""

MAY_IMPORT = {
    "core": set(),
    "v1": {"v1"},
    "world": {"core", "data"},
    "data": {"core", "v1"},
    "models": {"core", "data"},
    # Training loops sample with the sampler's engine in their own process.
    "trainer": {"core", "data", "models", "sampler", "reward", "v1"},
    "sampler": {"core", "data", "models", "v1"},
    "reward": {"core", "data", "models", "v1"},
    "curation": {"core", "data", "world", "v1"},
    "retriever": {"core", "data", "models", "v1"},
    "evaluation": {"core", "data", "models", "world", "sampler", "reward", "retriever", "v1"},
    "pipeline": {"core", "data", "v1"},
    "launcher": {"core"},
    # A client of the sampler that shares the derivation of its seeds.
    "openai_front": {"core", "data", "sampler", "v1"},
}
CORE_EDGES = {"rpc", "job_service"}
"""Parts of core that speak protobuf."""


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names that a module imports; type-checking blocks do not count."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else [n for n in ast.walk(tree) if not _typing_only(n)]
    typing_blocks = {id(child) for n in ast.walk(tree) if _typing_only(n) for child in ast.walk(n)}
    for node in nodes:
        if id(node) in typing_blocks:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _typing_only(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_import_only_what_they_may_know(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    if room == "core":
        allowed = {"core"}

    found = {
        (str(path.relative_to(ROOT)), name)
        for path in modules(room)
        for name in imports(path)
        if name.startswith("plumbline.")
        and name.split(".")[1] not in allowed
        and not (
            room == "core"
            and path.relative_to(ROOT / "core").parts[0].split(".")[0] in CORE_EDGES
            and name.startswith("plumbline.v1")
        )
    }
    # Servers and workers are composed from the catalogue of every room's stages.
    found = {
        (path, name)
        for path, name in found
        if not (path.endswith("server.py") and name.startswith("plumbline.catalogue"))
    }

    assert not found


@pytest.mark.parametrize("room", ROOMS)
def test_engines_know_neither_wire_nor_queue(room: str) -> None:
    forbidden = (
        "grpc",
        "celery",
        "plumbline.v1",
        "plumbline.core.rpc",
        "plumbline.core.queue",
        "plumbline.core.jobs",
    )

    found = [
        (str(path.relative_to(ROOT)), name)
        for path in modules(room)
        if path.stem not in EDGES
        for name in imports(path)
        if name.startswith(forbidden)
    ]

    assert not found


def test_losses_are_functions_of_tensors() -> None:
    found = [
        (path.name, name)
        for path in modules("trainer/losses")
        for name in imports(path)
        if not name.startswith(
            (
                "torch",
                "plumbline.trainer.losses",
                "__future__",
                "typing",
                "collections",
                "math",
                "dataclasses",
            )
        )
    ]

    assert not found


@pytest.mark.parametrize("name", ["config", "tasks", "stages"])
def test_configs_and_stage_lists_load_without_torch(name: str) -> None:
    heavy = ("torch", "transformers", "faiss", "matplotlib")

    found = [
        (str(path.relative_to(ROOT)), imported)
        for room in ROOMS
        for path in modules(room)
        if name in (path.stem, path.parent.name)
        for imported in imports(path, top_level=True)
        if imported.startswith(heavy)
    ]

    assert not found


def test_nothing_loads_or_writes_pickles() -> None:
    found = [
        (str(path.relative_to(ROOT)), name)
        for path in sorted(ROOT.rglob("*.py"))
        for name in imports(path)
        if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "marshal")
        or name in ("torch.load", "torch.save")
    ]
    calls = [
        (path.name, node.lineno)
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("load", "save")
        and isinstance(node.value, ast.Name)
        and node.value.id == "torch"
    ]

    assert not found + calls


@pytest.mark.parametrize(
    "module",
    [
        "plumbline.cli.main",
        "plumbline.curation.server",
        "plumbline.retriever.server",
        "plumbline.evaluation.server",
        "plumbline.pipeline.server",
        "plumbline.trainer.server",
        "plumbline.openai_front.server",
        "plumbline.worker",
    ],
)
def test_these_images_need_no_torch(module: str) -> None:
    """The import fails where the module, or anything it imports, needs a package of a model."""
    program = f"""
import sys
for absent in ("torch", "transformers", "safetensors", "tokenizers", "matplotlib"):
    sys.modules[absent] = None
import {module}
"""

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr
