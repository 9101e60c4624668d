"""`python -m plumbline.worker --queues training,...`: serves queues with every room's stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumbline.catalogue import STAGES
from plumbline.core import worker
from plumbline.pipeline.tasks import advance_with

if TYPE_CHECKING:
    from plumbline.core.executors import Executor
    from plumbline.core.jobs import JobStore
    from plumbline.core.reconciler import FindOutput
    from plumbline.core.settings import Settings


def create_launcher(jobs: JobStore, settings: Settings, find_output: FindOutput) -> Executor:
    """The launcher, imported only by workers that are one."""
    from plumbline.launcher.executor import KubernetesExecutor

    return KubernetesExecutor.from_environment(jobs, settings, find_output)


if __name__ == "__main__":
    worker.main(STAGES, advance_run=advance_with(STAGES), create_launcher=create_launcher)
