"""A policy that follows a script: each answer is a function of its prompt and seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import pytest

from plumbline.curation.synthesis.generator import Generation, GenerationRequest

_VERBS = ("Describe", "Compare", "Explain", "Invent", "Summarise", "Rank", "Criticise", "Defend")
_THINGS = (
    "the habits of otters",
    "three medieval trade routes",
    "a recipe with lentils and lemon",
    "the rules of curling to a newcomer",
    "how tides follow the moon",
    "a quarrel between two neighbours over a hedge",
    "why bread rises and pancakes do not",
    "the plot of an opera nobody has written",
    "ways to fall asleep on a night train",
    "an honest advertisement for a wet island",
)
_CHINESE_VERBS = ("描述", "比较", "解释", "构思", "总结", "评价")
_CHINESE_THINGS = (
    "水獭的生活习性",
    "三条古代商路的兴衰",
    "一道用扁豆和柠檬做的菜",
    "冰壶的基本规则",
    "潮汐与月亮的关系",
    "邻居之间为篱笆发生的争吵",
    "面包为什么会膨胀",
)


class ScriptedGenerator:
    """Answers by what a prompt asks; counts the calls."""

    policy_id = "policy-of-the-test"

    def __init__(self, overrides: dict[str, Callable[[str, random.Random], str]]) -> None:
        self._overrides = overrides
        self.prompts: list[str] = []
        self.temperatures: list[float | None] = []

    def generate(
        self, requests: Sequence[GenerationRequest], *, temperature: float | None = None
    ) -> list[Generation]:
        self.temperatures.append(temperature)
        return [self._answer(request) for request in requests]

    def _answer(self, request: GenerationRequest) -> Generation:
        prompt = request.messages[-1].content
        self.prompts.append(prompt)
        rng = random.Random(request.seed)
        # Overrides are looked for first, whatever else the prompt says.
        for marker, write in (*self._overrides.items(), *_SCRIPT.items()):
            if marker in prompt:
                text = write(prompt, rng)
                return Generation(text.removesuffix("[cut]"), finished=not text.endswith("[cut]"))
        return Generation(f"A considered answer, number {rng.randrange(10**6)}, in full.")


def _instructions(prompt: str, rng: random.Random) -> str:
    first = int(re.findall(r"^(\d+)\.$", prompt, re.MULTILINE)[-1])
    items = [
        f"Classify the mood of a diary entry about {rng.choice(_THINGS)}.",
        "Draw a picture of a horse.",
        *(f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}." for _ in range(4)),
    ]
    return " " + "\n".join(f"{first + i}. {item}" for i, item in enumerate(items))[3:]


def _chinese_instructions(prompt: str, rng: random.Random) -> str:
    items = [f"请{rng.choice(_CHINESE_VERBS)}{rng.choice(_CHINESE_THINGS)}。" for _ in range(4)]
    return "下面是新的任务：\n" + "\n".join(f"{9 + i}、{item}" for i, item in enumerate(items))


_SCRIPT: dict[str, Callable[[str, random.Random], str]] = {
    "new task instructions": _instructions,
    "条新的任务指令": _chinese_instructions,
    "finite output labels": lambda prompt, _: (
        " Yes" if "Task: Classify" in prompt[-150:] else " No."
    ),
    "是分类任务吗": lambda *_: "否",
    "the label first": lambda *_: (
        " calm\nInput: I watched the rain all day.\n\nExample 2\nLabel: angry\nInput: They lied."
    ),
    "for the task below": lambda _, rng: (
        f" <none>\nOutput: Here is what I know, point {rng.randrange(10**6)} first."
    ),
    "下面的任务写出": lambda _, rng: f"<无>\n输出：要点如下，第{rng.randrange(10**6)}条最重要。",
    "act as a prompt rewriter": lambda prompt, rng: (
        prompt.split("#Given Prompt#:\n")[1].split("\n\n#Rewritten")[0]
        + f" Give at least {rng.randrange(2, 900)} sources and weigh them against each other."
    ),
    "act as a prompt creator": lambda _, rng: (
        f"Outline a museum of {rng.choice(_THINGS)} for visitors aged {rng.randrange(5, 99)}."
    ),
    "Equal or Different": lambda *_: "Different",
    "提示改写者": lambda prompt, rng: (
        prompt.split("#给定提示#：\n")[1].split("\n\n#改写")[0]
        + f"请至少列举{rng.randrange(2, 900)}个来源并相互比较。"
    ),
    "提示创作者": lambda _, rng: f"请为{rng.randrange(5, 99)}岁的参观者设计一座博物馆的路线。",
    "相同或不同": lambda *_: "不同",
}


@pytest.fixture
def scripted() -> Callable[..., ScriptedGenerator]:
    """Makes scripted generators; arguments replace or add answers by a marker of the prompt."""
    return lambda overrides=None: ScriptedGenerator(overrides or {})
