"""Scored rollouts arranged by temperature and prompt.

Shapes: T temperatures, P prompts, M responses to each prompt at each temperature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Rollout


@dataclass(frozen=True, slots=True)
class Ladder:
    """The same prompts answered equally often at each temperature."""

    temperatures: tuple[float, ...]
    """[T], rising."""
    kinds: tuple[str, ...]
    """[P], each prompt's kind; empty where it has none."""
    rollouts_TP: tuple[tuple[tuple[Rollout, ...], ...], ...]
    """[T][P], M rollouts in each place."""
    rewards_TPM: NDArray[np.float64]

    @property
    def responses(self) -> int:
        """M."""
        return int(self.rewards_TPM.shape[2])

    def prompts_of(self, kind: str) -> list[int]:
        """Positions of the prompts of a kind."""
        return [index for index, found in enumerate(self.kinds) if found == kind]


def arrange(rollouts: Sequence[Rollout], reward: Callable[[Rollout], float]) -> Ladder:
    """Rollouts as a ladder; prompts keep the order in which they first come.

    Raises:
        InvalidInputError: no rollouts, fewer than two responses to a prompt at a temperature,
            unequal numbers of them, or a reward that is not finite.
    """
    prompts = list(dict.fromkeys(rollout.prompt_id for rollout in rollouts))
    temperatures = sorted({rollout.temperature for rollout in rollouts})
    places: dict[tuple[float, str], list[Rollout]] = {
        (temperature, prompt): [] for temperature in temperatures for prompt in prompts
    }
    for rollout in rollouts:
        places[rollout.temperature, rollout.prompt_id].append(rollout)
    _check_counts(places)
    kinds = {rollout.prompt_id: rollout.metadata.get("kind", "") for rollout in rollouts}
    rollouts_TP = tuple(
        tuple(tuple(places[temperature, prompt]) for prompt in prompts)
        for temperature in temperatures
    )
    rewards = [[[_finite(reward(r), r) for r in at] for at in row] for row in rollouts_TP]
    return Ladder(
        temperatures=tuple(temperatures),
        kinds=tuple(kinds[prompt] for prompt in prompts),
        rollouts_TP=rollouts_TP,
        rewards_TPM=np.array(rewards, dtype=np.float64),
    )


def recorded_score(rollouts: Sequence[Rollout], name: str) -> Callable[[Rollout], float]:
    """Reads the score of a name, or the only one where the name is empty.

    Raises:
        InvalidInputError: a rollout lacks it, or there is not just one to choose from.
    """
    names = sorted({score for rollout in rollouts for score in rollout.scores})
    if not name and len(names) != 1:
        raise InvalidInputError(
            f"the rollouts have the scores {', '.join(names) or 'none'}; accepted: a reward or "
            "reward models to score with, or `score` as the name of one of several",
            field="score",
        )
    name = name or names[0]
    lacking = sum(name not in rollout.scores for rollout in rollouts)
    if lacking:
        raise InvalidInputError(
            f"{lacking} of {len(rollouts)} rollouts have no score {name!r}; accepted: one that "
            f"each has, of {', '.join(names) or 'none'}",
            field="score",
        )
    return lambda rollout: rollout.scores[name]


def _check_counts(places: Mapping[tuple[float, str], Sequence[Rollout]]) -> None:
    counts = {len(found) for found in places.values()}
    if not counts or min(counts) < 2 or len(counts) > 1:
        raise InvalidInputError(
            "prompts have from "
            f"{min(counts, default=0)} to {max(counts, default=0)} responses at a temperature; "
            "accepted: the same number everywhere, 2 or more (for example `k` a multiple of the "
            "number of temperatures)",
            field="inputs.rollouts",
        )


def _finite(value: float, rollout: Rollout) -> float:
    if not math.isfinite(value):
        raise InvalidInputError(
            f"the reward of rollout {rollout.id} is {value}; accepted: finite numbers"
        )
    return value
