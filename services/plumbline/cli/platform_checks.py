"""Whether an installation works: its services answer, its queue runs a job, its store keeps bytes.

Each check asks through the same doors as every other client (addresses, tokens and TLS files of
the environment), so what passes here works for them too.
"""

from __future__ import annotations

import http.client
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from plumbline.cli.contexts.settings import ContextSettings
from plumbline.core.errors import (
    ConfigError,
    DeadlineExceededError,
    FailedPreconditionError,
    PlumblineError,
    ServiceUnavailableError,
)
from plumbline.core.settings import SERVICES, Settings, read_endpoints

if TYPE_CHECKING:
    from plumbline.v1 import jobs_pb2

QUEUE_STAGE = "curation.synthesize"
"""Takes no inputs and about a second. The same config each time, so that the store gains one small
artifact however often it is run."""
QUEUE_CONFIG = {"documents": 50}
STORE_BYTES = 2**20
FRONT = "openai_front"
_HEALTH_PATH = "/healthz"
_CANCEL_S = 10.0

Result = Literal["passed", "failed", "absent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """What one check found."""

    check: str
    """`service <name>`, `queue` or `store`."""
    result: Result
    """`absent`: this installation has no such part, or its address is not known here."""
    why: str
    duration_s: float


def check_services(settings: Settings, *, timeout_s: float) -> list[CheckOutcome]:
    """Ask every service that has an address for its health, all at once.

    Where none has an address, that is a failure: nothing would have been checked.
    """
    checks = [
        *(_service_check(name, settings, timeout_s) for name in SERVICES),
        _front_check(settings, timeout_s),
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        outcomes = list(pool.map(lambda named: _run(*named), checks))
    if all(outcome.result == "absent" for outcome in outcomes):
        why = (
            "no address of any service is known; set PLUMBLINE_<SERVICE>_TARGET or start the "
            "platform with `plumbline up`"
        )
        return [CheckOutcome(check="services", result="failed", why=why, duration_s=0.0)]
    return outcomes


def check_queue(settings: Settings, *, timeout_s: float) -> CheckOutcome:
    """Send one small job through PipelineService, the broker and a worker."""
    return _run("queue", partial(_pass_through_the_queue, settings, timeout_s))


def check_store(settings: Settings) -> CheckOutcome:
    """Publish an artifact of random bytes, read it back past the cache, and remove it."""
    return _run("store", partial(_pass_through_the_store, settings))


Check = Callable[[], str]
"""Gives what it found in words; "" where there is nothing to check. Raises PlumblineError."""


def _run(name: str, check: Check) -> CheckOutcome:
    started = time.monotonic()
    result: Result = "passed"
    try:
        why = check()
        if not why:
            result, why = "absent", "its address is not known here"
    except PlumblineError as error:
        result, why = "failed", error.message
    duration_s = time.monotonic() - started
    return CheckOutcome(check=name, result=result, why=why, duration_s=duration_s)


def _service_check(name: str, settings: Settings, timeout_s: float) -> tuple[str, Check]:
    return f"service {name}", partial(_ask_for_health, name, settings, timeout_s)


def _ask_for_health(name: str, settings: Settings, timeout_s: float) -> str:
    """Ask under the service's full name: another service at its address would not know that."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from plumbline.core.rpc import SERVICES as ENTRIES
    from plumbline.core.rpc import connect

    target = settings.target(name)
    if target is None:
        return ""
    full_name = ENTRIES[name].full_name
    with closing(connect(name, settings=settings)) as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        request = health_pb2.HealthCheckRequest(service=full_name)
        reply = health.Check(request, timeout=timeout_s, wait_for_ready=True)
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        raise ServiceUnavailableError(f"{target} answers {status}; SERVING is healthy")
    return f"SERVING at {target}"


def _front_check(settings: Settings, timeout_s: float) -> tuple[str, Check]:
    return "service openai-front", partial(_ask_over_http, settings, timeout_s)


def _front_target(settings: Settings) -> str | None:
    found = settings.targets.get(FRONT)
    if found is None and not isinstance(settings, ContextSettings):
        found = read_endpoints(settings.state_dir).get(FRONT)
    return found


def _ask_over_http(settings: Settings, timeout_s: float) -> str:
    target = _front_target(settings)
    if target is None:
        return ""
    trust = _trust(settings)
    try:
        with closing(_front_connection(target, settings, trust, timeout_s)) as connection:
            connection.request("GET", _HEALTH_PATH)
            status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        # ValueError: a name that no host can have.
        raise ServiceUnavailableError(f"{target}{_HEALTH_PATH}: {error}") from error
    if status != http.client.OK:
        raise ServiceUnavailableError(f"{target}{_HEALTH_PATH} answers {status}; 200 is healthy")
    return f"200 at {target}"


def _trust(settings: Settings) -> ssl.SSLContext | None:
    """Whom to trust; None for plaintext, where clients of the services use that too."""
    if settings.tls_ca is None and settings.tls_cert is None:
        return None
    try:
        return ssl.create_default_context(cafile=settings.tls_ca)
    except OSError as error:
        raise ConfigError(f"cannot read the TLS file {settings.tls_ca}: {error}") from error


def _front_connection(
    target: str, settings: Settings, trust: ssl.SSLContext | None, timeout_s: float
) -> http.client.HTTPConnection:
    if trust is None:
        return http.client.HTTPConnection(target, timeout=timeout_s)
    connection = http.client.HTTPSConnection(target, timeout=timeout_s, context=trust)
    # Connected here: the client itself would expect no other name than the address's.
    name = settings.server_name("openai-front") or connection.host
    plain = socket.create_connection((connection.host, connection.port), timeout_s)
    connection.sock = trust.wrap_socket(plain, server_hostname=name)
    return connection


def _pass_through_the_queue(settings: Settings, timeout_s: float) -> str:
    from plumbline.core.rpc import connect
    from plumbline.core.telemetry import new_request_id
    from plumbline.v1 import jobs_pb2

    spec = jobs_pb2.StageSpec(stage=QUEUE_STAGE)
    spec.config.update(QUEUE_CONFIG)
    request = jobs_pb2.CreateJobRequest(
        request_id=f"check-{new_request_id()}", spec=spec, labels={"purpose": "check"}
    )
    deadline = time.monotonic() + timeout_s
    with closing(connect("jobs", settings=settings, timeout_s=timeout_s)) as client:
        job = _followed(client, client.CreateJob(request).job, deadline)
        if job.state == jobs_pb2.JOB_STATE_SUCCEEDED:
            return f"job {job.id} SUCCEEDED on attempt {job.attempts}"
        if job.state in (jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED):
            raise FailedPreconditionError(f"job {job.id} ended without a result: {job.why}")
        # Left alone it would run when nobody waits for it any more.
        cancel = jobs_pb2.CancelJobRequest(job_id=job.id, reason="the check's time is over")
        client.CancelJob(cancel, timeout=_CANCEL_S)
    state = jobs_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
    raise DeadlineExceededError(
        f"job {job.id} was {state} after {timeout_s:g} s: {job.why}; check that a worker serves "
        f"the queue {QUEUE_STAGE.partition('.')[0]!r}"
    )


def _followed(client: Any, job: jobs_pb2.Job, deadline: float) -> jobs_pb2.Job:
    """The job as it was when it ended, or when the time was over."""
    from plumbline.v1 import jobs_pb2

    last = job
    watch = jobs_pb2.WatchJobRequest(job_id=job.id)
    try:
        for message in client.WatchJob(watch, timeout=max(0.0, deadline - time.monotonic())):
            last = message.job
    except DeadlineExceededError:
        return last
    return last


def _pass_through_the_store(settings: Settings) -> str:
    from plumbline.core.artifacts import Lineage, open_configured_store

    store = open_configured_store(settings)
    content = {"check.bin": secrets.token_bytes(STORE_BYTES)}
    artifact = store.put("report", content, lineage=Lineage(stage="check"))
    try:
        store.verify(artifact.id)
    finally:
        store.delete(artifact.id)
    return f"{STORE_BYTES} bytes written, read back and removed in {store.url}"
