"""One rank of a stage that goes wrong on the second rank; torchrun starts it as a program.

torchrun --nproc-per-node 2 rank_stages.py JOB_ID --owner ... --outcome FILE
"""

from __future__ import annotations

import os
import signal
import sys
import time

from pydantic import BaseModel, ConfigDict

from plumbline.core import stage_process
from plumbline.core.errors import InvalidInputError
from plumbline.core.stages import Stage, StageContext, StageInputs, StageResult


class FaultConfig(BaseModel):
    """What the second rank does, and where the first one meets that."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: str
    first: str


def run_share(config: FaultConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    dist.barrier()
    if not context.is_first_rank:
        if config.fault == "refuse":
            raise InvalidInputError("shard 7 is empty; accepted: one record or more")
        os.kill(os.getpid(), signal.SIGKILL)
    if config.first == "hears nothing":
        time.sleep(600)
    while config.first == "is between steps":
        context.raise_if_cancelled()
        time.sleep(0.05)
    dist.barrier()
    return StageResult()


STAGES = {
    "probe.share": Stage(
        name="probe.share",
        version=1,
        config=FaultConfig,
        inputs={},
        output_kind="report",
        queue="training",
        run="rank_stages:run_share",
        ranks="rank_stages:run_share",
    )
}

if __name__ == "__main__":
    sys.exit(stage_process.main(STAGES))
