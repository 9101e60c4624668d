"""Programmatic rewards as a scorer of rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from plumbline.data.records import Prompt
from plumbline.models.programmatic import ProgrammaticReward, response_reward


class ProgrammaticScorer:
    """Scores each response by a function of its text; a `rollout.Scorer`."""

    def __init__(self, reward: ProgrammaticReward) -> None:
        self._name, self._reward = reward.kind, response_reward(reward)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        return {self._name: torch.tensor([self._reward(text) for text in responses])}
