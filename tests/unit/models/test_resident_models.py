"""Which models stay in memory, and that each is loaded once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from plumbline.core.errors import CheckpointError
from plumbline.models.resident import ResidentModels


class Loader:
    """Models are their own ids; `broken` cannot be loaded."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.loaded: list[str] = []
        self._takes_s = takes_s

    def __call__(self, model_id: str, path: Path) -> str:
        if model_id == "broken":
            raise CheckpointError("broken")
        time.sleep(self._takes_s)
        self.loaded.append(model_id)
        return model_id


def get(models: ResidentModels[str], *ids: str) -> None:
    for model_id in ids:
        assert models.get(model_id, Path(model_id)) == model_id


def test_the_least_recently_used_model_makes_room() -> None:
    loader = Loader()
    models = ResidentModels(loader, len, max_models=2, max_bytes=100)

    get(models, "a", "b", "a", "c")

    assert models.ids() == ["a", "c"]
    get(models, "a", "c")
    assert loader.loaded == ["a", "b", "c"]


def test_bytes_are_bounded_and_the_newest_model_stays_whatever_its_size() -> None:
    models = ResidentModels(Loader(), len, max_models=9, max_bytes=5)

    get(models, "aaa", "bb")
    assert models.ids() == ["aaa", "bb"]
    get(models, "c")
    assert models.ids() == ["bb", "c"]
    get(models, "much too long")
    assert models.ids() == ["much too long"]


def test_requests_at_the_same_time_load_once() -> None:
    loader = Loader(takes_s=0.05)
    models = ResidentModels(loader, len, max_models=2, max_bytes=100)
    threads = [threading.Thread(target=get, args=(models, "a")) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert loader.loaded == ["a"]


def test_a_failed_load_leaves_nothing_behind() -> None:
    models = ResidentModels(Loader(), len, max_models=2, max_bytes=100)

    for _ in range(2):
        with pytest.raises(CheckpointError):
            models.get("broken", Path())

    assert models.ids() == []
