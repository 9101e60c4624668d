"""Every reason that Kubernetes gives, in words: a table of objects as control planes write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from plumbline.core.stage_outcome import Outcome, Verdict
from plumbline.launcher.config import Patience
from plumbline.launcher.standing import Phase, Standing, standing

Json = dict[str, Any]

NAME = "plumbline-0123456789ab-1"
T0 = "2026-11-21T10:00:00Z"
T1 = "2026-11-21T10:00:05Z"
T240 = "2026-11-21T10:04:00Z"
T960 = "2026-11-21T10:16:00Z"
T0_S = 1_795_255_200.0
"""T0 as Unix seconds."""

SUCCESS = Outcome(verdict=Verdict.SUCCEEDED, why="Made by attempt 1", artifact="a" * 64)
REFUSAL = Outcome(verdict=Verdict.FAILED, why="steps=-1; accepted: 1", code="INVALID_ARGUMENT")
CRASH = Outcome(verdict=Verdict.CRASHED, why="RuntimeError: gloo lost a peer", code="INTERNAL")
AWAY = Outcome(verdict=Verdict.UNAVAILABLE, why="the store is away", code="UNAVAILABLE")
STOPPED = Outcome(verdict=Verdict.CANCELLED, why="the worker stopped this attempt")
STARTABLE = {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": T1}
RANKS_STOPPED = Outcome(verdict=Verdict.STOPPED, why="the ranks were told to end", code="INTERNAL")


def job(*conditions: Json, completions: int = 1, **metadata: Any) -> Json:
    return {
        "metadata": {"name": NAME, "labels": {}, **metadata},
        "spec": {"completions": completions, "parallelism": completions},
        "status": {
            "conditions": [
                {"status": "True", "lastTransitionTime": T0, **condition}
                for condition in conditions
            ]
        },
    }


def failed(
    reason: str = "BackoffLimitExceeded",
    message: str = "Job has reached the specified backoff limit",
    **options: Any,
) -> Json:
    return job({"type": "Failed", "reason": reason, "message": message}, **options)


def pod(
    phase: str = "Running",
    *,
    index: int = 0,
    state: Json | None = None,
    conditions: Sequence[Json] = (),
    node: str | None = "gpu-1",
    spec: Json | None = None,
    metadata: Json | None = None,
    **status: Any,
) -> Json:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": T0}
    return {
        "metadata": {
            "name": f"{NAME}-{index}-x7k2p",
            "creationTimestamp": T0,
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            **(metadata or {}),
        },
        "spec": {
            "containers": [{"name": "stage", "resources": {"limits": {"memory": "16Gi"}}}],
            **({"nodeName": node} if node else {}),
            **(spec or {}),
        },
        "status": {
            "phase": phase,
            "startTime": T0,
            "conditions": [*([scheduled] if node else []), *conditions],
            "containerStatuses": [
                {"name": "stage", "image": "registry/plumbline-worker:1", "state": state or {}}
            ],
            **status,
        },
    }


def unscheduled(reason: str, message: str = "", **options: Any) -> Json:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": T0,
    }
    return pod("Pending", node=None, conditions=[condition], **options)


def waiting(reason: str, message: str = "", **options: Any) -> Json:
    return pod("Pending", state={"waiting": {"reason": reason, "message": message}}, **options)


def ended(
    status: int,
    reason: str = "Error",
    *,
    words: Outcome | None = None,
    at: str = T1,
    **options: Any,
) -> Json:
    message = {"message": words.model_dump_json()} if words else {}
    terminated = {"exitCode": status, "reason": reason, "finishedAt": at, **message}
    phase = "Succeeded" if status == 0 else "Failed"
    return pod(phase, state={"terminated": terminated}, **options)


def disrupted(reason: str, message: str, phase: str = "Failed", **options: Any) -> Json:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    return pod(phase, conditions=[condition], **options)


def event(kind: str, name: str, reason: str, message: str, at: str = T1) -> Json:
    return {
        "metadata": {"creationTimestamp": at},
        "involvedObject": {"kind": kind, "name": name},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
    }


def stand(
    item: Json | None,
    pods: Sequence[Json] = (),
    events: Sequence[Json] = (),
    *,
    after_s: float = 10.0,
    patience: Patience | None = None,
) -> Standing:
    return standing(
        item, pods, events, name=NAME, now=T0_S + after_s, patience=patience or Patience()
    )


@dataclass(frozen=True)
class Case:
    """Objects, and what they mean."""

    says: tuple[str, ...]
    """Words that the reason holds."""
    phase: Phase = Phase.PENDING
    verdict: Verdict | None = None
    code: str = ""
    job: Json | None = field(default_factory=job)
    pods: Sequence[Json] = ()
    events: Sequence[Json] = ()
    after_s: float = 10.0


POD = f"{NAME}-0-x7k2p"
FULL = (
    "0/4 nodes are available: 2 Insufficient nvidia.com/gpu, 2 node(s) didn't match Pod's node "
    "affinity/selector. preemption: 0/4 nodes are available: 4 No preemption victims found."
)
QUOTA = 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8'
PSS = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'

CASES: Mapping[str, Case] = {
    "not created yet": Case(job=None, says=("waits to be created",)),
    "created, no pods yet": Case(says=("creates the pods of Job",)),
    "suspended by Kueue": Case(
        job=job(
            {"type": "Suspended", "reason": "JobSuspended", "message": "Job suspended"},
            labels={"kueue.x-k8s.io/queue-name": "team-a"},
        ),
        says=("is suspended", "Kueue's queue team-a"),
    ),
    "quota": Case(
        events=[event("Job", NAME, "FailedCreate", f"Error creating: {QUOTA}")],
        says=("FailedCreate", "exceeded quota: gpus"),
    ),
    "admission": Case(
        events=[event("Job", NAME, "FailedCreate", f"Error creating: {PSS}")],
        says=("violates PodSecurity",),
        phase=Phase.FAILED,
        verdict=Verdict.FAILED,
        code="FAILED_PRECONDITION",
    ),
    "not seen by a scheduler": Case(
        pods=[pod("Pending", node=None, spec={"schedulerName": "volcano"})],
        says=("waits for the scheduler (volcano)",),
    ),
    "unschedulable": Case(
        pods=[unscheduled("Unschedulable", FULL)],
        says=(f"Pod {POD} waits for a machine", "Insufficient nvidia.com/gpu"),
        after_s=1e6,
    ),
    "scheduling gate": Case(
        pods=[
            unscheduled(
                "SchedulingGated",
                "Scheduling is blocked due to non-empty scheduling gates",
                spec={"schedulingGates": [{"name": "kueue.x-k8s.io/topology"}]},
            )
        ],
        says=("scheduling gates kueue.x-k8s.io/topology",),
    ),
    "being started": Case(
        pods=[waiting("ContainerCreating")], says=(f"Pod {POD} is being started on gpu-1",)
    ),
    "volume missing": Case(
        pods=[waiting("ContainerCreating")],
        events=[
            event("Pod", POD, "FailedScheduling", FULL, at=T0),
            event("Pod", POD, "FailedMount", 'MountVolume.SetUp failed: secret "tls" not found'),
        ],
        says=("(FailedMount)", 'secret "tls" not found'),
    ),
    "volume missing for too long": Case(
        pods=[waiting("ContainerCreating")],
        events=[event("Pod", POD, "FailedMount", 'secret "tls" not found', at=T240)],
        says=('secret "tls" not found', "given up after 301 s"),
        after_s=301,
        phase=Phase.FAILED,
        verdict=Verdict.FAILED,
        code="FAILED_PRECONDITION",
    ),
    "volume mounted after all, image being pulled": Case(
        pods=[waiting("ContainerCreating", conditions=[STARTABLE])],
        events=[event("Pod", POD, "FailedMount", 'secret "tls" not found', at=T240)],
        says=(f"Pod {POD} is being started on gpu-1",),
        after_s=301,
    ),
    "sandbox refused once, image being pulled": Case(
        # The machine's kubelet is too old to tell that the sandbox is there.
        pods=[waiting("ContainerCreating")],
        events=[event("Pod", POD, "FailedCreatePodSandBox", "no IP addresses available")],
        says=(f"Pod {POD} is being started on gpu-1",),
        after_s=301,
    ),
    "sandbox": Case(
        pods=[waiting("ContainerCreating")],
        events=[event("Pod", POD, "FailedCreatePodSandBox", "no IP addresses available")],
        says=("no IP addresses available",),
    ),
    "image cannot be pulled": Case(
        pods=[waiting("ImagePullBackOff", "Back-off pulling image: 403 Forbidden")],
        says=("registry/plumbline-worker:1", "ImagePullBackOff", "403 Forbidden"),
    ),
    "image cannot be pulled for too long": Case(
        pods=[waiting("ErrImagePull", "not found")],
        says=("ErrImagePull", "given up after 901 s"),
        after_s=901,
        phase=Phase.FAILED,
        verdict=Verdict.FAILED,
        code="FAILED_PRECONDITION",
    ),
    "image name": Case(
        pods=[waiting("InvalidImageName", "couldn't parse image name: invalid reference format")],
        says=("is no name of an image", "invalid reference format"),
        phase=Phase.FAILED,
        verdict=Verdict.FAILED,
        code="INVALID_ARGUMENT",
    ),
    "secret of a variable missing": Case(
        pods=[waiting("CreateContainerConfigError", 'secret "redis" not found')],
        says=("CreateContainerConfigError", 'secret "redis" not found'),
    ),
    "unknown reason": Case(
        pods=[waiting("SomethingNew", "of a later version")],
        says=("SomethingNew", "of a later version"),
    ),
    "one of four waits": Case(
        job=job(completions=4),
        pods=[pod(index=i) for i in range(3)] + [unscheduled("Unschedulable", FULL, index=3)],
        says=("3 of 4 pods run; ", "Insufficient nvidia.com/gpu"),
    ),
    "trouble is told before delay": Case(
        job=job(completions=2),
        pods=[waiting("ContainerCreating"), unscheduled("Unschedulable", FULL, index=1)],
        says=("0 of 2 pods run; ", "Insufficient"),
    ),
    "running": Case(
        job=job(completions=2),
        pods=[pod(index=0, node="a"), pod(index=1, node="b")],
        says=("2 of 2 pods run on a, b",),
        phase=Phase.RUNNING,
    ),
    "machine silent": Case(
        pods=[
            pod(
                state={"running": {"startedAt": T0}},
                conditions=[{"type": "Ready", "status": "False", "reason": "NodeNotReady"}],
            )
        ],
        says=("NodeNotReady", "gpu-1 may be lost"),
        phase=Phase.RUNNING,
    ),
    "about to be evicted": Case(
        pods=[disrupted("EvictionByEvictionAPI", "Eviction API: evicting", phase="Running")],
        says=("was evicted (EvictionByEvictionAPI)",),
        phase=Phase.RUNNING,
    ),
    "others are being ended": Case(
        job=job({"type": "FailureTarget", "reason": "BackoffLimitExceeded"}, completions=2),
        pods=[ended(1), pod(index=1)],
        says=(f"pod {POD} failed, and the others are being ended",),
    ),
    "succeeded": Case(
        job=job({"type": "Complete"}),
        pods=[ended(0, "Completed", words=SUCCESS)],
        says=("Made by attempt 1",),
        phase=Phase.SUCCEEDED,
        verdict=Verdict.SUCCEEDED,
    ),
    "completed without a word": Case(
        job=job({"type": "Complete"}),
        pods=[ended(0, "Completed")],
        says=("left no outcome",),
        phase=Phase.SUCCEEDED,
        verdict=Verdict.CRASHED,
        code="INTERNAL",
    ),
    "refused by the stage": Case(
        job=failed(),
        pods=[ended(1, words=REFUSAL)],
        says=("steps=-1; accepted: 1",),
        phase=Phase.FAILED,
        verdict=Verdict.FAILED,
        code="INVALID_ARGUMENT",
    ),
    "a service was away": Case(
        job=failed(),
        pods=[ended(1, words=AWAY)],
        says=("the store is away",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "out of memory": Case(
        job=failed(),
        pods=[ended(137, "OOMKilled")],
        says=(f"Pod {POD} ran out of memory (OOMKilled); its limit is 16Gi",),
        phase=Phase.FAILED,
        verdict=Verdict.CRASHED,
        code="RESOURCE_EXHAUSTED",
    ),
    "exit 1": Case(
        job=failed(),
        pods=[ended(1)],
        says=("exited with status 1: see the job's log",),
        phase=Phase.FAILED,
        verdict=Verdict.CRASHED,
        code="INTERNAL",
    ),
    "exit 137": Case(
        job=failed(),
        pods=[ended(137)],
        says=("SIGKILL", "want of memory"),
        phase=Phase.FAILED,
        verdict=Verdict.CRASHED,
        code="INTERNAL",
    ),
    "exit 143": Case(
        job=failed(),
        pods=[ended(143)],
        says=("SIGTERM",),
        phase=Phase.FAILED,
        verdict=Verdict.CRASHED,
        code="INTERNAL",
    ),
    "exit 139": Case(
        job=failed(),
        pods=[ended(139)],
        says=("ended by signal 11",),
        phase=Phase.FAILED,
        verdict=Verdict.CRASHED,
        code="INTERNAL",
    ),
    "evicted for disk": Case(
        job=failed(),
        pods=[pod("Failed", reason="Evicted", message="The node was low on resource: memory.")],
        says=("was evicted by its machine (Evicted)", "low on resource: memory"),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "preempted": Case(
        job=failed("PodFailurePolicy"),
        pods=[disrupted("PreemptionByScheduler", "default-scheduler: preempting")],
        says=("made room for pods of higher priority",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "machine lost, pods collected": Case(
        job=failed("PodFailurePolicy", "Pod x has condition DisruptionTarget"),
        says=("PodFailurePolicy", "DisruptionTarget"),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "machine tainted": Case(
        job=failed("PodFailurePolicy"),
        pods=[disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute")],
        says=("stopped answering or was closed", "Taint manager"),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "machine shut down": Case(
        job=failed(),
        pods=[pod("Failed", reason="Terminated", message="imminent node shutdown")],
        says=("machine shut down",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "no room after all": Case(
        job=failed(),
        pods=[pod("Failed", reason="OutOfnvidia.com/gpu", message="Node didn't have enough")],
        says=("found no room",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "phase unknown": Case(
        pods=[pod("Unknown", reason="NodeLost")],
        says=("gpu-1 does not answer",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "deleted pod that its machine never ends": Case(
        pods=[pod(metadata={"deletionTimestamp": T0})],
        after_s=31,
        says=("gpu-1 does not answer",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "failure held up by a lost machine": Case(
        job=job({"type": "FailureTarget", "reason": "PodFailurePolicy"}, completions=2),
        pods=[
            disrupted("DeletionByTaintManager", "deleting", index=0),
            pod(index=1, metadata={"deletionTimestamp": T0}),
        ],
        after_s=31,
        says=("DeletionByTaintManager",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "deadline of a policy": Case(
        job=failed("DeadlineExceeded", "Job was active longer than specified deadline"),
        says=("active longer than specified deadline",),
        phase=Phase.FAILED,
        verdict=Verdict.CRASHED,
        code="DEADLINE_EXCEEDED",
    ),
    "pods deleted by somebody": Case(
        job=failed(),
        says=("BackoffLimitExceeded", "ended from outside"),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "a rank of a pod killed": Case(
        job=failed(),
        pods=[ended(1, words=RANKS_STOPPED)],
        says=(f"Pod {NAME}-0-x7k2p: the ranks were told to end",),
        phase=Phase.FAILED,
        verdict=Verdict.CRASHED,
        code="INTERNAL",
    ),
    "a pod of several ranks deleted": Case(
        job=failed(),
        pods=[ended(1, words=RANKS_STOPPED, metadata={"deletionTimestamp": T0})],
        says=("BackoffLimitExceeded", "ended from outside"),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
    "job deleted by somebody": Case(
        job=job(deletionTimestamp=T0),
        says=("deleted by somebody",),
        phase=Phase.FAILED,
        verdict=Verdict.UNAVAILABLE,
        code="UNAVAILABLE",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_kubernetes_says_becomes_words_and_a_verdict(case: Case) -> None:
    found = stand(case.job, case.pods, case.events, after_s=case.after_s)

    assert (found.phase, found.verdict) == (case.phase, case.verdict), found.why
    for words in case.says:
        assert words in found.why
    if found.ended:
        outcome = found.outcome()
        assert (outcome.verdict, outcome.code, outcome.why) == (
            case.verdict,
            case.code,
            found.why,
        )


def test_the_programs_own_words_are_the_outcome() -> None:
    found = stand(job({"type": "Complete"}), [ended(0, "Completed", words=SUCCESS)])

    assert found.outcome() == SUCCESS


def test_success_stands_though_another_pod_failed_afterwards() -> None:
    pods = [ended(0, "Completed", words=SUCCESS), ended(1, index=1)]

    assert stand(failed(completions=2), pods).outcome() == SUCCESS


def test_success_stands_though_another_pods_machine_was_lost_afterwards() -> None:
    pods = [
        ended(0, "Completed", words=SUCCESS),
        pod(index=1, metadata={"deletionTimestamp": T0}),
    ]

    assert stand(job(completions=2), pods, after_s=31).outcome() == SUCCESS


CAUSES: Mapping[str, tuple[str, Sequence[Json]]] = {
    "a machine's loss before what peers say": (
        "higher priority",
        [ended(1, words=CRASH), disrupted("PreemptionByScheduler", "preempting", index=1)],
    ),
    "memory before what peers say": (
        "OOMKilled",
        [ended(1, words=CRASH), ended(137, "OOMKilled", index=1)],
    ),
    "a refusal before all": (
        "steps=-1",
        [disrupted("PreemptionByScheduler", "preempting"), ended(1, words=REFUSAL, index=1)],
    ),
    "the first crash before later ones": (
        "gloo lost a peer",
        [
            ended(1, at="2026-11-21T10:00:09Z"),
            ended(1, words=CRASH, index=1, at="2026-11-21T10:00:01Z"),
        ],
    ),
    "a crash before pods that were only stopped": (
        "gloo lost a peer",
        [ended(1, words=STOPPED, at=T0), ended(1, words=CRASH, index=1)],
    ),
    "a crash before ranks that were told to end": (
        "gloo lost a peer",
        [ended(1, words=RANKS_STOPPED, at=T0), ended(1, words=CRASH, index=1)],
    ),
    "memory before ranks that were told to end": (
        "OOMKilled",
        [ended(137, "OOMKilled", words=RANKS_STOPPED)],
    ),
}


@pytest.mark.parametrize(("cause", "pods"), CAUSES.values(), ids=list(CAUSES))
@pytest.mark.parametrize("turn", [1, -1])
def test_of_several_failures_the_cause_is_told(cause: str, pods: Sequence[Json], turn: int) -> None:
    assert cause in stand(failed(completions=2), pods[::turn]).why


def test_an_unschedulable_job_is_given_up_only_where_that_is_configured() -> None:
    pods = [unscheduled("Unschedulable", FULL)]

    assert not stand(job(), pods, after_s=3600).ended
    given_up = stand(job(), pods, after_s=3600, patience=Patience(unschedulable_s=1800))
    assert given_up.verdict is Verdict.FAILED
    assert given_up.code == "RESOURCE_EXHAUSTED"
    assert "Insufficient nvidia.com/gpu" in given_up.why


def since(event: Json, first: str, field: str = "spec.containers{stage}") -> Json:
    """An event that came first at one time and last at its own, about one container."""
    about = {**event["involvedObject"], "fieldPath": field}
    return {**event, "involvedObject": about, "firstTimestamp": first}


@pytest.mark.parametrize(
    "last",
    [
        {"lastTimestamp": T240},
        {"lastTimestamp": None, "eventTime": "2026-11-21T10:04:00.000000Z"},
        {
            "lastTimestamp": None,
            "eventTime": "2026-11-21T10:00:05.000000Z",
            "series": {"count": 9, "lastObservedTime": "2026-11-21T10:04:00.000000Z"},
        },
    ],
    ids=["lastTimestamp", "eventTime", "series"],
)
def test_a_warning_holds_for_three_minutes_after_its_last_time(last: Json) -> None:
    warning = {**event("Pod", POD, "FailedMount", 'secret "tls" not found'), **last}
    pods, forever = [waiting("ContainerCreating")], Patience(creation_s=0)

    # It was last seen 240 s after the pod's start.
    assert "(FailedMount)" in stand(job(), pods, [warning], after_s=419, patience=forever).why
    found = stand(job(), pods, [warning], after_s=421, patience=forever)
    assert found.why == f"Pod {POD} is being started on gpu-1"


def test_the_patience_with_an_image_begins_when_its_pull_failed() -> None:
    pods = [waiting("ErrImagePull", "unexpected EOF")]
    pull = 'Failed to pull image "registry/plumbline-worker:1": unexpected EOF'
    events = [
        # One pull took 960 s and failed; it fails again and again.
        since(event("Pod", POD, "Failed", "Error: ErrImagePull", at=T960), T960),
        since(event("Pod", POD, "Failed", pull, at="2026-11-21T10:31:00Z"), T960),
    ]

    first = stand(job(), pods, events, after_s=961)
    assert first.phase is Phase.PENDING
    assert "(ErrImagePull): unexpected EOF" in first.why
    assert not stand(job(), pods, events, after_s=960 + 899).ended
    over = stand(job(), pods, events, after_s=960 + 901)
    assert over.verdict is Verdict.FAILED
    assert "given up after 901 s" in over.why


@pytest.mark.parametrize(
    ("reason", "message", "warning"),
    [
        ("CreateContainerConfigError", 'secret "redis" not found', "Failed"),
        ("CreateContainerError", "context deadline exceeded", "Failed"),
        ("PostStartHookError", "", "FailedPostStartHook"),
    ],
)
def test_the_patience_with_a_container_begins_when_its_creation_failed(
    reason: str, message: str, warning: str
) -> None:
    pods = [waiting(reason, message)]
    # Its image needed 960 s, and a second try.
    events = [
        since(event("Pod", POD, "Failed", "Error: ErrImagePull"), T1),
        since(event("Pod", POD, warning, f"Error: {message}", at=T960), T960),
    ]

    first = stand(job(), pods, events, after_s=961)
    assert first.phase is Phase.PENDING and f"({reason})" in first.why
    over = stand(job(), pods, events, after_s=960 + 301)
    assert over.verdict is Verdict.FAILED
    assert "given up after 301 s" in over.why


def test_the_patience_with_a_container_is_not_that_with_another() -> None:
    pods = [waiting("ErrImagePull", "unexpected EOF")]
    message = "Error: ErrImagePull"
    proxy = since(event("Pod", POD, "Failed", message), T1, "spec.initContainers{proxy}")
    another = since(event("Pod", f"{NAME}-1-q9q9q", "Failed", message), T1)
    own = since(event("Pod", POD, "Failed", message, at=T960), T960)

    assert not stand(job(), pods, [proxy, another, own], after_s=961).ended
    # Without an event of its own, a pod counts from its start.
    assert "after 961 s" in stand(job(), pods, [proxy, another], after_s=961).why


def test_a_pod_that_is_being_deleted_has_its_grace() -> None:
    pods = [pod(metadata={"deletionTimestamp": T0})]

    assert not stand(job(), pods, after_s=29).ended


def test_pods_that_wait_for_the_others_give_their_machines_back_after_an_hour() -> None:
    """No machine is held for ever, and the job is not to blame: it waits and is tried again."""
    running = pod(state={"running": {"startedAt": T0}})
    short = unscheduled("Unschedulable", "0/4 nodes are available", index=1)

    assert not stand(job(completions=2), [running, short], after_s=3400).ended
    given_up = stand(job(completions=2), [running, short], after_s=3500)
    assert (given_up.verdict, given_up.code) == (Verdict.UNAVAILABLE, "UNAVAILABLE")
    assert given_up.why.startswith("1 of 2 pods run; ")
    assert "0/4 nodes are available" in given_up.why
    assert given_up.why.endswith("(the pods that run have waited 3500 s)")
    # Whole groups run for as long as they need, and what fails at last is no wait.
    pair = [running, pod(state={"running": {"startedAt": T0}}, index=1)]
    assert not stand(job(completions=2), pair, after_s=90_000).ended
    assert not stand(job(completions=2), [running, ended(1, index=1)], after_s=90_000).ended
    assert not stand(job(), [unscheduled("Unschedulable")], after_s=90_000).ended


def test_last_words_that_are_no_outcome_are_not_believed() -> None:
    broken = ended(1)
    terminated = broken["status"]["containerStatuses"][0]["state"]["terminated"]
    for message in ("", "Traceback", json.dumps({"verdict": "succeeded"}), '{"verdict": "suc'):
        terminated["message"] = message

        assert stand(failed(), [broken]).verdict is Verdict.CRASHED


def test_objects_without_optional_fields_are_understood() -> None:
    bare = {"metadata": {"name": POD}, "spec": {}, "status": {}}

    assert "waits for the scheduler" in stand(job(), [bare]).why
    assert not stand({"metadata": {"name": NAME}, "spec": {}}, []).ended
