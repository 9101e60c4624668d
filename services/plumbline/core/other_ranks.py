"""What the ranks other than the first do in an attempt: their share of the work, and no more.

They hear from rank 0 what there is to do, so they need the artifact store and no broker. They
publish nothing and report nothing, but say why when they fail.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import FrameType

from plumbline.core.artifacts import ArtifactStore, open_configured_store
from plumbline.core.artifacts.disk import full_disk_errors
from plumbline.core.errors import PlumblineError
from plumbline.core.ranks import AgreedCheckpoints, FirstRankEndedError, Place, RankGroup
from plumbline.core.scratch import scratch_directory
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import Outcome, Verdict, outcome_of_error
from plumbline.core.stages import (
    WORK,
    NullReporter,
    Stage,
    StageContext,
    load_run_function,
    materialise,
)

logger = logging.getLogger(__name__)


class StoppableReporter(NullReporter):
    """Says nothing, and ends the stage at its next report after SIGTERM."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def cancel_reason(self) -> str | None:
        return self._reason

    def on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        self._reason = "this rank was stopped"


def attempt_share(
    stages: Mapping[str, Stage],
    settings: Settings,
    place: Place,
    leave: Callable[[Outcome], None],
) -> int:
    """One rank's part in an attempt; returns the exit status.

    Args:
        leave: puts a failure down where this rank runs; rank 0 is told as well.
    """
    reporter = StoppableReporter()
    signal.signal(signal.SIGTERM, reporter.on_terminate)
    group: RankGroup | None = None
    try:
        group = RankGroup.join(place)
        store = open_configured_store(settings)
        run_other_rank(stages, group, store=store, settings=settings, reporter=reporter)
    # Every error ends this rank alone; rank 0 makes of it what the worker is told.
    except Exception as error:
        outcome = outcome_of_error(error)
        unknown = None if isinstance(error, PlumblineError) else error
        logger.error("rank %d ended: %s", place.rank, outcome.why, exc_info=unknown)
        if group is not None and _is_cause(error, outcome):
            leave(outcome)
            _tell(group, outcome)
        return 1
    return 0


def run_other_rank(
    stages: Mapping[str, Stage],
    group: RankGroup,
    *,
    store: ArtifactStore,
    settings: Settings,
    reporter: StoppableReporter,
) -> None:
    """Compute one rank's share of the stage that rank 0 runs by `stages.run_stage`.

    Raises:
        FirstRankEndedError: rank 0 is gone.
        PlumblineError: whatever the stage or the store raised.
    """
    work = group.heard(WORK)
    if work is None:  # rank 0 found the output
        return
    stage = stages[work["stage"]]
    config = stage.config.model_validate(work["config"])
    with ExitStack() as stack:
        inputs = {name: [store.get(made) for made in ids] for name, ids in work["inputs"].items()}
        context = StageContext(
            output_dir=stack.enter_context(scratch_directory(settings.scratch_dir)),
            work_dir=stack.enter_context(scratch_directory(settings.scratch_dir)),
            settings=settings,
            reporter=reporter,
            checkpoints=AgreedCheckpoints(store.checkpoints, group),
            key=work["key"],
            stage_name=stage.name,
            is_first_rank=False,
        )
        stack.callback(context.close)
        run = load_run_function(stage, on_ranks=True)
        with full_disk_errors(f"stage {stage.name}"):
            run(config, materialise(inputs, store, stack), context)


def _is_cause(error: Exception, outcome: Outcome) -> bool:
    """Being stopped and losing rank 0 follow from what happened elsewhere."""
    return outcome.verdict is not Verdict.CANCELLED and not isinstance(error, FirstRankEndedError)


def _tell(group: RankGroup, outcome: Outcome) -> None:
    try:
        group.report_failure(outcome)
    except FirstRankEndedError as error:
        logger.warning("%s", error)
