"""`python -m plumbline.stage_process JOB_ID ...`: one attempt at a job; a worker starts it."""

from __future__ import annotations

import sys

from plumbline.catalogue import STAGES
from plumbline.core import stage_process

if __name__ == "__main__":
    sys.exit(stage_process.main(STAGES))
