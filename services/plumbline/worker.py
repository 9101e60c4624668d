"""`python -m plumbline.worker --queues training,...`: serves queues with every room's stages."""

from __future__ import annotations

from plumbline.catalogue import STAGES
from plumbline.core import worker
from plumbline.pipeline.tasks import advance_with

if __name__ == "__main__":
    worker.main(STAGES, advance_run=advance_with(STAGES))
