"""The matrix of kinds of values and places to enforce them, refined by what a value is about.

                   pre-training  fine-tuning  reward       inference    tools
    fixed          possible      recommended  recommended  possible     possible
    customisable   unsuited      possible     possible     recommended  unsuited
    changing       unsuited      unsuited     unsuited     recommended  possible

What is the same for all and for long is worth weights; what a tenant chooses or a legislator
changes is not, as weights can be neither switched by request nor revoked by date. Two refinements
follow from what a value is about: filtering and anonymizing training data works for facts, harm,
privacy and fairness, and tools can check nothing but facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from plumbline.data.records import ValueKind, ValueSpec


class Place(StrEnum):
    """Where a value can be imposed on a model, in the order of its life."""

    PRETRAINING = "pretraining"
    SFT = "sft"
    REWARD = "reward"
    INFERENCE = "inference"
    TOOLS = "tools"


class Fit(StrEnum):
    """How well a place suits a value."""

    RECOMMENDED = "recommended"
    POSSIBLE = "possible"
    UNSUITED = "unsuited"


class Concern(StrEnum):
    """What a value is about, where that decides which means there are."""

    FACTS = "facts"
    HARM = "harm"
    HELP = "help"
    PRIVACY = "privacy"
    FAIRNESS = "fairness"


@dataclass(frozen=True, slots=True)
class Suitability:
    """How well a place suits one value, and why."""

    fit: Fit
    why: str


_CATEGORIES: Mapping[str, Concern] = MappingProxyType(
    {
        **dict.fromkeys(
            ("accuracy", "arithmetic", "citations", "factuality", "facts", "hallucination"),
            Concern.FACTS,
        ),
        **dict.fromkeys(("honest", "honesty", "misinformation", "truthfulness"), Concern.FACTS),
        **dict.fromkeys(("事实", "准确", "真实", "诚实", "虚假信息"), Concern.FACTS),
        **dict.fromkeys(
            ("abuse", "harm", "harmful", "harmless", "harmlessness", "hate", "hateful"),
            Concern.HARM,
        ),
        **dict.fromkeys(("illicit", "safety", "self_harm", "toxicity", "violence"), Concern.HARM),
        **dict.fromkeys(("hateful_and_harmful", "illicit_and_criminal"), Concern.HARM),
        **dict.fromkeys(("安全", "无害", "有害", "仇恨", "暴力"), Concern.HARM),
        **dict.fromkeys(("helpful", "helpfulness", "usefulness", "有用", "有帮助"), Concern.HELP),
        **dict.fromkeys(("personal_data", "pii", "privacy", "个人信息", "隐私"), Concern.PRIVACY),
        **dict.fromkeys(("bias", "discrimination", "fairness"), Concern.FAIRNESS),
        **dict.fromkeys(("公平", "偏见", "歧视"), Concern.FAIRNESS),
    }
)
"""Categories by name. One that is not here has no concern: the plan then says only what the value's
kind says."""

_FILTERABLE = frozenset({Concern.FACTS, Concern.HARM, Concern.PRIVACY, Concern.FAIRNESS})

_BY_KIND: Mapping[ValueKind, Mapping[Place, Suitability]] = MappingProxyType(
    {
        ValueKind.FIXED: {
            Place.PRETRAINING: Suitability(
                Fit.POSSIBLE, "data can be filtered for facts, harm, privacy and fairness alone"
            ),
            Place.SFT: Suitability(
                Fit.RECOMMENDED, "demonstrations show what following it looks like"
            ),
            Place.REWARD: Suitability(
                Fit.RECOMMENDED, "preferences weigh it against other values, and it does not change"
            ),
            Place.INFERENCE: Suitability(
                Fit.POSSIBLE, "a second line of defence behind what was trained"
            ),
            Place.TOOLS: Suitability(Fit.POSSIBLE, "tools check facts, and little else"),
        },
        ValueKind.CUSTOMISABLE: {
            Place.PRETRAINING: Suitability(Fit.UNSUITED, "one corpus serves every tenant"),
            Place.SFT: Suitability(
                Fit.POSSIBLE, "teaches to follow such wishes when told, not the wish itself"
            ),
            Place.REWARD: Suitability(
                Fit.POSSIBLE, "teaches to follow such wishes when told, not the wish itself"
            ),
            Place.INFERENCE: Suitability(
                Fit.RECOMMENDED, "the prompt says it for the tenant who wants it"
            ),
            Place.TOOLS: Suitability(Fit.UNSUITED, "a wish is neither true nor false"),
        },
        ValueKind.CHANGING: {
            Place.PRETRAINING: Suitability(Fit.UNSUITED, "what was learned cannot be revoked"),
            Place.SFT: Suitability(Fit.UNSUITED, "what was learned cannot be revoked"),
            Place.REWARD: Suitability(Fit.UNSUITED, "what was learned cannot be revoked"),
            Place.INFERENCE: Suitability(
                Fit.RECOMMENDED, "retrieved by date and jurisdiction, and revoked by moving a tag"
            ),
            Place.TOOLS: Suitability(
                Fit.POSSIBLE, "claims about it can be checked against its own text"
            ),
        },
    }
)


def concern_of(value: ValueSpec) -> Concern | None:
    """What a value is about, by the name of its category; None where that says nothing."""
    name = value.category.strip().casefold().replace(" ", "_").replace("-", "_")
    return _CATEGORIES.get(name)


def suitability(value: ValueSpec) -> dict[Place, Suitability]:
    """How well each place suits a value."""
    found = dict(_BY_KIND[ValueKind(value.kind)])
    concern = concern_of(value)
    if value.kind == ValueKind.FIXED and concern in _FILTERABLE:
        found[Place.PRETRAINING] = Suitability(
            Fit.RECOMMENDED, f"training data can be filtered for {concern}"
        )
    if value.kind == ValueKind.FIXED and concern is Concern.FACTS:
        found[Place.TOOLS] = Suitability(
            Fit.RECOMMENDED, "search, evaluation and execution check what a reply claims"
        )
    return found
