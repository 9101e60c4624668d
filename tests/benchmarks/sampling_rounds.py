"""Runs the programs of the sampling benchmark in turn over one model, and makes rows of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework import BenchmarkError, Row, Run
from sampling_program import Program
from sampling_work import Latency, Options, Work, latency, percentile, save_work

WorkOf = Callable[[int], Work]
"""Work of a seed: each round has prompts of its own, so that no engine finds them in a cache."""

OURS, GENERATE, CONTINUOUS, TRL = "Plumbline", "generate", "continuous", "TRL"
CLOSED, ARRIVING = "closed", "arriving"
CANDIDATES: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]] = {
    OURS: {CLOSED: ({},), ARRIVING: ({},)},
    GENERATE: {
        CLOSED: ({"rows": 32}, {"rows": 64}, {"rows": 256}, {"rows": 32, "sort": False}),
        ARRIVING: ({"rows": 64}, {"rows": 32}),
    },
    CONTINUOUS: {
        kind: ({"requests": 16}, {"requests": 8}, {"requests": 32}) for kind in (CLOSED, ARRIVING)
    },
    # Its loader shuffles prompts and knows nothing of their lengths, and it takes no arrivals.
    TRL: {CLOSED: tuple({"rows": rows, "sort": False} for rows in (32, 64, 256))},
}
"""Settings of each program; the first is taken where none are tried."""
SPEED = "response tokens/s, wall time"
CPU_SPEED = "response tokens/s, CPU time"
"""Of all threads, those that wait for work of others included where they spin."""
WARM_UP = 8
"""Requests."""
TRIAL_SEED = 1000
"""Of the work that settings are chosen on."""
SHARES = (0.5, 0.99)
_TIMES = {"first_token": "to first token", "per_token": "per token", "request": "per request"}


@dataclass
class Rounds:
    """One model's programs, and how they are asked."""

    shape: str
    scratch: Path
    programs: dict[str, Program]
    """Ours first. A peer that fails leaves."""
    top_p: float
    repeats: int
    tuned: bool
    gate: str = ""
    speeds: dict[str, float] = field(default_factory=dict)
    """Tokens a second of the last work, by program."""

    def run(self, name: str, work: Work, options: Options) -> Run:
        """
        Raises:
            BenchmarkError: the program failed, or a response has not its length.
        """
        path = self.scratch / "work.json"
        save_work(work, path)
        run = self.programs[name].run(path, options)
        check_lengths(name, work, run)
        return run

    def rows(self, title: str, work_of: WorkOf) -> Iterator[Row]:
        """Rows of every peer that takes this kind of work, measured in turn."""
        trial = work_of(TRIAL_SEED)
        kind = CLOSED if trial.arrivals is None else ARRIVING
        chosen: dict[str, Mapping[str, Any]] = {}
        for name in [name for name in self.programs if kind in CANDIDATES[name]]:
            try:
                chosen[name] = self._best_settings(name, kind, trial)
            except BenchmarkError as error:
                if name == OURS:
                    raise
                yield self._without(title, name, error)
        works = [work_of(seed) for seed in range(self.repeats)]
        runs = self._in_turn(list(chosen), works, chosen)
        self.speeds = {name: statistics.median(map(speed, found)) for name, found in runs.items()}
        shown = ", ".join(f"{name} {rate:,.0f}" for name, rate in self.speeds.items())
        print(f"{self.shape}, {title}: {shown} tokens/s", flush=True)
        for name in list(chosen)[1:]:
            note = self._note(chosen[name], trial)
            for unit, more_is_better, pairs in figures(works, runs[OURS], runs[name]):
                yield self._row(title, name, unit, more_is_better, pairs, note)

    def _in_turn(
        self, names: Sequence[str], works: Sequence[Work], chosen: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, list[Run]]:
        """Runs of each program: forwards in even rounds and backwards in odd ones."""
        runs: dict[str, list[Run]] = {name: [] for name in names}
        for number, work in enumerate(works):
            for name in names if number % 2 == 0 else reversed(names):
                runs[name].append(self.run(name, work, self._options(chosen[name])))
        return runs

    def _best_settings(self, name: str, kind: str, work: Work) -> Mapping[str, Any]:
        """The fastest of one run of each, each warm."""
        candidates = distinct(CANDIDATES[name][kind], work)
        if not self.tuned:
            candidates = candidates[:1]
        speeds = []
        for settings in candidates:
            self._warm_up(name, work, settings)
            if len(candidates) > 1:
                speeds.append(speed(self.run(name, work, self._options(settings))))
        best = candidates[speeds.index(max(speeds)) if speeds else 0]
        if best is not candidates[-1]:
            # An engine that keeps something for a setting makes it again, outside measured runs.
            self._warm_up(name, work, best)
        return best

    def _warm_up(self, name: str, work: Work, settings: Mapping[str, Any]) -> None:
        self.run(name, Work(work.requests[:WARM_UP]), self._options(settings))

    def _options(self, settings: Mapping[str, Any]) -> Options:
        return Options(top_p=self.top_p, settings=settings)

    def _note(self, settings: Mapping[str, Any], work: Work) -> str:
        parts = [f"top-p {self.top_p:g}"]
        if any(len(set(request.lengths)) > 1 for request in work.requests):
            parts.append("a length for each of the K responses")
        if work.arrivals is not None:
            parts.append(f"{(len(work.requests) - 1) / work.arrivals[-1]:.2f} requests/s arrive")
        return ", ".join([*parts, *(f"{key} {value}" for key, value in settings.items())])

    def _row(
        self,
        title: str,
        peer: str,
        unit: str,
        more_is_better: bool,
        pairs: Sequence[tuple[float, float]],
        note: str,
    ) -> Row:
        better = [own / two if more_is_better else two / own for own, two in pairs]
        holds = "FAILED" not in self.gate
        return Row(
            title,
            self.shape,
            unit,
            statistics.median(own for own, _ in pairs),
            statistics.median(two for _, two in pairs),
            f"{peer} {self.programs[peer].version}",
            statistics.median(better) if holds else None,
            min(better) if holds else None,
            max(better) if holds else None,
            len(pairs),
            self.gate,
            note,
        )

    def _without(self, title: str, peer: str, error: BenchmarkError) -> Row:
        """A peer that does not run this work: said, not left out."""
        del self.programs[peer]
        reason = str(error).splitlines()[-1]
        nothing = (None, None, peer, None, None, None, 0)
        return Row(title, self.shape, SPEED, *nothing, self.gate, f"does not run: {reason}")


