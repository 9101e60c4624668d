"""A script of another team that has Celery and the broker's address, and nothing of this project.

It is run in an interpreter of its own with one JSON argument: broker, config, inputs.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.abc import MetaPathFinder
from typing import Any

ANSWER_S = 120.0
PATIENCE_S = 500.0


class Refusal(MetaPathFinder):
    """As if the project were not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "plumbline":
            raise ModuleNotFoundError(f"No module named {name!r}")


def main(given: dict[str, Any]) -> None:
    """Submit one job twice and poll it until it ends; prints its record."""
    from celery import Celery

    app = Celery(broker=given["broker"], backend=given["broker"])
    request = {
        "kind": "trainer.sft",
        "spec": {"config": given["config"], "inputs": given["inputs"]},
        "request_id": "outside-sft",
    }
    job_id = app.send_task("plumbline.submit", kwargs=request).get(timeout=ANSWER_S)
    again = app.send_task("plumbline.submit", kwargs=request).get(timeout=ANSWER_S)
    until = time.monotonic() + PATIENCE_S
    while True:
        job = app.send_task("plumbline.job_status", args=[job_id]).get(timeout=ANSWER_S)
        if job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") or time.monotonic() > until:
            break
        time.sleep(0.5)
    print(json.dumps({"job_id": job_id, "again": again, "job": job}))


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusal())
    main(json.loads(sys.argv[1]))
