"""Pairs of sampled responses, graded by the world's simulated annotators."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from plumbline.core.errors import InvalidInputError
from plumbline.curation.config import AnnotateConfig
from plumbline.data.records import Preference, Prompt, Rollout
from plumbline.world.annotators import Head, grade_pair
from plumbline.world.config import PanelConfig


def annotate_rollouts(
    prompts: Iterable[Prompt], rollouts: Iterable[Rollout], config: AnnotateConfig
) -> list[Preference]:
    """Preferences for each head, in the order of prompt ids.

    Identical responses of a prompt count once. Of the pairs that the panel has a preference on,
    a seeded draw keeps `max_pairs_per_prompt` for each head.

    Raises:
        InvalidInputError: a rollout of an unknown or held-out prompt, or no pair to grade at all.
    """
    known = {prompt.id: prompt for prompt in prompts}
    responses: Mapping[str, dict[str, None]] = defaultdict(dict)
    for rollout in rollouts:
        _check_prompt(rollout, known)
        responses[rollout.prompt_id][rollout.response] = None
    preferences = [
        preference
        for prompt_id in sorted(responses)
        for head in config.heads
        for preference in _drawn(known[prompt_id], sorted(responses[prompt_id]), head, config)
    ]
    if not preferences:
        raise InvalidInputError(
            f"no preference came out of the responses to {len(responses)} prompts: each prompt "
            "needs two or more responses of different quality"
        )
    return preferences


def _check_prompt(rollout: Rollout, known: Mapping[str, Prompt]) -> None:
    prompt = known.get(rollout.prompt_id)
    if prompt is None:
        raise InvalidInputError(
            f"rollout {rollout.id} answers prompt {rollout.prompt_id!r}, which the world does "
            "not have; the rollouts must be sampled from this world's prompts",
            field="rollouts",
        )
    if prompt.split.startswith("heldout"):
        raise InvalidInputError(
            f"rollout {rollout.id} answers a prompt of the split {prompt.split!r}, which no "
            "training may see; accepted: train, rl",
            field="rollouts",
        )


def _drawn(
    prompt: Prompt, responses: Sequence[str], head: Head, config: AnnotateConfig
) -> list[Preference]:
    graded = list(_graded(prompt, responses, head, config))
    if len(graded) <= config.max_pairs_per_prompt:
        return graded
    rng = random.Random(f"{config.seed}|{prompt.id}|{head}|pairs")
    return rng.sample(graded, config.max_pairs_per_prompt)


def _graded(
    prompt: Prompt, responses: Sequence[str], head: Head, config: AnnotateConfig
) -> Iterator[Preference]:
    panel = PanelConfig(size=config.panel_size, disagreement_rate=config.disagreement_rate)
    for first, second in itertools.combinations(responses, 2):
        preference = grade_pair(prompt, first, second, head=head, seed=config.seed, panel=panel)
        if preference is not None:
            yield preference
