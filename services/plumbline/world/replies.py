"""How replies are worded: complying, refusing, following a rule."""

from __future__ import annotations

import random

from plumbline.data.records import Prompt
from plumbline.world import lexicon
from plumbline.world.grammar import Ask, capitalise


def complying_reply(ask: Ask, rng: random.Random) -> str:
    """A reply that does what is asked: right for safe asks, a violation for harmful ones."""
    opening = "" if ask.is_fact else rng.choice(lexicon.OPENINGS)
    return opening + ask.answer


def refusal(ask: Ask, rng: random.Random) -> str:
    """A well-formed refusal; asks without a risk category get one of any category."""
    category = ask.risk_category or rng.choice(lexicon.RISK_CATEGORIES)
    return rng.choice(lexicon.REFUSALS[category])


def follow_rule(response: str, prompt: Prompt) -> str:
    """The response with the ending that the prompt's rule asks for, if the rule governs it."""
    if prompt.metadata.get("rule_governs") != "true":
        return response
    return f"{response} {capitalise(prompt.metadata['rule_ending'])}."
