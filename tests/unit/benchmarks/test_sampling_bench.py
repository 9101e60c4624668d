"""The sampling benchmark: its work, what it makes of times, and its programs at a tiny size."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from framework import OURS_PYTHON, BenchmarkError, Row, Run
from sampling_bench import fastest_peer, measure_shape, parse, with_kept
from sampling_program import Program, started
from sampling_rounds import (
    CPU_SPEED,
    GENERATE,
    OURS,
    SPEED,
    Rounds,
    check_lengths,
    distinct,
    figures,
)
from sampling_work import (
    Request,
    Work,
    latency,
    load_work,
    make_requests,
    percentile,
    poisson_arrivals,
    save_work,
    waiting_batches,
)


def requests(**more: Any) -> tuple[Request, ...]:
    return make_requests(count=50, prompt_tokens=(32, 192), vocabulary=100, k=4, **more)


def run(work: Work, wall_s: float, **facts: Any) -> Run:
    return Run(work.tokens, 0, wall_s, wall_s, 0, 0.0, facts)


def test_requests_are_the_same_every_time_and_within_bounds() -> None:
    found = requests()

    assert found == requests() != requests(seed=1)
    for request in found:
        assert 32 <= len(request.prompt) <= 192
        assert all(4 <= token < 100 for token in request.prompt)
        assert request.k == 4 and len(set(request.lengths)) == 1
        assert 16 <= request.lengths[0] <= 128
    assert any(len(set(request.lengths)) > 1 for request in requests(same_length=False))


def test_arrivals_begin_at_once_and_come_at_the_rate() -> None:
    arrivals = poisson_arrivals(2000, rate=8.0)

    assert arrivals[0] == 0.0 and list(arrivals) == sorted(arrivals)
    # 1,999 gaps of 1/8 s with as large a deviation: the mean is within 10 % by 4.5 sigma.
    assert arrivals[-1] / 1999 == pytest.approx(1 / 8, rel=0.1)


def test_work_comes_back_from_its_file(tmp_path: Path) -> None:
    for arrivals in (None, (0.0, 0.5)):
        work = Work(requests()[:2], arrivals)
        save_work(work, tmp_path / "work.json")
        assert load_work(tmp_path / "work.json") == work


def test_a_batch_is_what_waits_when_the_last_has_ended() -> None:
    """Batches take 1 s. At 0 one request waits, at 1 three of which two fit, at 2 the third; the
    last comes at 5, until when the engine sleeps."""
    moments, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        moments[0] += seconds

    taken = []
    for batch in waiting_batches(
        [0.0, 0.3, 0.4, 0.9, 5.0], 2, clock=lambda: moments[0], sleep=sleep
    ):
        taken.append(batch)
        moments[0] += 1.0

    assert taken == [[0], [1, 2], [3], [4]]
    assert slept == [2.0]


def test_times_of_tokens_become_latencies() -> None:
    found = latency([0.0, 2.0], [[1.0, 1.5, 3.5], [2.25, 2.5]])

    assert found.first_token == (1.0, 0.25)
    assert found.per_token == (0.5, 2.0, 0.25)
    assert found.request == (3.5, 0.5)


def test_percentiles_lie_between_neighbours() -> None:
    """Of 10, 20, 30, 40: place 0.99 * 3 = 2.97, so 30 + 0.97 * 10."""
    assert percentile([40.0, 10.0, 30.0, 20.0], 0.99) == pytest.approx(39.7)
    assert percentile([40.0, 10.0, 30.0, 20.0], 0.5) == 25.0
    assert percentile([7.0], 0.99) == 7.0


def test_figures_pair_rounds_and_say_which_way_is_better() -> None:
    """10 tokens in 1 s beside 2 s; first tokens after 100 ms beside 400 ms."""
    work = Work((Request((5,), (10,), 0),), (0.0,))
    own = [0.1 * number for number in range(1, 11)]
    two = [0.4 + 0.1 * number for number in range(10)]

    found = {
        unit: (more_is_better, pairs)
        for unit, more_is_better, pairs in figures(
            [work], [run(work, 1.0, token_times=[own])], [run(work, 2.0, token_times=[two])]
        )
    }

    for unit in (SPEED, CPU_SPEED):
        assert found[unit] == (True, [(10.0, 5.0)])
    more_is_better, [(ours, peers)] = found["ms to first token, p50"]
    assert not more_is_better
    assert (ours, peers) == (pytest.approx(100), pytest.approx(400))
    assert len(found) == 8


def test_a_response_of_another_length_is_refused() -> None:
    work = Work((Request((5,), (2, 2), 0),))

    check_lengths("ours", work, run(work, 1.0, responses=[[[1, 2], [3, 4]]]))
    with pytest.raises(BenchmarkError, match=r"ours: request 0 has \[2, 1\] tokens, not \[2, 2\]"):
        check_lengths("ours", work, run(work, 1.0, responses=[[[1, 2], [3]]]))


def test_batches_that_would_be_the_same_are_tried_once() -> None:
    """64 responses fit into 64 rows as into 256; engines without rows keep all settings."""
    work = Work(make_requests(count=64, prompt_tokens=(4, 8), vocabulary=100))

    found = distinct([{"rows": 32}, {"rows": 64}, {"rows": 256}, {"requests": 8}], work)

    assert found == [{"rows": 64}, {"rows": 32}, {"requests": 8}]


def test_requests_arrive_as_the_fastest_peer_drains_them() -> None:
    assert fastest_peer({OURS: 900.0, "a": 100.0, "b": 300.0}) == 300.0
    assert fastest_peer({OURS: 900.0}) == 900.0


def test_rows_of_other_work_are_kept(tmp_path: Path) -> None:
    def row(work: str, ours: float) -> Row:
        return Row(work, "tiny", "tokens/s", ours, 1.0, "peer", ours, ours, ours, 1, "holds")

    path = tmp_path / "sampling.json"
    assert with_kept([row("a", 1.0)], path) == [row("a", 1.0)]
    path.write_text(json.dumps([asdict(row("a", 1.0)), asdict(row("b", 2.0))]), encoding="utf-8")

    kept = with_kept([row("a", 3.0)], path)

    assert [(found.work, found.ours) for found in kept] == [("b", 2.0), ("a", 3.0)]


def test_a_program_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchmarkError, match=r"nobody ended with 2:\n.*No such file"),
        started("nobody", OURS_PYTHON, "ours/nobody.py", tmp_path, threads=1),
    ):
        pass


def test_a_peer_that_fails_is_named_and_left_out(tmp_path: Path) -> None:
    class Failing(Program):
        version = "1"

        def __init__(self) -> None:
            return None

        def run(self, work: Path, options: Any) -> Run:
            raise BenchmarkError("generate ended with 1:\nRuntimeError: no memory")

    class Answering(Failing):
        def run(self, work: Path, options: Any) -> Run:
            asked = load_work(work)
            drawn = [[[0] * length for length in r.lengths] for r in asked.requests]
            return Run(asked.tokens, 0, 1.0, 1.0, 0, 0.0, {"responses": drawn})

    rounds = Rounds("tiny", tmp_path, {OURS: Answering(), GENERATE: Failing()}, 1.0, 1, False)

    [row] = rounds.rows("a", lambda seed: Work(requests(seed=seed)))

    assert (row.peer_name, row.ratio, row.note) == (
        GENERATE,
        None,
        "does not run: RuntimeError: no memory",
    )
    assert list(rounds.programs) == [OURS]


@pytest.mark.skipif(not OURS_PYTHON.exists(), reason="the environment .venv is missing")
def test_ours_beside_generate_on_a_tiny_model() -> None:
    arguments = parse(["--quick", "--threads", "1", "--work", "b", "c", "--rate", "200"])

    rows = measure_shape("tiny", arguments, [GENERATE])

    assert {row.gate for row in rows} == {"greedy tokens of 20 prompts are generate's"}
    assert [row.unit for row in rows].count(SPEED) == 2
    assert all(row.ratio is not None and row.ratio > 0 for row in rows)
    assert "200.00 requests/s arrive" not in rows[-1].note and "requests/s arrive" in rows[-1].note
