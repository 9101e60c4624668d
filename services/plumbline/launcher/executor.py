"""Runs attempts as Kubernetes Jobs, which outlive the launcher that created them.

Whoever holds a job's lease follows its Kubernetes Job: it creates it, or goes on with the one that
is there under the attempt's name. Nothing about an attempt is kept in the launcher.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from plumbline.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    PlumblineError,
    ResourceExhaustedError,
    UnavailableError,
)
from plumbline.core.job_log import attempt_header, job_log_path
from plumbline.core.jobs import Job, JobStore, Lease
from plumbline.core.reconciler import FindOutput
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import Outcome, Verdict, outcome_of_error
from plumbline.launcher.cluster import Cluster, Json
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.manifests import attempt_manifest, needs_service, service_manifest
from plumbline.launcher.names import JOB_ID_LABEL, attempt_name
from plumbline.launcher.standing import Phase, Standing, deleted, standing
from plumbline.launcher.watch import ClusterWatch, Look, has_ended

_LOG_PATIENCE_S = 5.0
"""For all pods' logs together; the lease is not renewed meanwhile."""
_DOUBT_S = 10.0
"""For what an end is judged by to catch up: several periods of the watch."""
_CREATE_AGAIN_S = 2.0

logger = logging.getLogger(__name__)


class KubernetesExecutor:
    """Creates and follows the Kubernetes Jobs of one launcher."""

    def __init__(
        self,
        cluster: Cluster,
        config: LauncherConfig,
        *,
        jobs: JobStore,
        settings: Settings,
        find_output: FindOutput,
    ) -> None:
        """
        Args:
            find_output: the artifact of a job whose pods could not say what came of them.
        """
        self.cluster = cluster
        self.config = config
        self.settings = settings
        self.watch = ClusterWatch(cluster, config, jobs)
        self._find_output = find_output

    @classmethod
    def from_environment(
        cls, jobs: JobStore, settings: Settings, find_output: FindOutput
    ) -> KubernetesExecutor:
        """
        Raises:
            ConfigError: the configuration is missing or not accepted, or no cluster is known.
            FailedPreconditionError: the client package is not installed.
        """
        config = LauncherConfig.from_environment()
        cluster = Cluster.connect(config)
        made = cls(cluster, config, jobs=jobs, settings=settings, find_output=find_output)
        made.watch.start()
        logger.info("attempts run as Kubernetes Jobs in namespace %s", cluster.namespace)
        return made

    def place(self, job: Job, lease: Lease) -> str:
        return attempt_name(job.id, lease.attempt)

    def start(self, job: Job, lease: Lease) -> KubernetesAttempt:
        """
        Raises:
            ConfigError: the job asks for a pool that is not configured.
        """
        manifest = attempt_manifest(job, lease.attempt, self.config, self.cluster.namespace)
        return KubernetesAttempt(self, job, lease, manifest)

    def find_output(self, job: Job) -> str | None:
        """The id of a job's artifact; None where there is none, or the store does not answer."""
        try:
            return self._find_output(job)
        except PlumblineError as error:
            logger.warning("job %s: its artifact was not looked up: %s", job.id, error)
            return None


