"""Rounds of the retrieval benchmark, and the rows that come of them.

Every engine answers for so long, in the order A B C D D C B A and so again; a peer's ratio pairs
its turn with ours of the same round, and above 1 it is in our favour.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from framework import Row
from sampling_work import percentile

RATE, MEDIAN_MS, TAIL_MS = "queries/s", "ms, p50", "ms, p99"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one engine did in one turn."""

    seconds: float
    ms: tuple[float, ...]
    """Of each query."""

    @property
    def rate(self) -> float:
        return len(self.ms) / self.seconds


Turns = Mapping[str, Sequence[Turn]]
"""By engine, in order of rounds."""


def take_turns(engines: Sequence[str], rounds: int, measure: Callable[[str], Turn]) -> Turns:
    found: dict[str, list[Turn]] = {name: [] for name in engines}
    for number in range(rounds):
        for name in engines if number % 2 == 0 else reversed(engines):
            found[name].append(measure(name))
    return found


def figures(turn: Turn) -> dict[str, float]:
    return {
        RATE: turn.rate,
        MEDIAN_MS: percentile(turn.ms, 0.5),
        TAIL_MS: percentile(turn.ms, 0.99),
    }


@dataclass(frozen=True)
class Table:
    """What the rows of one shape share.

    Attributes:
        gate: what was found before anything was timed.
    """

    shape: str
    gate: str

    def beside(self, work: str, turns: Turns, ours: str, note: str = "") -> Iterator[Row]:
        """A row for each peer and figure."""
        own = [figures(turn) for turn in turns[ours]]
        for peer in turns:
            if peer == ours:
                continue
            theirs = [figures(turn) for turn in turns[peer]]
            for unit in (RATE, MEDIAN_MS, TAIL_MS):
                pairs = [(mine[unit], other[unit]) for mine, other in zip(own, theirs, strict=True)]
                yield self.row(work, unit, pairs, peer, note, more_is_better=unit == RATE)

    def alone(self, work: str, turns: Sequence[Turn], note: str) -> Iterator[Row]:
        """A row for each figure of an engine without a peer."""
        found = [figures(turn) for turn in turns]
        for unit in (RATE, MEDIAN_MS, TAIL_MS):
            yield self.figure(work, unit, [each[unit] for each in found], note)

    def row(
        self,
        work: str,
        unit: str,
        pairs: Sequence[tuple[float, float]],
        peer: str,
        note: str = "",
        *,
        more_is_better: bool = False,
    ) -> Row:
        """
        Args:
            pairs: (ours, the peer's) of each round.
        """
        better = [mine / other if more_is_better else other / mine for mine, other in pairs]
        return Row(
            work,
            self.shape,
            unit,
            statistics.median(mine for mine, _ in pairs),
            statistics.median(other for _, other in pairs),
            peer,
            statistics.median(better),
            min(better),
            max(better),
            len(pairs),
            self.gate,
            note,
        )

    def figure(self, work: str, unit: str, values: Sequence[float], note: str = "") -> Row:
        """A figure of ours that no peer has."""
        nothing = (None, "-", None, None, None)
        ours = statistics.median(values)
        return Row(work, self.shape, unit, ours, *nothing, len(values), self.gate, note)
