"""Every stage that the platform can run, from every room."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from plumbline.core.stages import Stage
from plumbline.curation.tasks import STAGES as CURATION
from plumbline.evaluation.tasks import STAGES as EVALUATION
from plumbline.retriever.tasks import STAGES as RETRIEVER
from plumbline.reward.tasks import STAGES as REWARD
from plumbline.sampler.tasks import STAGES as SAMPLER
from plumbline.trainer.tasks import STAGES as TRAINER

STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        stage.name: stage
        for room in (CURATION, SAMPLER, REWARD, TRAINER, RETRIEVER, EVALUATION)
        for stage in room
    }
)
"""By name, for example `trainer.sft`."""
