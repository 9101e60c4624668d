"""Maximal marginal relevance: results that differ from those before them.

Shapes: C candidates, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plumbline.retriever.search.dense import Vectors
from plumbline.retriever.search.fusion import Scores


def most_diverse(vectors: Vectors, scores: Scores, k: int, diversity: float) -> NDArray[np.int64]:
    """Places of k candidates, picked one by one; equal candidates go by place.

    Each pick has the highest (1 - diversity) * relevance - diversity * similarity, where
    similarity is the highest cosine with a candidate already picked.

    Args:
        vectors: [C, D] unit rows.
        scores: [C] relevance on any scale; it is stretched to 0 to 1.
        diversity: 0 to 1.
    Source: Carbonell and Goldstein 1998, The use of MMR, with lambda = 1 - diversity.
    """
    span = float(np.ptp(scores)) if len(scores) else 0.0
    relevance = (scores - scores.min()) / span if span > 0 else np.ones(len(scores))
    wide = vectors.astype(np.float64)
    similarity = np.zeros(len(scores))
    picked: list[int] = []
    open_places = np.ones(len(scores), dtype=np.bool_)
    while len(picked) < min(k, len(scores)):
        marginal = (1 - diversity) * relevance - diversity * similarity
        place = int(np.argmax(np.where(open_places, marginal, -np.inf)))
        picked.append(place)
        open_places[place] = False
        cosines = np.add.reduce(wide * wide[place], axis=1)
        similarity = cosines if len(picked) == 1 else np.maximum(similarity, cosines)
    return np.asarray(picked, dtype=np.int64)
