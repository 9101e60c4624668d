"""What the API server's answers become, and how few questions the launcher asks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from plumbline.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    PlumblineError,
    ResourceExhaustedError,
    ServiceUnavailableError,
)
from plumbline.launcher.cluster import Cluster, api_error
from plumbline.launcher.config import LauncherConfig

RBAC = (
    'jobs.batch is forbidden: User "system:serviceaccount:ml:launcher" cannot create resource '
    '"jobs" in API group "batch" in the namespace "ml"'
)
QUOTA = 'jobs.batch "x" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1'
WEBHOOK = 'admission webhook "policy.example.com" denied the request: no team label'


def status(message: str, reason: str = "") -> bytes:
    answer = {"kind": "Status", "status": "Failure", "message": message, "reason": reason}
    return json.dumps(answer).encode()


@pytest.mark.parametrize(
    ("code", "body", "error", "words"),
    [
        (
            403,
            status(RBAC, "Forbidden"),
            PermissionDeniedError,
            "lacks the verb 'create' on 'jobs'",
        ),
        (403, status(QUOTA, "Forbidden"), ResourceExhaustedError, "exceeded quota: jobs"),
        (403, status(WEBHOOK, "Forbidden"), FailedPreconditionError, "no team label"),
        (400, status(WEBHOOK, "BadRequest"), InvalidInputError, "no team label"),
        (404, status('namespaces "ml" not found', "NotFound"), NotFoundError, '"ml" not found'),
        (409, status('jobs.batch "x" already exists', "AlreadyExists"), AlreadyExistsError, "x"),
        (409, status("Operation cannot be fulfilled", "Conflict"), ServiceUnavailableError, "409"),
        (422, status("spec.completions: Invalid value", "Invalid"), InvalidInputError, "Invalid"),
        (401, status("Unauthorized", "Unauthorized"), ServiceUnavailableError, "credential"),
        (429, status("too many requests"), ServiceUnavailableError, "429"),
        (500, status("failed calling webhook"), ServiceUnavailableError, "failed calling webhook"),
        (503, b"<html>no backend</html>", ServiceUnavailableError, "no backend"),
        (502, b"[]", ServiceUnavailableError, "502"),
    ],
)
def test_refusals_become_errors_of_the_tree(
    code: int, body: bytes, error: type[PlumblineError], words: str
) -> None:
    found = api_error(code, body, "POST /jobs")

    assert type(found) is error
    assert words in found.message


class Recorder:
    """A transport that answers lists with nothing, and keeps the requests."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.requests: list[tuple[str, str, Mapping[str, Any] | None]] = []
        self._answers = list(answers)

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        self.requests.append((method, path, body))
        code, answer = self._answers.pop(0) if self._answers else (200, {"items": []})
        return code, json.dumps(answer).encode()


def cluster(transport: Recorder, **config: Any) -> Cluster:
    return Cluster(transport, LauncherConfig(image="i", instance="team", **config), "ml")


def item(job_id: str, attempt: int, name: str) -> dict[str, Any]:
    labels = {"plumbline.dev/job-id": job_id, "plumbline.dev/attempt": str(attempt)}
    return {"metadata": {"name": name, "labels": labels}}


def test_one_list_of_jobs_and_one_of_pods_answer_for_all_attempts() -> None:
    a, b = "a" * 32, "b" * 32
    jobs = [item(a, 1, "x"), item(b, 2, "y")]
    pods = [item(a, 1, "x-0"), item(b, 2, "y-0"), item(b, 2, "y-1")]
    transport = Recorder((200, {"items": jobs}), (200, {"items": pods}))

    found = cluster(transport).snapshot()

    assert [path.partition("?")[0] for _, path, _ in transport.requests] == [
        "/apis/batch/v1/namespaces/ml/jobs",
        "/api/v1/namespaces/ml/pods",
    ]
    # The selector keeps others' objects out, and version 0 asks the server's cache, not etcd.
    for _, path, _ in transport.requests:
        assert "app.kubernetes.io%2Finstance%3Dteam" in path and "resourceVersion=0" in path
    assert set(found.jobs) == {"plumbline-aaaaaaaaaaaa-1", "plumbline-bbbbbbbbbbbb-2"}
    assert len(found.pods["plumbline-bbbbbbbbbbbb-2"]) == 2


def test_deletion_takes_the_pods_along_and_waits_for_them() -> None:
    transport = Recorder((200, {}))

    cluster(transport).delete("plumbline-x-1")

    ((method, path, body),) = transport.requests
    assert (method, path) == ("DELETE", "/apis/batch/v1/namespaces/ml/jobs/plumbline-x-1")
    assert body is not None and body["propagationPolicy"] == "Foreground"


def test_deleting_what_is_gone_is_no_error() -> None:
    transport = Recorder((404, {"message": "not found"}))

    cluster(transport).delete("plumbline-x-1")

    assert [method for method, _, _ in transport.requests] == ["DELETE"]


def test_what_is_gone_is_read_as_none() -> None:
    assert cluster(Recorder((404, {"message": "not found"}))).root("plumbline-x-1") is None


def test_a_job_set_is_created_and_deleted_as_such() -> None:
    transport = Recorder((200, {}))

    cluster(transport, job_set=True).delete("plumbline-x-1")

    assert transport.requests[0][1].startswith("/apis/jobset.x-k8s.io/v1alpha2/")


class Page:
    """A transport that answers everything with one page and status 200, as a proxy may."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        return 200, self._body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Please sign in</html>", "<html>Please sign in</html>"),
        (b"", "answers GET /apis/batch/v1/namespaces/ml/jobs with ''"),
        (b"\xff\xfe{}", "with '\ufffd\ufffd{}'"),
        (b"null", "with 'null'"),
        (b"x" * 5000, "x" * 200 + "'"),
    ],
    ids=["page", "nothing", "no text", "no object", "long"],
)
def test_an_answer_that_is_no_object_is_unavailable_and_shown(body: bytes, words: str) -> None:
    found = Cluster(Page(body), LauncherConfig(image="i"), "ml")

    with pytest.raises(ServiceUnavailableError) as caught:
        found.snapshot()

    assert words in caught.value.message
    assert "accepted: a JSON object" in caught.value.message
    assert len(caught.value.message) < 400


def test_a_log_that_cannot_be_had_says_why() -> None:
    transport = Recorder((400, {"message": 'container "stage" is waiting to start'}))

    assert b"is waiting to start" in cluster(transport).pod_log("x-0", tail_lines=10)
