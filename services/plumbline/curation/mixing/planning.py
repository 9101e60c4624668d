"""How much of each source goes into a mix. Pure arithmetic, in exact fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from plumbline.core.errors import ConfigError
from plumbline.curation.mixing.config import MixConfig


@dataclass(frozen=True, slots=True)
class SourceSize:
    """A source, and what there is of it after its caps."""

    name: str
    amount: int
    """In the config's unit."""
    weight: float = 1.0
    epochs: float | None = None
    is_text: bool = True
    """Whether it holds documents, to be modelled as they are, rather than conversations."""


def apportion(total: int, weights: Sequence[Fraction]) -> list[int]:
    """Whole numbers in proportion to the weights, whose sum is exactly `total`.

    Each gets its share rounded down; what is left goes to the largest remainders, of equal ones to
    the first. Source: the method of largest remainders (Hamilton).

    Raises:
        ConfigError: no weight is above 0, and there is something to divide.
    """
    whole = sum(weights, Fraction(0))
    if not whole:
        if total:
            raise ConfigError(
                f"{total} cannot be divided among {len(weights)} sources whose weights are all 0",
                field="sources",
            )
        return [0] * len(weights)
    exact = [total * weight / whole for weight in weights]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (counts[i] - exact[i], i))
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def as_written(value: float) -> Fraction:
    """0.7 is seven tenths here, not the binary fraction next to it: 0.7 of 5 rounds up to 4."""
    return Fraction(repr(float(value)))


def plan_mix(sources: Sequence[SourceSize], config: MixConfig) -> list[int]:
    """How much of each source is drawn, in the config's unit.

    Raises:
        ConfigError: the totals, epochs and shares do not go together.
    """
    if config.pretraining_share is None:
        planned = _plan(sources, config, config.total, where="total")
    else:
        planned = _plan_with_pretraining(sources, config, as_written(config.pretraining_share))
    _check_epochs(sources, planned, config)
    return planned


def _plan_with_pretraining(
    sources: Sequence[SourceSize], config: MixConfig, share: Fraction
) -> list[int]:
    texts = [source for source in sources if source.is_text]
    talks = [source for source in sources if not source.is_text]
    if not talks or not (texts or not share):
        raise ConfigError(
            f"pretraining_share={config.pretraining_share} mixes documents into conversations; "
            f"{len(texts)} sources hold documents and {len(talks)} conversations",
            field="pretraining_share",
        )
    if config.total is not None:
        text_total = _rounded(config.total * share)
        talk_plan = _plan(talks, config, config.total - text_total, where="conversations' part")
    else:
        talk_plan = _plan(talks, config, None, where="conversations' part")
        text_total = _rounded(sum(talk_plan) * share / (1 - share))
    text_plan = _plan(texts, config, text_total, where="documents' part") if texts else []
    left = {True: iter(text_plan), False: iter(talk_plan)}
    return [next(left[source.is_text]) for source in sources]


def _plan(
    sources: Sequence[SourceSize], config: MixConfig, total: int | None, *, where: str
) -> list[int]:
    """Sources with epochs take what these say; the others share the rest."""
    fixed = {
        index: _rounded(as_written(source.epochs) * source.amount)
        for index, source in enumerate(sources)
        if source.epochs is not None
    }
    sharing = [source for source in sources if source.epochs is None]
    taken = sum(fixed.values())
    if total is None:
        rest = sum(source.amount for source in sharing if source.weight)
    else:
        rest = total - taken
    if rest < 0 or (rest > 0 and not sharing):
        raise ConfigError(
            f"{where}={total} {config.unit}, and the sources with epochs give {taken}; "
            + ("accepted: at least that" if rest < 0 else "no other source is there to give more"),
            field="total",
        )
    shares = iter(apportion(rest, [_rate(source, config) for source in sharing]))
    return [fixed[i] if i in fixed else next(shares) for i in range(len(sources))]


def _rate(source: SourceSize, config: MixConfig) -> Fraction:
    """What a source's share is proportional to."""
    if config.temperature is None:
        return as_written(source.weight)
    size = source.amount if config.rate_cap is None else min(source.amount, config.rate_cap)
    if config.temperature == 1:
        return as_written(source.weight) * size
    return as_written(source.weight) * Fraction(size ** (1 / config.temperature))


def _check_epochs(sources: Sequence[SourceSize], planned: Sequence[int], config: MixConfig) -> None:
    for source, amount in zip(sources, planned, strict=True):
        if amount and not source.amount:
            raise ConfigError(
                f"source {source.name!r} holds nothing, and {amount} {config.unit} are planned",
                field="sources",
            )
        limit = config.max_epochs
        if limit is not None and amount > as_written(limit) * source.amount:
            raise ConfigError(
                f"source {source.name!r} would be taken {amount / source.amount:.3g} times "
                f"({amount} of {source.amount} {config.unit}); max_epochs={limit:g}",
                field="max_epochs",
            )


def _rounded(value: Fraction) -> int:
    """To the nearest whole number, halves up."""
    return math.floor(value + Fraction(1, 2))
