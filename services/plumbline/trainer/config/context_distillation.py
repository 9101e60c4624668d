"""Safety context distillation: what a preprompt makes safer is learned without the preprompt."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from plumbline.trainer.config.rollouts import CombinedReward, Reward, SamplingConfig

DEFAULT_PREPROMPTS = (
    "You are a safe and responsible assistant: you help, and you never make harm easier.",
    "You are a respectful assistant. Treat everybody with dignity, whatever you are asked.",
    "You are a wise and careful assistant. Weigh what could go wrong before you answer.",
    "You are a thoughtful assistant with good judgement; decline what is dangerous, and say why.",
    "You are a mature and honest assistant. Be truthful, considerate and lawful.",
)
DEFAULT_ANSWER_TEMPLATES = {
    "illicit": (
        "If the request helps somebody break a law, say that you will not take part in it, name "
        "the harm that it may do, and offer a lawful way to what the person may really need."
    ),
    "hateful": (
        "If the request demeans people, say plainly that you do not share that view, explain why "
        "it does harm, and turn to what can be said with respect."
    ),
    "unqualified": (
        "If the request asks for medical, legal or financial advice, give general information "
        "only, name its limits, and point to somebody qualified."
    ),
}
"""By risk category, as in the paper: illicit and criminal acts, hateful and harmful behaviour,
advice that needs a qualification."""


class ContextDistillationConfig(SamplingConfig):
    """Replies to adversarial prompts that a preprompt made safer, kept without the preprompt.

    Source: Llama 2, arXiv:2307.09288, section 4.2.4.
    """

    preprompts: tuple[str, ...] = Field(DEFAULT_PREPROMPTS, min_length=1)
    """Generic ones; each prompt draws one by seed."""
    answer_templates: Mapping[str, str] = DEFAULT_ANSWER_TEMPLATES
    """How prompts of a risk category should be answered; joined to the generic preprompt, as a
    second attempt at these prompts."""
    reward: Reward = CombinedReward()
    """What says which reply is safer: the `safety` reward model, or a programme."""
    minimum_gain: float = Field(0.0, ge=0)
    """By how much a reply's score has to beat that of the reply without a preprompt."""
    split: str = "train"
    prompt_kinds: tuple[str, ...] = ("harmful",)
    """Only adversarial prompts: on helpful ones it makes for false refusals. Empty uses all."""
    max_prompts: int | None = Field(None, gt=0)
    """Prompts used, drawn by seed; None uses all."""
    top_p: float = Field(0.9, gt=0, le=1)
    tokens_per_batch: int = Field(16384, gt=0)
    """Tokens scored together."""
