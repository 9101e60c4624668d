"""`plumbline check` on a running stack, and where none runs."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SERVICES = ("curation", "sampler", "reward", "trainer", "retriever", "evaluation", "pipeline")


def test_every_part_of_a_running_stack_passes(live: Any) -> None:
    found = live.json("check")

    assert found["passed"] is True
    results = {check["check"]: check["result"] for check in found["checks"]}
    assert results == {
        **{f"service {name}": "passed" for name in SERVICES},
        "service openai-front": "passed",
        "store": "passed",
        "queue": "passed",
    }


def test_parts_are_checked_alone_and_again(live: Any) -> None:
    (store,) = live.json("check", "--store")["checks"]
    (queue,) = live.json("check", "--queue")["checks"]

    assert (store["check"], queue["check"]) == ("store", "queue")
    # The second time the job finds its artifact; it still goes through broker and worker.
    assert live.json("check", "--queue")["checks"][0]["why"] != queue["why"]
    assert "service pipeline" in live("check", "--services")


def test_without_a_platform_it_fails_and_says_so(shell: Any) -> None:
    out = shell("check", "--services", "--json", code=1)

    assert json.loads(out.splitlines()[0])["passed"] is False
    assert "no address of any service is known" in out
