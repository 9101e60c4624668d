"""A closer look at requests in whose words no risk was seen: by a reward model, by a judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.core.errors import FailedPreconditionError
from plumbline.data.records import Message
from plumbline.retriever.respond.classify import Risk
from plumbline.retriever.respond.config import ClassifyConfig
from plumbline.retriever.respond.guarding import guarded
from plumbline.retriever.respond.interfaces import Sampler, Scorer
from plumbline.retriever.respond.judge import judge_risk


@dataclass(frozen=True, slots=True)
class RequestRisk:
    """Asks whom the configuration names.

    Args:
        categories: that a judge may name.
    """

    config: ClassifyConfig
    categories: tuple[str, ...]
    sampler: Sampler
    scorer: Scorer | None = None

    async def look_closer(self, seen: Risk, messages: Sequence[Message]) -> tuple[Risk, str]:
        """The request's risk: by its signs, else by the probe, else by the judge.

        Returns:
            The risk, and why a required look could not be taken.
        """
        asks = self.config.minimum_safety is not None or bool(self.config.judge)
        if seen or not asks:
            return seen, ""
        risk, why = await guarded("classify", self.config.timeout_s, self._asked(messages))
        if risk is None:
            return seen, why if self.config.required else ""
        return risk, ""

    async def _asked(self, messages: Sequence[Message]) -> Risk:
        risk = await self._probed(messages)
        if risk or not self.config.judge:
            return risk
        return await judge_risk(self.sampler, self.config, messages[-1].content, self.categories)

    async def _probed(self, messages: Sequence[Message]) -> Risk:
        """Would it be unsafe to comply, whatever is asked?"""
        minimum = self.config.minimum_safety
        if minimum is None:
            return Risk()
        if self.scorer is None:
            raise FailedPreconditionError("no reward service is configured")
        scores = await self.scorer.score(
            messages, [self.config.probe], heads=("safety",), risky=True
        )
        logit = scores.by_reply[0]["safety"]
        if logit >= math.log(minimum / (1 - minimum)):
            return Risk()
        return Risk(self.config.probe_category, f"complying scores {logit:.2f} for safety")
