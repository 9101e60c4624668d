"""Launchers as real worker processes, with the rights that the chart gives them, and their jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from cluster.api_client import Json
from cluster.control_plane import ControlPlane

from plumbline.catalogue import STAGES
from plumbline.core.execution import Execution
from plumbline.core.jobs import Job, JobStore
from plumbline.core.queue import create_app, submit
from plumbline.core.settings import Settings

T = TypeVar("T")

PATIENCE_S = 240.0
"""Generous, because other work may take the cores; the figures that count are measured."""
_LIMITS = {"lease-ttl-s": 6.0, "renew-period-s": 0.5, "reconcile-period-s": 1.0}


@dataclass
class LaunchedPlatform:
    """A broker, a store, a cluster's namespace, and launchers that tests start and kill."""

    plane: ControlPlane
    namespace: str
    settings: Settings
    kubeconfig: Path
    """Of the launcher's service account."""
    launchers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.settings.redis_url)
        self._app = create_app(self.settings, STAGES)
        self.settings.state_dir.mkdir(parents=True, exist_ok=True)

    def configure(
        self,
        pools: Mapping[str, Any],
        *,
        default_pool: str = "",
        annotations: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """Write the launcher's configuration; launchers started from now on read it."""
        config = {
            "namespace": self.namespace,
            "image": "registry.test/plumbline-worker:0.1.0",
            # Pods of the agent's machines run this interpreter.
            "python": sys.executable,
            "pools": dict(pools),
            "default_pool": default_pool or next(iter(pools)),
            "environment": [
                {"name": "REDIS_URL", "value": self.settings.redis_url},
                {"name": "PLUMBLINE_STORE", "value": self.settings.store_url},
            ],
            "pod_annotations": dict(annotations or {}),
            "termination_grace_s": 5,
            "node_lost_s": 2,
            "patience": {"deletion_s": 3},
            **more,
        }
        self._config_file.write_text(yaml.safe_dump(config))

    @property
    def _config_file(self) -> Path:
        return self.settings.state_dir / "launcher.yaml"

    def start(self, name: str, *, concurrency: int = 64) -> subprocess.Popen[bytes]:
        """A launcher, as its Deployment would start it."""
        environment = {
            **os.environ,
            "PLUMBLINE_STATE_DIR": str(self.settings.state_dir),
            "PLUMBLINE_STORE": self.settings.store_url,
            "REDIS_URL": str(self.settings.redis_url),
            "PLUMBLINE_EXECUTOR": "kubernetes",
            "PLUMBLINE_LAUNCHER_CONFIG": str(self._config_file),
            "KUBECONFIG": str(self.kubeconfig),
        }
        command = [sys.executable, "-m", "plumbline.worker", "--queues", "training"]
        command += ["--name", name, f"--concurrency={concurrency}"]
        command += [f"--{option}={value}" for option, value in _LIMITS.items()]
        with (self.settings.state_dir / f"{name}.log").open("ab") as log:
            launcher = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.launchers[name] = launcher
        return launcher

    def kill(self, name: str) -> None:
        """A launcher's machine goes away: it can do nothing more."""
        launcher = self.launchers.pop(name)
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(launcher.pid, signal.SIGKILL)
        launcher.wait()

    def close(self) -> None:
        for name in list(self.launchers):
            self.kill(name)
        self.jobs.close()

    def submit(
        self,
        config: Mapping[str, Any],
        inputs: Mapping[str, Sequence[str]],
        *,
        stage: str = "trainer.sft",
        **execution: Any,
    ) -> Job:
        where = Execution(**execution) if execution else None
        return submit(self.jobs, self._app, STAGES, stage, config, inputs, execution=where)

    def until(self, condition: Callable[[], T | None], within_s: float = PATIENCE_S) -> T:
        """The condition's first true value; else the launchers' logs say what they did."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        logs = [log.read_text()[-3000:] for log in self.settings.state_dir.glob("*.log")]
        raise AssertionError(f"not within {within_s} s; launchers say:\n" + "\n---\n".join(logs))

    def ended(self, job: Job, within_s: float = PATIENCE_S) -> Job:
        def terminal() -> Job | None:
            now = self.jobs.get(job.id)
            return now if now.terminal else None

        return self.until(terminal, within_s)

    def why(self, job: Job, words: str, within_s: float = PATIENCE_S) -> str:
        """The job's reason, once it holds these words."""

        def says() -> str | None:
            why = self.jobs.get(job.id).why
            return why if words in why else None

        return self.until(says, within_s)

    def progressed(self, job: Job, steps: int) -> Job:
        """The job, once it has done so many steps."""

        def far() -> Job | None:
            now = self.jobs.get(job.id)
            assert not now.terminal, f"{now.state}: {now.why}"
            return now if now.progress.done >= steps else None

        return self.until(far)

    def pods(self, job: Job) -> list[Json]:
        return self._labelled("/api/v1/namespaces/{}/pods", job)

    def objects(self, job: Job) -> set[str]:
        """Kinds of whatever the cluster still holds for a job."""
        paths = {
            "Pod": "/api/v1/namespaces/{}/pods",
            "Service": "/api/v1/namespaces/{}/services",
            "Job": "/apis/batch/v1/namespaces/{}/jobs",
        }
        return {kind for kind, path in paths.items() if self._labelled(path, job)}

    def _labelled(self, path: str, job: Job) -> list[Json]:
        selector = f"plumbline.dev/job-id={job.id}"
        return self.plane.admin.items(path.format(self.namespace), labelSelector=selector)
