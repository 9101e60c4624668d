"""faiss HNSW, whose filter is applied to what the walk through the graph finds."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import faiss
import numpy as np
from retrieval_data import Data, Filter
from retrieval_program import Found, run_program

NEIGHBOURS, EF_CONSTRUCTION, EF_SEARCH = 16, 80, 128
"""faiss takes 40 and 16 for the last two where nothing is said; more of them finds more."""


class Hnsw:
    """An HNSW graph over inner products, and the mask of each filter that was asked for."""

    version = f"faiss {faiss.__version__}"

    def __init__(self, data: Data, index: faiss.Index) -> None:
        self._data, self._index = data, index
        self._masks: dict[Filter, np.ndarray] = {}

    def search(self, query: int, where: Filter, k: int) -> Found:
        parameters = faiss.SearchParametersHNSW(efSearch=EF_SEARCH, sel=self._selector(where))
        vector = self._data.query_vectors[query : query + 1]
        cosines, rows = self._index.search(vector, k, params=parameters)
        return [
            (int(row), float(cosine))
            for row, cosine in zip(rows[0], cosines[0], strict=True)
            if row >= 0
        ]

    def _selector(self, where: Filter) -> faiss.IDSelector:
        if where not in self._masks:
            allowed = self._data.allowed(where)
            self._masks[where] = np.packbits(allowed, bitorder="little")
        return faiss.IDSelectorBitmap(self._masks[where])


class HnswType:
    def build(self, data: Data, index: Path) -> None:
        graph = faiss.IndexHNSWFlat(data.vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        graph.add(np.ascontiguousarray(data.vectors))
        faiss.write_index(graph, str(index / "hnsw.faiss"))

    def load(self, data: Data, index: Path) -> Hnsw:
        return Hnsw(data, faiss.read_index(str(index / "hnsw.faiss")))


if __name__ == "__main__":
    run_program(HnswType())