class KubernetesAttempt:
    """The Kubernetes Job of one attempt, as seen by the launcher that follows it."""

    def __init__(
        self, executor: KubernetesExecutor, job: Job, lease: Lease, manifest: Json
    ) -> None:
        self.name = attempt_name(job.id, lease.attempt)
        self._executor = executor
        self._cluster = executor.cluster
        self._config = executor.config
        self._job = job
        self._lease = lease
        self._manifest = manifest
        self._trouble = ""
        self._create_at = float("-inf")
        self._created_at: float | None = None
        self._deadline: float | None = None
        self._deletion_sent = False
        self._doubted_at: float | None = None
        self._finished = False
        self._gone = False
        self._look = Look()
        why = f"Kubernetes Job {self.name} is being created"
        self._standing = Standing(phase=Phase.PENDING, why=why)
        executor.watch.follow(self.name)

    def wait(self, timeout_s: float) -> bool:
        """Whether the attempt has ended, or after `terminate` whether nothing of it is left.

        Returns before the timeout when the standing has changed.
        """
        deadline = time.monotonic() + timeout_s
        before = self.why()
        while True:
            if self._deadline is None and self._created_at is None:
                self._create(deadline)
            else:
                self._take_look(max(0.0, deadline - time.monotonic()))
            if self._is_over() or self.why() != before or time.monotonic() >= deadline:
                return self._is_over()

    def why(self) -> str:
        """Where the attempt stands, and what keeps the launcher from seeing it."""
        if not self._trouble:
            return self._standing.why
        return f"{self._trouble}; before that: {self._standing.why}"

    def terminate(self, grace_s: float) -> None:
        """Delete the Job, its pods first. The pods' own grace period applies, not `grace_s`."""
        try:
            self._save_log()
        finally:
            # Pods that nobody deletes hold their machines, whatever becomes of the log.
            patience_s = self._config.termination_grace_s + self._config.patience.deletion_s
            self._deadline = time.monotonic() + patience_s
            self._send_deletion()

    def kill(self) -> None:
        """Delete the Job if it has not ended; one that has is left to its time to live."""
        self._executor.watch.forget(self.name)
        if not (self._finished or self._deletion_sent or self._gone):
            self._send_deletion()

    def detach(self) -> bool:
        """Stop following; the pods go on, and the next launcher finds them by the job's record."""
        self._executor.watch.forget(self.name)
        return True

    def outcome(self) -> Outcome:
        """What the attempt's program said, else what its artifact or Kubernetes says."""
        if self._deadline is not None and not self._gone:
            logger.warning("%s was deleted, and some of its pods have not ended", self.name)
        if not self._standing.ended:
            return Outcome(verdict=Verdict.CANCELLED, why=f"Kubernetes Job {self.name} was ended")
        if self._standing.reported is None:
            artifact = self._executor.find_output(self._job)
            if artifact is not None:
                why = f"Made by attempt {self._lease.attempt}; its pods could not say so"
                return Outcome(verdict=Verdict.SUCCEEDED, why=why, artifact=artifact)
        return self._standing.outcome()

    # Creating

    def _create(self, deadline: float) -> None:
        if (pause := min(self._create_at, deadline) - time.monotonic()) > 0:
            time.sleep(pause)
        if time.monotonic() < self._create_at:
            return
        try:
            root = self._created_or_found()
            if needs_service(self._job, self._config):
                self._create_service(root)
        except (UnavailableError, ResourceExhaustedError) as error:
            self._trouble = error.message
            self._create_at = time.monotonic() + _CREATE_AGAIN_S
        except PlumblineError as error:
            self._trouble = ""
            outcome = outcome_of_error(error)
            self._standing = Standing(
                phase=Phase.FAILED, why=outcome.why, verdict=outcome.verdict, code=outcome.code
            )
        else:
            self._trouble = ""
            self._created_at = time.monotonic()

    def _created_or_found(self) -> Json:
        try:
            root = self._cluster.create_root(self._manifest)
            logger.info("Kubernetes Job %s was created", self.name)
            return root
        except AlreadyExistsError:
            found = self._cluster.root(self.name)
        if found is None:  # gone in between
            return self._cluster.create_root(self._manifest)
        owner = found["metadata"].get("labels", {}).get(JOB_ID_LABEL)
        if owner != self._job.id:
            self._gone = True  # nothing here is ours to delete
            raise FailedPreconditionError(
                f"{found['kind']} {self.name} in namespace {self._cluster.namespace} is another's "
                f"({JOB_ID_LABEL}={owner}); delete it, or give this launcher its own namespace"
            )
        logger.info("Kubernetes Job %s is there already; it is followed", self.name)
        return found

    def _create_service(self, root: Json) -> None:
        service = service_manifest(self._job, self._lease.attempt, self._config, dict(root))
        try:
            self._cluster.create(service)
        except AlreadyExistsError:
            logger.debug("Service %s is there already", self.name)

    # Following

    def _take_look(self, timeout_s: float) -> None:
        look = self._executor.watch.newer_than(self._look.number, timeout_s)
        if look.number == self._look.number:
            return
        self._look = look
        self._trouble = look.trouble
        if look.trouble:
            return
        if self._deadline is not None:
            self._look_for_remains(look)
        elif look.began_at >= (self._created_at or 0.0):
            self._understand(look)

    def _understand(self, look: Look) -> None:
        job = look.snapshot.jobs.get(self.name)
        if job is None and self._is_deleted():
            self._gone = True
            self._standing = deleted(self.name)
        elif not self._trouble:
            found = standing(
                job,
                look.snapshot.pods.get(self.name, ()),
                look.warnings,
                name=self.name,
                now=time.time(),
                patience=self._config.patience,
            )
            finished = job is not None and has_ended(job)
            if self._is_doubtful(found, look, finished=finished):
                return
            self._standing = found
            self._finished = finished
        self._executor.watch.explain(self.name, slow=self._standing.phase is Phase.PENDING)
        if self._standing.ended:
            self._save_log()

    def _is_doubtful(self, found: Standing, look: Look, *, finished: bool) -> bool:
        """Whether another look may tell of another end, or of none."""
        if not found.ended or found.reported is not None:
            self._doubted_at = None
            return False
        if self._doubted_at is None:
            # The server's cache of pods may be behind that of Jobs: look again for last words.
            self._doubted_at = time.monotonic()
            self._executor.watch.explain(self.name, slow=True)
            return True
        # How long a pod has waited is told by warnings, and a launcher that has just started has
        # none; it goes on without them where the API server does not list any.
        warned = look.warned_at >= self._doubted_at
        return not (finished or warned or time.monotonic() - self._doubted_at >= _DOUBT_S)

    def _is_deleted(self) -> bool:
        """Ask the API server itself: its cache may not hold a new Job yet."""
        try:
            return self._cluster.root(self.name) is None
        except PlumblineError as error:
            self._trouble = error.message
            return False

    # Ending

    def _send_deletion(self) -> None:
        try:
            self._cluster.delete(self.name)
            self._deletion_sent = True
        except PlumblineError as error:
            # `wait` sends it again, and after that the sweep of any launcher does.
            logger.warning("%s is not deleted yet: %s", self.name, error)

    def _look_for_remains(self, look: Look) -> None:
        if not self._deletion_sent:
            self._send_deletion()
            return
        left = look.snapshot.pods.get(self.name, ())
        self._gone = not left and look.snapshot.jobs.get(self.name) is None and self._is_deleted()

    def _is_over(self) -> bool:
        if self._deadline is None:
            return self._standing.ended
        return self._gone or time.monotonic() >= self._deadline

    def _save_log(self) -> None:
        """Put the end of what each pod wrote into the job's log, on this machine.

        A log that cannot be saved, on a full disk say, is no reason to keep a job from its end.
        """
        path = job_log_path(self._executor.settings, self._job.id)
        try:
            self._write_log(path)
        except OSError as error:
            logger.warning("job %s: its log was not saved to %s: %s", self._job.id, path, error)

    def _write_log(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOG_PATIENCE_S
        pods = sorted(self._look.snapshot.pods.get(self.name, ()), key=_pod_name)
        with path.open("ab") as log:
            log.write(attempt_header(self._lease))
            for pod in map(_pod_name, pods):
                if time.monotonic() >= deadline:
                    log.write(f"(the logs of {pod} and later pods took too long)\n".encode())
                    return
                log.write(f"pod {pod}:\n".encode() + self._pod_log(pod))

    def _pod_log(self, pod: str) -> bytes:
        try:
            return self._cluster.pod_log(pod, tail_lines=self._config.log_tail_lines)
        except PlumblineError as error:
            return f"(no log: {error.message})\n".encode()


def _pod_name(pod: Json) -> str:
    return str(pod["metadata"]["name"])
