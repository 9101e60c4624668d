"""Checks of a reply against rules whose demand can be read from their text.

A rule of another form is reported as not checkable rather than as followed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

from plumbline.retriever.embedders import normalise


class Verdict(StrEnum):
    """What a check found."""

    FOLLOWED = "followed"
    BROKEN = "broken"
    NOT_CHECKABLE = "not_checkable"


_QUOTED = r"[\"“'「]?(?P<words>.+?)[\"”'」]?[.。]?\s*$"


def _ends_with(reply: str, words: str) -> bool:
    return reply.rstrip(" .。!！").endswith(words.rstrip(" .。!！"))


def _starts_with(reply: str, words: str) -> bool:
    return reply.lstrip().startswith(words.rstrip(" .。!！"))


def _includes(reply: str, words: str) -> bool:
    return words in reply


def _avoids(reply: str, words: str) -> bool:
    return words not in reply


_CHECKS: tuple[tuple[re.Pattern[str], Callable[[str, str], bool]], ...] = (
    (
        re.compile(r"\bend (?:the|your|every) (?:reply|answer|response) with:? " + _QUOTED),
        _ends_with,
    ),
    (
        re.compile(
            r"\b(?:start|begin) (?:the|your|every) (?:reply|answer|response) with:? " + _QUOTED
        ),
        _starts_with,
    ),
    (re.compile(r"\b(?:always )?(?:mention|include):? " + _QUOTED), _includes),
    (re.compile(r"\bnever (?:mention|say|include):? " + _QUOTED), _avoids),
    (re.compile(r"以" + _QUOTED.replace(r"[.。]?\s*$", "") + r"结尾"), _ends_with),
)


def check_reply(rule_text: str, reply: str) -> Verdict:
    """Was the rule's demand met by the reply? Case and width of letters do not matter."""
    rule, said = normalise(rule_text), normalise(reply)
    # A ban would also match the looser pattern for a demand, so bans are looked for first.
    for pattern, holds in sorted(_CHECKS, key=lambda check: check[1] is not _avoids):
        match = pattern.search(rule)
        if match:
            return Verdict.FOLLOWED if holds(said, match["words"]) else Verdict.BROKEN
    return Verdict.NOT_CHECKABLE
