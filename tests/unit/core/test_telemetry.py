"""JSON logs, the metrics endpoint, and trace context over gRPC and Celery."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from plumbline.core import telemetry
from plumbline.core.errors import ConfigError
from plumbline.core.telemetry import bind_log_context


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure_logging("reward", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_record_is_one_json_line_with_the_bound_ids(log: io.StringIO) -> None:
    logger = logging.getLogger("plumbline.test")
    with bind_log_context(request_id="r-1"), bind_log_context(job_id="j-2", request_id=None):
        logger.warning("line one\nline %s 值", "two", extra={"fields": {"step": 3}})
    logger.info("after")
    first, second = entries(log)
    assert first.pop("ts").endswith("+00:00")
    assert first == {
        "level": "WARNING",
        "logger": "plumbline.test",
        "message": "line one\nline two 值",
        "service": "reward",
        "request_id": "r-1",
        "job_id": "j-2",
        "step": 3,
    }
    assert "request_id" not in second


def test_exception_keeps_its_traceback(log: io.StringIO) -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("plumbline.test").exception("failed")
    (entry,) = entries(log)
    assert entry["exception"].endswith("ValueError: bad")


def test_metrics_are_served_over_http() -> None:
    port = telemetry.start_metrics_server("127.0.0.1:0")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        assert b"python_info" in response.read()
    with pytest.raises(ConfigError, match="free address"):
        telemetry.start_metrics_server(f"127.0.0.1:{port}")


@pytest.mark.parametrize("listen", ["9090", "localhost", "localhost:http", ":9090", "h:99999"])
def test_malformed_metrics_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError) as caught:
        telemetry.start_metrics_server(listen)
    assert caught.value.field == "metrics_listen"


def test_tracing_off_imports_no_sdk_and_adds_no_header() -> None:
    program = """
import sys
from plumbline.core import telemetry
with telemetry.span("x"), telemetry.bind_log_context(request_id="r"):
    assert telemetry.outgoing_headers() == {"x-request-id": "r"}
assert not any(name.startswith("opentelemetry") for name in sys.modules)
assert "prometheus_client" not in sys.modules and "grpc" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


TRACES = """
import json
from celery import Celery
from celery.contrib.testing.worker import start_worker
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import plumbline
from plumbline.core import telemetry
from plumbline.core.rpc import serve_in_thread
from plumbline.v1 import reward_pb2, reward_pb2_grpc

exporter = InMemorySpanExporter()
telemetry.configure_tracing("test", "http://127.0.0.1:1", exporter=exporter)
telemetry.instrument_celery()
telemetry.instrument_celery()
app = Celery("test", broker="memory://", backend="cache+memory://")
app.conf.worker_hijack_root_logger = False
seen = []

@app.task(name="work")
def work():
    seen.append(telemetry.current_request_id())

class Reward(reward_pb2_grpc.RewardServiceServicer):
    async def ScoreResponses(self, request, context):
        work.delay()
        return reward_pb2.ScoreResponsesResponse()

def register(server):
    reward_pb2_grpc.add_RewardServiceServicer_to_server(Reward(), server)
    return ["plumbline.v1.RewardService"]

with serve_in_thread("reward", register) as address, start_worker(app, perform_ping_check=False):
    with plumbline.connect("reward", target=address) as reward:
        with telemetry.bind_log_context(request_id="r-9"), telemetry.span("root"):
            reward.ScoreResponses(reward_pb2.ScoreResponsesRequest())
    import time
    deadline = time.monotonic() + 15
    while len(exporter.get_finished_spans()) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)

spans = exporter.get_finished_spans()
names = {span.context.span_id: span.name for span in spans}
chain = sorted(
    (span.name, span.kind.name, names.get(span.parent.span_id) if span.parent else None)
    for span in spans
)
print(json.dumps({"chain": chain, "traces": len({s.context.trace_id for s in spans}),
                  "request_ids": seen}))
"""


def test_one_trace_runs_from_client_over_server_to_task() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the opentelemetry SDK is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TRACES], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    method = "plumbline.v1.RewardService/ScoreResponses"
    assert found["chain"] == [
        [method, "CLIENT", "root"],
        [method, "SERVER", method],
        ["root", "INTERNAL", None],
        ["work", "CONSUMER", method],
    ]
    assert found["traces"] == 1
    assert found["request_ids"] == ["r-9"]


REDELIVERY = """
import gc, threading
from types import SimpleNamespace
from celery import signals
from plumbline.core import telemetry

telemetry.instrument_celery()
both_run, first_ended = threading.Barrier(2), threading.Event()

def run(name, wait):
    task = SimpleNamespace(
        name="run_job", request=SimpleNamespace(headers={telemetry.REQUEST_ID_KEY: name})
    )
    signals.task_prerun.send(sender="run_job", task_id="same", task=task)
    both_run.wait(10)
    wait()
    signals.task_postrun.send(sender="run_job", task_id="same", task=task)
    gc.collect()
    assert telemetry.current_request_id() is None, name

again = threading.Thread(target=run, args=["again", first_ended.wait])
again.start()
run("first", lambda: None)
first_ended.set()
again.join()
"""


def test_a_message_that_is_delivered_again_is_left_in_its_own_thread() -> None:
    """A launcher follows a job for hours, and the broker delivers its message twice a minute."""
    ran = subprocess.run(
        [sys.executable, "-c", REDELIVERY], capture_output=True, text=True, timeout=60
    )

    assert (ran.returncode, ran.stderr) == (0, "")
