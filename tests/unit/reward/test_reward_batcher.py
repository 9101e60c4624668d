"""Batches that span calls: what shares one, who comes first, and who is dropped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from plumbline.core.errors import DeadlineExceededError, ResourceExhaustedError
from plumbline.reward.backends import EncodedText, ModelFiles
from plumbline.reward.batcher import Batcher, BatchLimits

ONE, OTHER = ModelFiles("one", Path("one")), ModelFiles("other", Path("other"))


class Recorder:
    """Scores a text with its first token; keeps every batch, and waits where it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.began = threading.Event()
        self.error: Exception | None = None

    def __call__(
        self, model: ModelFiles, texts: Sequence[EncodedText], width: int
    ) -> Sequence[float]:
        self.batches.append((model.id, [len(text.token_ids) for text in texts]))
        assert width == max(width_of(model, text) for text in texts)
        self.began.set()
        assert self.may_go_on.wait(timeout=20)
        if self.error is not None:
            raise self.error
        return [float(text.token_ids[0]) for text in texts]


def width_of(_: ModelFiles, text: EncodedText) -> int:
    return -(-len(text.token_ids) // 4) * 4


def text(score: int, length: int = 4) -> EncodedText:
    return EncodedText([score] * length, 1)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.may_go_on.set()


def make(recorder: Recorder, **limits: object) -> Batcher:
    bounds = {"tokens_per_batch": 16, "max_queued": 100, "max_delay_s": 0.0, "one_width": True}
    return Batcher(recorder, width_of, BatchLimits(**{**bounds, **limits}))  # type: ignore[arg-type]


def hold(batcher: Batcher, recorder: Recorder) -> None:
    """Keep the thread busy, so that what is submitted next waits together."""
    recorder.may_go_on.clear()
    batcher.submit(ONE, [text(0)])
    assert recorder.began.wait(timeout=20)
    recorder.batches.clear()


def test_concurrent_calls_share_a_batch_and_get_their_own_scores(recorder: Recorder) -> None:
    batcher = make(recorder)
    hold(batcher, recorder)
    futures = [batcher.submit(ONE, [text(2 * i), text(2 * i + 1)]) for i in range(2)]

    recorder.may_go_on.set()

    assert [future.result(timeout=20) for future in futures] == [[0, 1], [2, 3]]
    assert recorder.batches == [("one", [4, 4, 4, 4])]


def test_a_batch_holds_one_model_one_width_and_the_token_budget(recorder: Recorder) -> None:
    # 16 tokens: four texts of width 4, two of width 8, or one of more than 16.
    batcher = make(recorder)
    hold(batcher, recorder)
    lengths = [3, 7, 4, 8, 20, 2, 4, 4, 5]
    mixed = batcher.submit(ONE, [text(i, length) for i, length in enumerate(lengths)])
    other = batcher.submit(OTHER, [text(9)])

    recorder.may_go_on.set()

    assert mixed.result(timeout=20) == list(range(9))
    assert other.result(timeout=20) == [9]
    assert sorted(recorder.batches) == [
        ("one", [3, 4, 2, 4]),
        ("one", [4]),
        ("one", [5]),
        ("one", [7, 8]),
        ("one", [20]),
        ("other", [4]),
    ]


def test_near_widths_share_a_batch_where_they_may(recorder: Recorder) -> None:
    batcher = make(recorder, one_width=False)
    hold(batcher, recorder)
    future = batcher.submit(ONE, [text(i, length) for i, length in enumerate([5, 16, 8, 4])])

    recorder.may_go_on.set()

    # Around the first, of width 8, two fit into 16 tokens; then the widest stands alone.
    assert future.result(timeout=20) == [0, 1, 2, 3]
    assert recorder.batches == [("one", [5, 8]), ("one", [16]), ("one", [4])]


def test_a_short_call_does_not_wait_for_the_whole_of_a_long_one(recorder: Recorder) -> None:
    batcher = make(recorder)
    hold(batcher, recorder)
    batcher.submit(ONE, [text(i, 4) for i in range(40)])
    short = batcher.submit(ONE, [text(7, 12)])

    recorder.may_go_on.set()

    assert short.result(timeout=20) == [7]
    assert [lengths for _, lengths in recorder.batches].index([12]) == 1


def test_a_cancelled_call_leaves_the_queue(recorder: Recorder) -> None:
    batcher = make(recorder)
    hold(batcher, recorder)
    dropped, kept = (batcher.submit(ONE, [text(score, 8)]) for score in (1, 2))

    assert dropped.cancel()
    recorder.may_go_on.set()

    assert kept.result(timeout=20) == [2]
    with pytest.raises(CancelledError):
        dropped.result(timeout=20)
    assert recorder.batches == [("one", [8])]
    assert batcher.queued == 0


def test_a_deadline_that_passed_in_the_queue_is_an_error_and_costs_nothing(
    recorder: Recorder,
) -> None:
    batcher = make(recorder)
    hold(batcher, recorder)
    late = batcher.submit(ONE, [text(1, 8)], deadline=time.monotonic() - 1)

    recorder.may_go_on.set()

    with pytest.raises(DeadlineExceededError, match="with 1 texts not scored"):
        late.result(timeout=20)
    assert recorder.batches == []


def test_a_full_queue_refuses_with_what_it_holds(recorder: Recorder) -> None:
    batcher = make(recorder, max_queued=3)
    hold(batcher, recorder)
    batcher.submit(ONE, [text(1), text(2)])

    with pytest.raises(ResourceExhaustedError, match=r"2 texts wait .* 2 more came; accepted: 3"):
        batcher.submit(ONE, [text(3), text(4)])


def test_an_error_reaches_the_calls_of_its_batch_alone(recorder: Recorder) -> None:
    batcher = make(recorder)
    recorder.error = ValueError("broken")
    with pytest.raises(ValueError, match="broken"):
        batcher.submit(ONE, [text(1), text(2, 8)]).result(timeout=20)

    recorder.error = None

    assert batcher.submit(ONE, [text(3)]).result(timeout=20) == [3]


def test_texts_wait_for_company_while_nothing_is_computed(recorder: Recorder) -> None:
    batcher = make(recorder, max_delay_s=0.5)

    futures = [batcher.submit(ONE, [text(score)]) for score in range(3)]

    assert [future.result(timeout=20) for future in futures] == [[0], [1], [2]]
    assert recorder.batches == [("one", [4, 4, 4])]


def test_a_call_that_is_failed_while_it_is_computed_leaves_the_thread_alive(
    recorder: Recorder,
) -> None:
    batcher = make(recorder, max_queued=1)
    recorder.may_go_on.clear()
    late = batcher.submit(ONE, [text(1)], deadline=time.monotonic() + 0.05)
    assert recorder.began.wait(timeout=20)
    waiting = batcher.submit(ONE, [text(2)])
    time.sleep(0.1)

    # The queue is full, so calls that nobody waits for are failed now.
    with pytest.raises(ResourceExhaustedError):
        batcher.submit(ONE, [text(3)])
    recorder.may_go_on.set()

    with pytest.raises(DeadlineExceededError):
        late.result(timeout=20)
    assert waiting.result(timeout=20) == [2.0]
