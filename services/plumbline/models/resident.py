"""Models kept in memory: each loaded once, the least recently used dropped for want of room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

M = TypeVar("M")


class ResidentModels(Generic[M]):
    """A bounded set of loaded models, by id. Safe to use from many threads.

    A model that is dropped while a call uses it lives until that call ends.

    Args:
        load: reads a model from its directory.
        size_bytes: memory that a loaded model takes.
        max_models: kept at most, at least one.
        max_bytes: of all kept models together; the newest is kept whatever its size.
    """

    def __init__(
        self,
        load: Callable[[str, Path], M],
        size_bytes: Callable[[M], int],
        *,
        max_models: int,
        max_bytes: int,
    ) -> None:
        self._load = load
        self._size_bytes = size_bytes
        self._max_models = max_models
        self._max_bytes = max_bytes
        self._models: OrderedDict[str, M] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, model_id: str, path: Path, load: Callable[[], M] | None = None) -> M:
        """The model, loaded from `path` if it is not in memory; others wait for the same load.

        Args:
            load: in place of the usual way to load a model.
        """
        with self._lock:
            model = self._touch(model_id)
            if model is not None:
                return model
            loading = self._loading.setdefault(model_id, threading.Lock())
        with loading:
            with self._lock:
                model = self._touch(model_id)
            if model is not None:
                return model
            try:
                model = self._load(model_id, path) if load is None else load()
                self._keep(model_id, model)
            finally:
                with self._lock:
                    self._loading.pop(model_id, None)
        return model

    def ids(self) -> list[str]:
        """Ids in memory, least recently used first."""
        with self._lock:
            return list(self._models)

    def held(self, model_id: str) -> M | None:
        """The model if it is in memory."""
        with self._lock:
            return self._touch(model_id)

    def items(self) -> list[tuple[str, M]]:
        """Ids and models in memory, least recently used first."""
        with self._lock:
            return list(self._models.items())

    def _touch(self, model_id: str) -> M | None:
        model = self._models.get(model_id)
        if model is not None:
            self._models.move_to_end(model_id)
        return model

    def _keep(self, model_id: str, model: M) -> None:
        with self._lock:
            self._models[model_id] = model
            while len(self._models) > 1 and (
                len(self._models) > self._max_models or self._held_bytes() > self._max_bytes
            ):
                self._models.popitem(last=False)

    def _held_bytes(self) -> int:
        return sum(self._size_bytes(model) for model in self._models.values())
