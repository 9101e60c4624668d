"""PipelineService over real gRPC, on a real broker and store, without a worker."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.catalogue import STAGES
from plumbline.core.broker import connect_broker
from plumbline.core.errors import ConfigError, InvalidInputError, NotFoundError
from plumbline.core.jobs import JobStore
from plumbline.core.queue import create_app
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.pipeline.service import PipelineService
from plumbline.pipeline.tasks import open_runner
from plumbline.v1 import jobs_pb2, pipeline_pb2, pipeline_pb2_grpc

PIPELINE = """\
name: small
params: {seed: 1}
stages:
  - {name: world, uses: curation.synthesize, with: {seed: "${params.seed}", documents: 100}}
  - {name: curated, uses: curation.curate, inputs: {corpus: world}}
"""


@pytest.fixture
def client(valkey: str, tmp_path: Path) -> Iterator[Any]:
    url = valkey.rpartition("/")[0] + "/10"
    connect_broker(url).flushdb()
    settings = Settings(state_dir=tmp_path, redis_url=url)
    jobs = JobStore(url)
    runner = open_runner(settings, STAGES, jobs, create_app(settings, STAGES))

    def register(server: grpc.aio.Server) -> list[str]:
        pipeline_pb2_grpc.add_PipelineServiceServicer_to_server(PipelineService(runner), server)
        return ["plumbline.v1.PipelineService"]

    with (
        serve_in_thread("pipeline", register, settings=settings) as address,
        connect("pipeline", target=address, settings=settings) as stub,
    ):
        yield stub
    jobs.close()


def request(
    request_id: str = "", *, seed: float | None = None, **fields: Any
) -> pipeline_pb2.CreateRunRequest:
    fields.setdefault("pipeline_yaml", PIPELINE)
    made = pipeline_pb2.CreateRunRequest(request_id=request_id, **fields)
    if seed is not None:
        made.params.update({"seed": seed})
    return made


def test_create_get_list(client: Any) -> None:
    created = client.CreateRun(request("a", seed=5)).run

    got = client.GetRun(pipeline_pb2.GetRunRequest(run_id=created.id)).run
    listed = client.ListRuns(pipeline_pb2.ListRunsRequest())

    assert got.id == created.id
    assert [run.id for run in listed.runs] == [created.id]
    assert listed.next_page_token == ""
    assert [stage.name for stage in got.stages] == ["world", "curated"]
    assert list(got.stages[1].depends_on) == ["world"]
    assert got.stages[0].job_id and got.stages[0].why
    assert got.stages[1].why == "waiting for world"
    assert got.create_time.seconds > 0


def test_plan_only_starts_nothing(client: Any) -> None:
    planned = client.CreateRun(request(plan_only=True)).run

    assert planned.id == ""
    assert [stage.cached for stage in planned.stages] == [False, False]
    assert not client.ListRuns(pipeline_pb2.ListRunsRequest()).runs


def test_request_id_is_idempotent(client: Any) -> None:
    first = client.CreateRun(request("same")).run

    assert client.CreateRun(request("same")).run.id == first.id
    with pytest.raises(InvalidInputError, match="was used for another pipeline"):
        client.CreateRun(request("same", seed=9))


def test_watch_sends_the_run_now_and_ends_with_it(client: Any) -> None:
    run_id = client.CreateRun(request("w")).run.id
    watch = client.WatchRun(pipeline_pb2.WatchRunRequest(run_id=run_id), timeout=20)

    first = next(iter(watch)).run
    client.CancelRun(pipeline_pb2.CancelRunRequest(run_id=run_id, reason="enough"))
    *_, last = watch

    assert first.state in (jobs_pb2.JOB_STATE_QUEUED, jobs_pb2.JOB_STATE_RUNNING)
    assert last.run.state == jobs_pb2.JOB_STATE_CANCELLED
    assert "enough" in last.run.why


def test_a_wrong_pipeline_is_refused_with_its_line(client: Any) -> None:
    with pytest.raises(ConfigError, match="pipeline:2: unknown key 'stagez'") as caught:
        client.CreateRun(request(pipeline_yaml="name: a\nstagez: []\n"))

    assert caught.value.metadata["line"] == "2"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_pipeline_is_refused(client: Any, text: str) -> None:
    with pytest.raises(InvalidInputError, match="pipeline_yaml is empty"):
        client.CreateRun(request(pipeline_yaml=text))


def test_whole_numbers_stay_whole(client: Any) -> None:
    with pytest.raises(ConfigError, match=r"1\.5"):
        client.CreateRun(request(seed=1.5))
    assert client.CreateRun(request(seed=2.0)).run.id


def test_no_such_run(client: Any) -> None:
    calls = (
        functools.partial(client.GetRun, pipeline_pb2.GetRunRequest(run_id="none")),
        functools.partial(client.CancelRun, pipeline_pb2.CancelRunRequest(run_id="none")),
        lambda: list(client.WatchRun(pipeline_pb2.WatchRunRequest(run_id="none"))),
    )
    for call in calls:
        with pytest.raises(NotFoundError, match="no run 'none'"):
            call()


def test_a_negative_page_size_is_refused(client: Any) -> None:
    with pytest.raises(InvalidInputError, match="page_size=-1"):
        client.ListRuns(pipeline_pb2.ListRunsRequest(page_size=-1))
