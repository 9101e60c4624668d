"""What lines that begin with `/` do in a chat."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.cli.chat_session import ChatSession, Command
from plumbline.cli.chat_votes import append_row, check_jsonl
from plumbline.cli.console import short
from plumbline.core.errors import InvalidInputError
from plumbline.core.validation import parse_config

ListPolicies = Callable[[], list[str]]
"""Tags of policies in the store, which no sampler need have loaded."""


@dataclass(frozen=True, slots=True)
class SlashCommands:
    """The commands of a chat.

    Args:
        stored: tags of policies that could be loaded.
    """

    stored: ListPolicies

    def table(self) -> dict[str, Command]:
        """By their first word, in the order of `/help`."""
        return {
            "/help": show_help,
            "/clear": clear,
            "/system": set_system,
            "/policy": set_policy,
            "/policies": self.show_policies,
            "/seed": set_seed,
            "/temperature": set_temperature,
            "/save": save,
            "/exit": leave,
        }

    def show_policies(self, session: ChatSession, argument: str) -> None:
        """`/policies`: what is talked to, what the store has a tag for, what is in memory."""
        session.screen.note(f"talking to {_names(session)}")
        for tag in self.stored():
            session.screen.note(f"  stored     {tag}")
        for policy_id, named in session.sampler.loaded():
            shown = short_id(policy_id) + (f"  {named}" if named != policy_id else "")
            session.screen.note(f"  in memory  {shown}")


_HELP = """\
/clear             forget the conversation; the system message stays
/system [TEXT]     set the system message, show it, or remove it with /system ""
/policy REF [REF]  talk to another policy: a directory, artifact id or tag; two to vote
/policies          list policies in memory and in the store
/seed N            draw from another seed
/temperature X     0 takes the likeliest token
/save FILE.jsonl   add the conversation to a file, as a demonstration
/exit              leave; Ctrl-D too. Ctrl-C stops an answer
With two policies: vote a, b or skip; `a 2` or `a 2 both` says grade and safety on one line."""


def show_help(session: ChatSession, argument: str) -> None:
    session.screen.note(_HELP)


def clear(session: ChatSession, argument: str) -> None:
    session.dialogue.exchanges.clear()
    session.screen.note("the conversation is forgotten")


def set_system(session: ChatSession, argument: str) -> None:
    if argument in ('""', "''"):
        session.dialogue.system = ""
    elif argument:
        session.dialogue.system = argument
    now = session.dialogue.system
    session.screen.note(f"system: {now}" if now else "there is no system message")


def set_policy(session: ChatSession, argument: str) -> None:
    """Loads before it changes, so that a wrong reference leaves the chat as it was."""
    try:
        names = shlex.split(argument)
    except ValueError as error:
        raise InvalidInputError(f"/policy {argument}: {error}") from error
    if len(names) > 2:
        raise InvalidInputError(f"/policy got {len(names)} references; accepted: one or two")
    if len(names) == 2:
        # A place for votes that cannot be written to is told before there is a vote.
        session.vote_file()
    if names:
        session.policies = tuple(session.sampler.policy(name) for name in names)
    session.screen.note(f"talking to {_names(session)}")


def set_seed(session: ChatSession, argument: str) -> None:
    _set(session, "seed", argument)
    if argument:
        session.begin_seeds_again()


def set_temperature(session: ChatSession, argument: str) -> None:
    _set(session, "temperature", argument)


def save(session: ChatSession, argument: str) -> None:
    if not argument:
        raise InvalidInputError("/save needs a file; accepted: /save FILE.jsonl")
    if not session.dialogue.exchanges:
        raise InvalidInputError("nothing was said yet, so there is nothing to save")
    path = check_jsonl(Path(argument))
    append_row(path, session.dialogue.record().to_row())
    session.screen.note(f"added {len(session.dialogue.exchanges)} exchanges to {path}")


def leave(session: ChatSession, argument: str) -> None:
    session.leaving = True


def _set(session: ChatSession, name: str, text: str) -> None:
    values: dict[str, Any] = session.parameters.model_dump()
    if text:
        session.parameters = parse_config(type(session.parameters), {**values, name: text})
    session.screen.note(f"{name}: {getattr(session.parameters, name)}")


def short_id(policy_id: str) -> str:
    """Enough of an id to recognise it, with the prefix of directories."""
    prefix, separator, digest = policy_id.rpartition(":")
    return f"{prefix}{separator}{short(digest)}"


def _names(session: ChatSession) -> str:
    return " and ".join(
        f"{policy.name} ({short_id(policy.id)}, {policy.context_length} tokens)"
        for policy in session.policies
    )
