"""Which preferences a reward model learns from when several groups of them are mixed."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Preference
from plumbline.trainer.batches import draw_some
from plumbline.trainer.config.reward_model import OTHER, PreferenceMix


def mix_preferences(
    preferences: Sequence[Preference], mix: PreferenceMix, *, seed: int
) -> tuple[list[Preference], dict[str, int]]:
    """One group whole and of the others what fits its share, drawn by seed without repetition.

    A group that is too small for its share is used whole; the counts say so.

    Returns:
        the preferences in their order, and how many were used of each group.
    Raises:
        InvalidInputError: there is no preference of the group that is to be used whole.
    Source: Llama 2, arXiv:2307.09288, section 3.2.2, data composition.
    """
    groups: dict[str, list[int]] = {name: [] for name in mix.weights}
    for index, preference in enumerate(preferences):
        name = preference.head if mix.by == "head" else source_of(preference)
        members = groups.get(name if name in mix.weights else OTHER)
        if members is not None:
            members.append(index)
    whole = len(groups[mix.whole])
    if not whole:
        found = sorted({p.head if mix.by == "head" else source_of(p) for p in preferences})
        raise InvalidInputError(
            f"no preference has the {mix.by} {mix.whole!r}, which the mix uses whole; there are "
            f"{', '.join(repr(name) for name in found[:8])}",
            field="mix.whole",
        )
    chosen: list[int] = []
    counts: dict[str, int] = {}
    for name, members in groups.items():
        room = round(whole * mix.weights[name] / mix.weights[mix.whole])
        drawn = draw_some(members, room, seed=seed)
        counts[name] = len(drawn)
        chosen += drawn
    return [preferences[index] for index in sorted(chosen)], counts


def source_of(preference: Preference) -> str:
    """Where a preference comes from: its metadata's source, else the file that held it."""
    return preference.metadata.get("source", "") or preference.source