def speed(run: Run) -> float:
    """Response tokens a second."""
    return run.documents / run.wall_s


def cpu_speed(run: Run) -> float:
    """Response tokens a second of CPU time: what a busy machine changes least."""
    return run.documents / run.cpu_s


def distinct(candidates: Sequence[Mapping[str, Any]], work: Work) -> list[Mapping[str, Any]]:
    """Those that differ: a batch holds no more rows than there are responses."""
    responses = sum(request.k for request in work.requests)
    full = [c for c in candidates if c.get("rows", 0) >= responses]
    kept = [c for c in candidates if c.get("rows", 0) < responses]
    return [*full[:1], *kept]


def check_lengths(name: str, work: Work, run: Run) -> None:
    """
    Raises:
        BenchmarkError: a response has not the length asked for.
    """
    if work.arrivals is None:
        found = [[len(tokens) for tokens in row] for row in run.facts["responses"]]
    else:
        found = [[len(times)] for times in run.facts["token_times"]]
    wanted = [list(request.lengths) for request in work.requests]
    for index, (lengths, asked) in enumerate(zip(found, wanted, strict=True)):
        if lengths != asked:
            raise BenchmarkError(f"{name}: request {index} has {lengths} tokens, not {asked}")


def figures(
    works: Sequence[Work], ours: Sequence[Run], peer: Sequence[Run]
) -> Iterator[tuple[str, bool, list[tuple[float, float]]]]:
    """Name of a unit, whether more of it is better, and (ours, peer) of each round."""
    together = list(zip(ours, peer, strict=True))
    yield SPEED, True, [(speed(own), speed(two)) for own, two in together]
    yield CPU_SPEED, True, [(cpu_speed(own), cpu_speed(two)) for own, two in together]
    times = [
        [latency(work.arrivals, run.facts["token_times"]) for run in runs]
        for work, runs in zip(works, together, strict=True)
        if work.arrivals is not None
    ]
    if not times:
        return
    for name, title in _TIMES.items():
        for share in SHARES:
            pairs = [(_ms(own, name, share), _ms(two, name, share)) for own, two in times]
            yield f"ms {title}, p{100 * share:.0f}", False, pairs


def _ms(times: Latency, name: str, share: float) -> float:
    return 1e3 * percentile(getattr(times, name), share)
