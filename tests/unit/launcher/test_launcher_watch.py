"""The watch goes on, whatever a look at the cluster meets."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, cast

import pytest

from plumbline.core.jobs import JobStore
from plumbline.launcher.cluster import Cluster
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.watch import ClusterWatch

PATIENCE_S = 10.0
CONFIG = LauncherConfig(image="i", poll_period_s=0.01, sweep_period_s=0.01)
NOTHING = json.dumps({"items": []}).encode()


class Answers:
    """A transport that raises or answers in turn, and then has nothing to list."""

    def __init__(self, *answers: Exception | bytes) -> None:
        self._answers = list(answers)

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        answer = self._answers.pop(0) if self._answers else NOTHING
        if isinstance(answer, Exception):
            raise answer
        return 200, answer


def watch(*answers: Exception | bytes) -> ClusterWatch:
    # No Jobs, so that no record is asked for.
    return ClusterWatch(Cluster(Answers(*answers), CONFIG, "ml"), CONFIG, cast(JobStore, None))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>Please sign in</html>", "Please sign in"),
        (b'{"kind": "Status"}', "KeyError: 'items'"),
        (RuntimeError("cannot schedule new futures"), "RuntimeError: cannot schedule new futures"),
    ],
    ids=["a page", "no list", "a bug"],
)
def test_the_thread_outlives_what_nobody_expected(answer: Exception | bytes, words: str) -> None:
    watching = watch(answer)
    watching.start()
    try:
        seen = watching.newer_than(0, PATIENCE_S)
        if seen.number == 1:
            assert words in seen.trouble
            seen = watching.newer_than(1, PATIENCE_S)
        # The next look, after the usual pause, sees the cluster.
        assert seen.number >= 2 and seen.trouble == ""
    finally:
        watching.stop()


def test_an_unexpected_exception_is_trouble_with_a_traceback_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watching = watch(NOTHING, NOTHING, RuntimeError("odd"), RuntimeError("odd"))
    watching.look()
    good = watching.newer_than(0, 0)

    with caplog.at_level(logging.INFO, logger="plumbline.launcher.watch"):
        watching.look()
        watching.look()
    bad = watching.newer_than(0, 0)
    watching.look()

    assert (good.number, good.trouble) == (1, "")
    assert bad.number == 3
    assert bad.trouble == "the look at the cluster failed: RuntimeError: odd"
    assert (bad.began_at, bad.snapshot) == (good.began_at, good.snapshot), "what was seen last"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None and "odd" in str(record.exc_info[1])
    assert watching.newer_than(0, 0).trouble == ""
