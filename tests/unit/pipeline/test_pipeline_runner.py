"""Runs against a real broker and a real store; the test plays the worker."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_stages import STAGES, read_number

from plumbline.core.artifacts import ArtifactStore, open_configured_store
from plumbline.core.broker import connect_broker
from plumbline.core.errors import InvalidInputError, NotFoundError, PlumblineError
from plumbline.core.execution import Execution
from plumbline.core.jobs import Job, JobState, JobStore
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.pipeline.runner import Runner
from plumbline.pipeline.runs import Run, RunStore

TWO_BRANCHES = """\
name: p
params: {start: 1, fail: false}
stages:
  - {name: count, uses: fake.count, with: {start: "${params.start}"}}
  - {name: left, uses: fake.add, inputs: {numbers: count}, with: {label: left}}
  - name: right
    uses: fake.add
    inputs: {numbers: count}
    with: {amount: 5, label: right, fail: "${params.fail}"}
  - name: both
    uses: fake.add
    inputs: {numbers: [left, right]}
    tags: [corpus/sum]
"""


class Platform:
    """A runner, and a worker that runs one job at a time when told to."""

    def __init__(self, url: str, state_dir: Path) -> None:
        self.settings = Settings(state_dir=state_dir, redis_url=url)
        self.store: ArtifactStore = open_configured_store(self.settings)
        self.jobs = JobStore(url)
        self.runs = RunStore(url)
        self.submitted: list[str] = []
        self.executions: list[Execution] = []
        self.runner = Runner(
            runs=self.runs,
            jobs=self.jobs,
            artifacts=self.store,
            stages=STAGES,
            settings=self.settings,
            submit=self._submit,
        )

    def _submit(
        self, stage: str, config: Any, inputs: Any, *, execution: Execution, **options: Any
    ) -> Job:
        self.submitted.append(options["labels"]["stage"])
        self.executions.append(execution)
        spec = {"stage": stage, "config": config, "inputs": inputs}
        return self.jobs.create(spec, queue="evaluation", **options)

    def work(self) -> bool:
        """Run the oldest queued job; False when there is none."""
        queued, _ = self.jobs.list(state=JobState.QUEUED)
        if not queued:
            return False
        job = queued[-1]
        lease = self.jobs.acquire(job.id, "worker", 30.0)
        assert lease is not None
        spec = job.spec
        try:
            artifact, _ = run_stage(
                STAGES[spec["stage"]],
                spec["config"],
                spec["inputs"],
                store=self.store,
                settings=self.settings,
            )
            self.jobs.succeed(lease, artifact.id)
        except PlumblineError as error:
            self.jobs.fail(lease, error.message, error.code)
        return True

    def finish(self, run: Run) -> Run:
        while self.work():
            run = self.runner.advance(run.id)
        return run


@pytest.fixture
def platform(valkey: str, tmp_path: Path) -> Iterator[Platform]:
    url = valkey.rpartition("/")[0] + "/9"
    connect_broker(url).flushdb()
    made = Platform(url, tmp_path)
    yield made
    made.jobs.close()
    made.runs.close()


def states(run: Run) -> dict[str, str]:
    return {stage.name: stage.state.value for stage in run.stages}


def test_a_stage_is_queued_where_its_execution_says(platform: Platform) -> None:
    text = "name: p\nstages: [{name: a, uses: fake.count, execution: {pool: big}}]\n"

    run = platform.runner.create(text, {})

    assert platform.executions == [Execution(pool="big")]
    assert platform.runs.get(run.id).stage("a").execution == Execution(pool="big")
    platform.finish(run)
    # Elsewhere it is the same stage, so its artifact is found.
    again = platform.runner.create(text.replace("big", "small"), {})
    assert again.stage("a").cached


def test_stages_are_queued_when_their_inputs_exist(platform: Platform) -> None:
    run = platform.runner.create(TWO_BRANCHES, {})
    assert states(run) == {
        "count": "QUEUED", "left": "QUEUED", "right": "QUEUED", "both": "QUEUED"
    }  # fmt: skip
    assert platform.submitted == ["count"]
    assert run.stage("both").why == "waiting for left, right"

    platform.work()
    platform.runner.advance(run.id)
    assert platform.submitted == ["count", "left", "right"]

    final = platform.finish(run)
    assert final.state == JobState.SUCCEEDED
    # count 1, left 1 + 1, right 1 + 5, both 2 + 6 + 1
    assert final.metrics == {"total.left": 2.0, "total.right": 6.0, "total.sum": 9.0}
    assert platform.store.resolve("corpus/sum@latest") == final.stage("both").artifact
    assert read_number(platform.store.materialise("corpus/sum@latest")) == "9.0"
    assert platform.runs.active() == []


def test_a_second_run_finds_everything_and_still_has_metrics(platform: Platform) -> None:
    first = platform.finish(platform.runner.create(TWO_BRANCHES, {}))

    second = platform.runner.create(TWO_BRANCHES, {})

    assert second.state == JobState.SUCCEEDED
    assert all(stage.cached and not stage.job_id for stage in second.stages)
    assert second.metrics == first.metrics


def test_a_changed_param_runs_only_what_depends_on_it(platform: Platform) -> None:
    platform.finish(platform.runner.create(TWO_BRANCHES, {}))
    changed = TWO_BRANCHES.replace("amount: 5", "amount: 6")

    plan = platform.runner.plan(changed, {})

    assert [stage.name for stage in plan.stages if stage.cached] == ["count", "left"]
    assert plan.stage("both").why == "will run after right"
    assert plan.id == "" and platform.runner.list_runs()[0][0].pipeline_yaml == TWO_BRANCHES


def test_a_failed_stage_fails_the_run_and_says_why(platform: Platform) -> None:
    final = platform.finish(platform.runner.create(TWO_BRANCHES, {"fail": True}))

    assert final.state == JobState.FAILED
    assert final.why == "stage 'right' failed: told to fail"
    assert states(final) == {
        "count": "SUCCEEDED", "left": "SUCCEEDED", "right": "FAILED", "both": "CANCELLED"
    }  # fmt: skip
    assert final.stage("both").why == "not started: stage 'right' failed"
    with pytest.raises(NotFoundError):
        platform.store.resolve("corpus/sum@latest")


def test_a_job_that_waits_is_cancelled_when_another_stage_failed(platform: Platform) -> None:
    run = platform.runner.create(TWO_BRANCHES, {"fail": True})
    platform.work()
    run = platform.runner.advance(run.id)
    left, right = run.stage("left"), run.stage("right")
    lease = platform.jobs.acquire(right.job_id, "worker", 30.0)
    assert lease is not None
    platform.jobs.fail(lease, "told to fail", "INVALID_ARGUMENT")

    final = platform.runner.advance(platform.runner.advance(run.id).id)

    assert final.state == JobState.FAILED
    assert platform.jobs.get(left.job_id).state == JobState.CANCELLED


def test_cancelling_reaches_the_jobs(platform: Platform) -> None:
    run = platform.runner.create(TWO_BRANCHES, {})

    cancelled = platform.runner.cancel(run.id, "no longer needed")

    assert cancelled.state == JobState.CANCELLED
    assert "no longer needed" in cancelled.why
    assert set(states(cancelled).values()) == {"CANCELLED"}
    assert platform.jobs.get(run.stage("count").job_id).state == JobState.CANCELLED
    assert platform.runner.cancel(run.id, "again") == cancelled


def test_request_id_makes_one_run(platform: Platform) -> None:
    create: Callable[..., Run] = functools.partial(platform.runner.create, request_id="r-1")

    first = create(TWO_BRANCHES, {"start": 1})

    assert create(TWO_BRANCHES, {"start": 1}).id == first.id
    assert len(platform.runner.list_runs()[0]) == 1
    with pytest.raises(InvalidInputError) as caught:
        create(TWO_BRANCHES, {"start": 2})
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_advancing_from_many_threads_makes_each_job_once(platform: Platform) -> None:
    run = platform.runner.create(TWO_BRANCHES, {})
    platform.work()
    threads = [
        threading.Thread(target=platform.runner.advance, args=(run.id,)) for _ in range(8)
    ]  # fmt: skip

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(platform.submitted) == ["count", "left", "right"]


def test_the_sweep_moves_a_run_whose_event_was_lost(platform: Platform) -> None:
    run = platform.runner.create(TWO_BRANCHES, {})
    while platform.work():
        platform.runner.sweep()

    assert platform.runner.get(run.id).state == JobState.SUCCEEDED


def test_outside_inputs_are_pinned_when_the_run_begins(platform: Platform, tmp_path: Path) -> None:
    data = tmp_path / "n.txt"
    data.write_text("40")
    text = (
        "name: p\nparams: {data: {type: path}}\nstages:\n"
        '  - {name: a, uses: fake.add, inputs: {numbers: "${params.data}"}}\n'
    )
    run = platform.runner.create(text, {"data": str(data)})
    data.write_text("1000")

    final = platform.finish(run)

    assert final.metrics == {"total.sum": 41.0}
    assert run.stage("a").inputs["numbers"][0].startswith("artifact:")


def test_an_unknown_artifact_is_refused_before_anything_runs(platform: Platform) -> None:
    text = "name: p\nstages:\n  - {name: a, uses: fake.add, inputs: {numbers: corpus/no@latest}}\n"

    with pytest.raises(NotFoundError, match="stage 'a', input 'numbers'"):
        platform.runner.create(text, {})
    assert platform.runner.list_runs()[0] == []


def test_runs_are_listed_newest_first_in_pages(platform: Platform) -> None:
    made = [platform.runner.create(TWO_BRANCHES, {"start": n}).id for n in range(3)]

    page, token = platform.runner.list_runs(page_size=2)
    rest, end = platform.runner.list_runs(page_size=2, token=token)

    assert [run.id for run in [*page, *rest]] == made[::-1]
    assert end == ""


def test_no_such_run(platform: Platform) -> None:
    with pytest.raises(NotFoundError):
        platform.runner.get("nothing")
