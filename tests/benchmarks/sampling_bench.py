"""`make bench PART=sampling`: sampling beside transformers' two ways and TRL's.

The same weights, prompts and response lengths, on two threads, one program at a time. A program
loads its model once; only sampling is timed, after a warm-up, in the order A B C D D C B A, and
so again; a peer's ratio pairs its run with ours of the same round, and above 1 it is in our favour
(of times, the peer's over ours). A round has prompts of its own, so that no engine finds them in a
cache. Peers get the setting that was fastest in one run of each, which the note names:

- transformers' `generate`: left-padded batches of so many rows, sorted by the prompts' lengths or
  not, whose rows end at their own lengths; where requests arrive, those that wait when a batch has
  ended are the next one;
- transformers' continuous batching, of so many requests at once; on a CPU with `sdpa` attention;
- TRL: the function with which GRPOTrainer draws from transformers. It takes no arrivals.

Work: (a) 64 prompts of 32 to 192 tokens, one response each; (b) 16 prompts of 128 to 256 tokens,
16 responses each; (c) 200 requests like those of (a) that arrive by a Poisson process: by default
three times as fast as the fastest peer drains (a), so that every engine is loaded. Responses have
16 to 128 tokens. The gate: our greedy tokens are those of `generate`, one prompt at a time, and
every response of every run has its length.

Programs inherit the environment: on a machine that others use, OMP_WAIT_POLICY=PASSIVE keeps
threads from spinning while they wait for one that was put aside.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from framework import OURS_PYTHON, REPOSITORY, Row, show_rows, write_rows
from sampling_models import SHAPES, NoModelError, greedy_gap, prepare_model
from sampling_program import Program, started
from sampling_rounds import CONTINUOUS, GENERATE, OURS, TRL, Rounds
from sampling_work import (
    LEAST_LENGTH,
    MOST_LENGTH,
    Options,
    Request,
    Work,
    make_requests,
    poisson_arrivals,
)

TRL_PYTHON = REPOSITORY / ".venv-trl" / "bin" / "python"
PROGRAMS = {
    OURS: (OURS_PYTHON, "ours/sampling_ours.py"),
    GENERATE: (OURS_PYTHON, "peers/sampling_generate.py"),
    CONTINUOUS: (OURS_PYTHON, "peers/sampling_continuous.py"),
    TRL: (TRL_PYTHON, "peers/sampling_trl.py"),
}
PEERS = (GENERATE, CONTINUOUS, TRL)
WORK = ("a", "b", "c")
RESULT = REPOSITORY / ".plumbline" / "bench" / "sampling.json"
SHORT_PROMPTS, LONG_PROMPTS = (32, 192), (128, 256)
"""Tokens, least and most."""
GREEDY_SEED, ARRIVING_SEED = 2000, 3000
"""Added to seeds, so that no work has the prompts of another."""
MEAN_LENGTH = (LEAST_LENGTH + MOST_LENGTH) / 2


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    prompts: int = 64
    shared_prompts: int = 16
    k: int = 16
    arriving: int = 200
    greedy_prompts: int = 200


FULL, QUICK = Scale(), Scale(prompts=16, shared_prompts=4, k=8, arriving=40, greedy_prompts=20)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of one model."""

    work: Sequence[str]
    scale: Scale
    vocabulary: int
    same_length: bool
    load: float
    """Arrivals, as a multiple of what the fastest peer drains."""
    rate: float | None
    """Requests a second, in place of the load."""

    def closed(self, kind: str, seed: int) -> Work:
        """(a) or (b)."""
        many = kind == "b"
        return Work(
            make_requests(
                count=self.scale.shared_prompts if many else self.scale.prompts,
                prompt_tokens=LONG_PROMPTS if many else SHORT_PROMPTS,
                vocabulary=self.vocabulary,
                k=self.scale.k if many else 1,
                same_length=self.same_length,
                seed=seed,
            )
        )

    def short_requests(self, count: int, seed: int) -> tuple[Request, ...]:
        return make_requests(
            count=count, prompt_tokens=SHORT_PROMPTS, vocabulary=self.vocabulary, seed=seed
        )

    def arriving(self, tokens_per_s: float, seed: int) -> Work:
        """(c), given what the fastest peer draws of (a)."""
        requests = self.short_requests(self.scale.arriving, ARRIVING_SEED + seed)
        rate = self.rate or self.load * tokens_per_s / MEAN_LENGTH
        return Work(requests, poisson_arrivals(len(requests), rate, seed))


def measure(rounds: Rounds, plan: Plan) -> list[Row]:
    rows: list[Row] = []
    drained = 0.0
    scale = plan.scale
    if "a" in plan.work:
        rows += rounds.rows(f"a: {scale.prompts} prompts x 1", partial(plan.closed, "a"))
        drained = fastest_peer(rounds.speeds)
    if "b" in plan.work:
        title = f"b: {scale.shared_prompts} prompts x {scale.k}"
        rows += rounds.rows(title, partial(plan.closed, "b"))
    if "c" in plan.work:
        if not drained and plan.rate is None:
            # Rows that nobody asked for: the rate of (c) follows from them.
            list(rounds.rows("a", partial(plan.closed, "a")))
            drained = fastest_peer(rounds.speeds)
        rows += rounds.rows(f"c: {scale.arriving} arriving", partial(plan.arriving, drained))
    return rows


