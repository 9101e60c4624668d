"""What a plan sees of pipelines: their stages, and at which place each one acts.

Pure data, so that this room needs to know neither how a pipeline is written nor what runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from plumbline.retriever.planner.matrix import Place

LEARNERS: Mapping[str, Place] = {
    "trainer.pretrain": Place.PRETRAINING,
    "trainer.sft": Place.SFT,
    "trainer.vision_sft": Place.SFT,
    "trainer.reward_model": Place.REWARD,
    "trainer.rejection_sampling": Place.REWARD,
    "trainer.ppo": Place.REWARD,
    "trainer.reinforce": Place.REWARD,
    "trainer.rloo": Place.REWARD,
    "trainer.grpo": Place.REWARD,
    "trainer.dpo": Place.REWARD,
    "trainer.kto": Place.REWARD,
}
"""Stages that change weights; a stage of data acts where the learners that it feeds do."""

REWARD_MODEL = "trainer.reward_model"
IMPORT_VALUES = "retriever.import_values"


@dataclass(frozen=True, slots=True)
class StageUse:
    """One stage of a pipeline, blocks unrolled and defaults written out."""

    name: str
    uses: str
    """`<room>.<operation>`."""
    config: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()
    """Names of stages of the same pipeline."""
    value_digests: frozenset[str] | None = frozenset()
    """For an import: content digests of the values in its files; None where only a run would tell,
    because another stage makes them."""


@dataclass(frozen=True)
class PipelineUse:
    """A pipeline file."""

    name: str
    """As the report cites it, for example `pipelines/rlaif.yaml`."""
    stages: tuple[StageUse, ...]

    @cached_property
    def _fed_by(self) -> Mapping[str, tuple[StageUse, ...]]:
        return {
            stage.name: tuple(other for other in self.stages if stage.name in other.depends_on)
            for stage in self.stages
        }

    def fed_by(self, stage: StageUse) -> tuple[StageUse, ...]:
        """The stages that take a stage's output as an input."""
        return self._fed_by[stage.name]

    def learners_of(self, stage: StageUse) -> tuple[StageUse, ...]:
        """The learners that a stage's output reaches before any other learner's weights do."""
        found: dict[str, StageUse] = {}
        seen: set[str] = set()
        waiting = list(self.fed_by(stage))
        while waiting:
            follower = waiting.pop()
            if follower.name in seen:
                continue
            seen.add(follower.name)
            if follower.uses in LEARNERS:
                found[follower.name] = follower
            else:
                waiting.extend(self.fed_by(follower))
        return tuple(stage for stage in self.stages if stage.name in found)

    def places_of(self, stage: StageUse) -> frozenset[Place]:
        """Where a stage acts; empty for one that changes neither weights nor replies.

        A reward model acts where a policy learns from its scores, and data for one likewise: one
        that nothing learns from changes no reply.
        """
        if stage.uses == IMPORT_VALUES:
            return frozenset({Place.INFERENCE})
        learners = (stage,) if stage.uses in LEARNERS else self.learners_of(stage)
        return frozenset(
            LEARNERS[learner.uses]
            for learner in learners
            if learner.uses != REWARD_MODEL or self.policies_rewarded_by(learner)
        )

    def policies_rewarded_by(self, reward_model: StageUse) -> tuple[StageUse, ...]:
        """The stages in which a policy learns from a reward model's scores."""
        return tuple(
            other
            for other in self.fed_by(reward_model)
            if other.uses in LEARNERS and other.uses != REWARD_MODEL
        )


def stages_at(pipelines: Sequence[PipelineUse], place: Place) -> Iterator[tuple[str, StageUse]]:
    """Stages that act at a place, each with its pipeline's name."""
    for pipeline in pipelines:
        for stage in pipeline.stages:
            if place in pipeline.places_of(stage):
                yield pipeline.name, stage
