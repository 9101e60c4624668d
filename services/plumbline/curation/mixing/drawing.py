"""Which records are drawn, how often, and in which order; by arithmetic over the catalogue.

Records with lower draw numbers are drawn first, so a larger mix of one seed holds the smaller one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumbline.curation.mixing.catalogue import Catalogue
from plumbline.curation.word_runs import mix


@dataclass(frozen=True, slots=True)
class Drawn:
    """The records of a mix, in the order in which they are written; M entries."""

    rows: NDArray[np.int64]
    """[M] rows of the catalogue."""
    repetitions: NDArray[np.int64]
    """[M] 0 for a record's first appearance."""


def within_caps(
    catalogue: Catalogue, caps: list[int | None], task_cap: int | None
) -> NDArray[np.bool_]:
    """[rows] which records are left after each task's cap, then each source's.

    Args:
        caps: of each source; None for no bound.
    """
    allowed: NDArray[np.bool_] = catalogue.sources >= 0
    if task_cap is not None:
        rows = np.flatnonzero(allowed)
        order = np.lexsort((catalogue.draws[rows], catalogue.tasks[rows], catalogue.sources[rows]))
        rows = rows[order]
        keys = np.stack([catalogue.sources[rows], catalogue.tasks[rows]], axis=1)
        allowed[rows[_place_in_group(keys) >= task_cap]] = False
    if any(cap is not None for cap in caps):
        most = np.array([len(allowed) if cap is None else cap for cap in caps], dtype=np.int64)
        rows = _by_source(catalogue, allowed)
        sources = catalogue.sources[rows]
        allowed[rows[_place_in_group(sources[:, None]) >= most[sources]]] = False
    return allowed


def amounts_of_sources(catalogue: Catalogue, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[sources] how much there is of each, in the catalogue's unit."""
    totals = np.zeros(len(catalogue.names), dtype=np.int64)
    np.add.at(totals, catalogue.sources[allowed], catalogue.amounts[allowed])
    return totals


def draw(catalogue: Catalogue, allowed: NDArray[np.bool_], planned: list[int]) -> NDArray[np.int64]:
    """[rows] how often each record is taken.

    Every record of a source is taken as often as its amount goes into what is planned; the records
    with the lowest draw numbers are taken once more, until the rest is as nearly reached as whole
    records allow. Of records, it is reached exactly.
    """
    times = np.zeros(len(allowed), dtype=np.int64)
    rows = _by_source(catalogue, allowed)
    borders = np.searchsorted(catalogue.sources[rows], np.arange(len(catalogue.names) + 1))
    for source, wanted in enumerate(planned):
        own = rows[borders[source] : borders[source + 1]]
        running = np.cumsum(catalogue.amounts[own])
        if not wanted or not len(own) or not running[-1]:
            continue
        whole, rest = divmod(wanted, int(running[-1]))
        times[own] = whole
        times[own[: _nearest(running, rest)]] += 1
    return times


def order_of(
    catalogue: Catalogue,
    times: NDArray[np.int64],
    *,
    by: str,
    phases: NDArray[np.int64],
    descending: bool = False,
) -> Drawn:
    """The records in the order wanted; what is equal in it is shuffled.

    Args:
        by: shuffled, input, length, score or phases.
        phases: [sources] phase of each.
    """
    rows = np.repeat(np.arange(len(times)), times)
    first = np.repeat(np.cumsum(times) - times, times)
    repetitions = np.arange(len(rows)) - first
    if by == "input":
        order = np.lexsort((rows, repetitions))
        return Drawn(rows[order], repetitions[order])
    # The draw numbers themselves would bring the records of a partial epoch first.
    shuffled = mix(mix(catalogue.draws[rows]) ^ mix(repetitions.astype(np.uint64) + np.uint64(1)))
    primary = {
        "shuffled": np.zeros(len(rows), dtype=np.int64),
        "length": catalogue.characters[rows],
        "score": catalogue.scores[rows],
        "phases": phases[catalogue.sources[rows]],
    }[by]
    order = np.lexsort((shuffled, -primary if descending else primary))
    return Drawn(rows[order], repetitions[order])


def _by_source(catalogue: Catalogue, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Allowed rows, source by source, each in the order of the draw numbers."""
    rows = np.flatnonzero(allowed)
    ordered: NDArray[np.int64] = rows[np.lexsort((catalogue.draws[rows], catalogue.sources[rows]))]
    return ordered


def _place_in_group(keys: NDArray[np.int32]) -> NDArray[np.int64]:
    """[N] how many rows before each one have the same [N, K] key; equal keys lie together."""
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    firsts = np.flatnonzero(is_first)
    return np.arange(len(keys)) - np.repeat(firsts, np.diff(np.r_[firsts, len(keys)]))


def _nearest(running: NDArray[np.int64], wanted: int) -> int:
    """How many records come nearest to `wanted`, given their running totals; fewer on a tie."""
    count = int(np.searchsorted(running, wanted, side="right"))
    below = int(running[count - 1]) if count else 0
    if count < len(running) and int(running[count]) - wanted < wanted - below:
        return count + 1
    return count