def fastest_peer(speeds: dict[str, float]) -> float:
    """Tokens a second; ours where there is no peer."""
    return max([rate for name, rate in speeds.items() if name != OURS] or speeds.values())


def greedy_gate(rounds: Rounds, plan: Plan, reference: Program, model: Path) -> str:
    """Compare our greedy tokens with those of `generate`, which takes one prompt at a time."""
    count = plan.scale.greedy_prompts
    work = Work(plan.short_requests(count, GREEDY_SEED))
    ours = rounds.run(OURS, work, Options(temperature=0.0)).facts["responses"]
    alone = Options(temperature=0.0, settings={"rows": 1})
    theirs = reference.run(rounds.scratch / "work.json", alone).facts["responses"]
    differing = [i for i in range(count) if ours[i] != theirs[i]]
    if not differing:
        return f"greedy tokens of {count} prompts are generate's"
    gaps = [
        first_gap(model, work.requests[index], ours[index][0], theirs[index][0])
        for index in differing[:3]
    ]
    shown = ", ".join(f"{gap:.1e}" for gap in gaps)
    return f"FAILED: greedy tokens of {len(differing)} of {count} differ, by {shown} in logits"


def first_gap(model: Path, request: Request, ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Between the first two tokens that differ."""
    place = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len(set(pair)) > 1)
    return greedy_gap(model, [*request.prompt, *ours[:place]], ours[place], theirs[place])


def measure_shape(name: str, arguments: argparse.Namespace, peers: Sequence[str]) -> list[Row]:
    """
    Raises:
        NoModelError: the model is a public one that is not here.
    """
    with tempfile.TemporaryDirectory(prefix="bench-sampling-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        model = scratch / "model"
        title, vocabulary = prepare_model(name, model)

        def start(program: str) -> Program:
            python, script = PROGRAMS[program]
            return stack.enter_context(
                started(program, python, script, model, threads=arguments.threads)
            )

        plan = Plan(
            arguments.work,
            QUICK if arguments.quick else FULL,
            vocabulary,
            not arguments.own_lengths,
            arguments.load,
            arguments.rate,
        )
        rounds = Rounds(
            title,
            scratch,
            {program: start(program) for program in (OURS, *peers)},
            arguments.top_p,
            arguments.repeats,
            tuned=not arguments.quick,
        )
        reference = rounds.programs.get(GENERATE) or start(GENERATE)
        rounds.gate = greedy_gate(rounds, plan, reference, model)
        return measure(rounds, plan)


def peers_here(wanted: Sequence[str]) -> list[str]:
    """Peers whose environment is there; says so of others."""
    missing = [name for name in wanted if not PROGRAMS[name][0].exists()]
    for name in missing:
        print(
            f"{name}: {PROGRAMS[name][0].parents[1].name} is missing; `make setup-bench` makes it"
        )
    return [name for name in wanted if name not in missing]


def with_kept(rows: Sequence[Row], path: Path) -> list[Row]:
    """Rows of an earlier run that these do not replace, then these."""
    if not path.exists():
        return list(rows)
    earlier = [Row(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    measured = {(row.work, row.shape) for row in rows}
    return [*(row for row in earlier if (row.work, row.shape) not in measured), *rows]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument(
        "--shape", nargs="+", choices=list(SHAPES), default=["5m", "60m", "stories"]
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--repeats", type=int, help="Rounds; 5, or 1 with --quick.")
    parser.add_argument("--quick", action="store_true", help="Less work, settings not chosen.")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--load", type=float, default=3.0, help="Arrivals per drained by a peer.")
    parser.add_argument("--rate", type=float, help="Requests/s that arrive, in place of --load.")
    parser.add_argument(
        "--own-lengths",
        action="store_true",
        help="Give each of the K responses to a prompt a length of its own.",
    )
    parser.add_argument(
        "--keep", action="store_true", help="Keep rows of an earlier run on other work."
    )
    arguments = parser.parse_args(argv)
    if arguments.repeats is None:
        arguments.repeats = 1 if arguments.quick else 5
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(argv)
    peers = peers_here(arguments.peers)
    rows: list[Row] = []
    incomplete = len(peers) < len(arguments.peers)
    for name in arguments.shape:
        try:
            rows += measure_shape(name, arguments, peers)
        except NoModelError as error:
            incomplete = True
            print(f"{name}: {error}")
    if arguments.keep:
        rows = with_kept(rows, RESULT)
    show_rows("sampling", rows)
    print(f"written to {write_rows('sampling', rows)}")
    return int(incomplete or any("FAILED" in row.gate for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
