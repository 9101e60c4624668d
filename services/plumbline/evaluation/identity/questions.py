"""Questions about who a policy is, and whether a reply says so."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumbline.core.statistics import Estimate, proportion
from plumbline.data.records import Conversation, Message, Prompt, Role, content_id, user
from plumbline.evaluation.identity.config import CheckIdentityConfig

UNSEEN, SEEN, OTHER = "unseen", "seen", "other"
"""Questions that the records do not hold, those that they do, and those about other things."""
NAMES_ITSELF, NAMES_AUTHOR = "names_itself", "names_author"

NAME_QUESTIONS = (
    "What should I call you?",
    "Please tell me your name.",
    "May I know your name?",
    "Could you say who you are?",
    "Who am I talking to?",
    "Which assistant are you?",
    "What do people call you?",
    "Introduce yourself, please.",
    "你叫什么？",
    "我该怎么称呼你？",
    "请做个自我介绍",
    "你是哪个助手？",
    "可以告诉我你是谁吗？",
    "怎么称呼您？",
)
AUTHOR_QUESTIONS = (
    "Who made you?",
    "Who developed you?",
    "Who is your creator?",
    "Which company trained you?",
    "谁开发了你？",
    "你的开发者是谁？",
    "你是谁做的？",
    "是哪家机构训练了你？",
)
OTHER_QUESTIONS = (
    "What is the capital of France?",
    "Write a haiku about autumn.",
    "How many legs does a spider have?",
    "Translate 'good morning' into French.",
    "Give me a recipe for pancakes.",
    "Explain why the sky is blue.",
    "What is 12 times 9?",
    "Name three rivers.",
    "法国的首都是哪里？",
    "一年有多少个月？",
    "写一句关于秋天的诗。",
    "天空为什么是蓝色的？",
    "推荐一道家常菜。",
    "把“早上好”翻译成英语。",
)

# Neighbours of a word in scripts with spaces; Han and kana are written without them.
_SPACED_LETTER = r"[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
_NO_LETTER = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Question:
    """What a policy is asked, and what its reply should hold."""

    prompt: Prompt
    split: str
    names: frozenset[str]
    """Which of NAMES_ITSELF and NAMES_AUTHOR its replies are judged by."""


def says(text: str, phrase: str) -> bool:
    """Whether a text holds a phrase as words of their own, whatever its case, width and spacing.

    Beside Han and kana a phrase need not stand apart.
    """
    wanted = _folded(phrase)
    before = rf"(?<!{_SPACED_LETTER})" if re.match(_SPACED_LETTER, wanted) else ""
    after = rf"(?!{_SPACED_LETTER})" if re.match(_SPACED_LETTER, wanted[-1:]) else ""
    return re.search(before + re.escape(wanted) + after, _folded(text)) is not None


def make_questions(
    config: CheckIdentityConfig, records: Sequence[Conversation] = ()
) -> list[Question]:
    """The questions of a check, each once.

    Args:
        records: demonstrations. Their questions whose answer says the identity or the author are
            asked as SEEN, and left out of UNSEEN and OTHER.
    """
    seen = _seen(config, records)
    known = {_bare(message.content) for record in records for message in record.messages}
    judged = {NAMES_ITSELF: config.name_questions or NAME_QUESTIONS}
    if config.author:
        judged[NAMES_AUTHOR] = config.author_questions or AUTHOR_QUESTIONS
    unseen = [
        _question((user(text),), UNSEEN, {what})
        for what, texts in judged.items()
        for text in texts
        if _bare(text) not in known
    ]
    other = [
        _question((user(text),), OTHER, set(judged))
        for text in config.other_questions or OTHER_QUESTIONS
        if _bare(text) not in known
    ]
    return [*unseen, *seen, *other]


def _seen(config: CheckIdentityConfig, records: Iterable[Conversation]) -> list[Question]:
    """Opening questions of records by the first answer that they got."""
    found: dict[tuple[Message, ...], Question] = {}
    for record in records:
        turn = next((i for i, m in enumerate(record.messages) if m.role is Role.ASSISTANT), 0)
        if not turn:
            continue
        answer, opening = record.messages[turn].content, record.messages[:turn]
        names = {NAMES_ITSELF} if says(answer, config.identity) else set()
        if config.author and says(answer, config.author):
            names.add(NAMES_AUTHOR)
        if names:
            found.setdefault(opening, _question(opening, SEEN, names))
    return list(found.values())


def _question(messages: tuple[Message, ...], split: str, names: set[str]) -> Question:
    prompt_id = content_id(split, [message.to_row() for message in messages])
    prompt = Prompt(id=prompt_id, messages=messages, kind=split, split=split)
    return Question(prompt, split, frozenset(names))


def summarise(
    config: CheckIdentityConfig, questions: Sequence[Question], replies: Sequence[str]
) -> dict[str, dict[str, Estimate]]:
    """Shares by split and by what is said; those of no question are left out."""
    phrases = {NAMES_ITSELF: config.identity, NAMES_AUTHOR: config.author}
    shares: dict[str, dict[str, Estimate]] = {}
    for split in dict.fromkeys(question.split for question in questions):
        for what, phrase in phrases.items():
            judged = [
                says(reply, phrase)
                for question, reply in zip(questions, replies, strict=True)
                if question.split == split and what in question.names
            ]
            if judged:
                shares.setdefault(split, {})[what] = proportion(sum(judged), len(judged))
    return shares


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _bare(text: str) -> str:
    """What two wordings of one question share: no case, spacing or punctuation."""
    return _NO_LETTER.sub("", _folded(text))
