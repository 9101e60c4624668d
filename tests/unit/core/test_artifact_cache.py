"""Local copies of artifacts that several processes want at once."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import Lineage, open_store
from plumbline.core.artifacts.cache import LocalCache
from plumbline.core.settings import Settings


def test_a_copy_that_another_made_and_pinned_meanwhile_is_taken_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks of one job start together, and each pins its inputs until the other has ended."""

    def open_one() -> Any:
        url = f"file://{tmp_path}/store"
        return open_store(url, cache_dir=tmp_path / "cache", cache_bytes=2**20, settings=Settings())

    source = tmp_path / "source"
    source.mkdir()
    (source / "data.txt").write_text("some data")
    artifact = open_one().put("corpus", source, lineage=Lineage(stage="import"))
    evict = LocalCache._evict
    with ExitStack() as pins:

        def pinned_by_another_first(cache: LocalCache, *, room_for: int) -> None:
            monkeypatch.setattr(LocalCache, "_evict", evict)
            pins.enter_context(open_one().pinned(artifact.id))
            evict(cache, room_for=room_for)

        # Between not finding the copy and making it.
        monkeypatch.setattr(LocalCache, "_evict", pinned_by_another_first)
        started = time.monotonic()
        path = open_one().materialise(artifact.id)

        assert (path / "data.txt").read_text() == "some data"
        assert time.monotonic() - started < 30
