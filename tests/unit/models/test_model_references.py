"""Artifact ids, tags and directories as names of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.core.errors import NotFoundError, PermissionDeniedError
from plumbline.models.references import ModelReferences

FIRST, SECOND = "a" * 64, "b" * 64


class Store:
    """Two artifacts, a tag that moves, and a count of materialisations."""

    def __init__(self, root: Path) -> None:
        self.tags = {"policy/x@latest": FIRST}
        self.materialised: list[str] = []
        self._root = root

    def resolve(self, reference: str) -> str:
        if reference not in self.tags:
            raise NotFoundError(reference)
        return self.tags[reference]

    def materialise(self, reference: str) -> Path:
        self.materialised.append(reference)
        path = self._root / reference
        path.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_a_tag_is_followed_when_it_moves(store: Store) -> None:
    references = ModelReferences(store)
    assert references("policy/x@latest")[0] == FIRST

    store.tags["policy/x@latest"] = SECOND

    assert references("policy/x@latest")[0] == SECOND


def test_an_artifact_is_materialised_once_and_again_when_the_cache_dropped_it(store: Store) -> None:
    references = ModelReferences(store)
    _, path = references(FIRST)
    references(FIRST)
    assert store.materialised == [FIRST]

    path.rmdir()

    assert references(FIRST)[1].is_dir()
    assert store.materialised == [FIRST, FIRST]


def test_a_directorys_id_follows_its_content(store: Store, tmp_path: Path) -> None:
    references = ModelReferences(store)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "notes.log").write_text(name)

    one, path = references(f"path:{tmp_path / 'one'}")
    assert one.startswith("dir:") and path == tmp_path / "one"
    assert references(str(tmp_path / "two"))[0] == one
    (tmp_path / "two" / "model.safetensors").write_bytes(b"other weights")
    assert references(str(tmp_path / "two"))[0] != one


def test_what_does_not_exist_is_named(store: Store, tmp_path: Path) -> None:
    references = ModelReferences(store)
    with pytest.raises(NotFoundError, match="policy/none@latest"):
        references("policy/none@latest")
    with pytest.raises(NotFoundError, match="missing is not a directory"):
        references(f"path:{tmp_path / 'missing'}")


def test_directories_outside_the_import_roots_are_refused(store: Store, tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    allowed.mkdir()
    outside.mkdir()
    (allowed / "link").symlink_to(outside)
    references = ModelReferences(store, import_roots=[allowed])

    assert references(str(allowed))[1] == allowed
    for path in (outside, allowed / "link", allowed / ".." / "outside"):
        with pytest.raises(PermissionDeniedError, match="allowed"):
            references(str(path))
