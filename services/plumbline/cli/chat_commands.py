"""`chat`: talk to a policy, or vote between the answers of two."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import load_settings, say
from plumbline.core.errors import InvalidInputError

if TYPE_CHECKING:
    from plumbline.cli.chat_sampling import ChatParameters, ChatPolicy, ChatSampler
    from plumbline.core.settings import Settings

VOTES_FILE = "votes.jsonl"
HISTORY_FILE = "chat_history"
_MAX_DRAWN_SEED = 2**31


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(chat)


def chat(
    policy: Annotated[
        str,
        typer.Argument(help="Directory, artifact id or tag; else the running sampler's default."),
    ] = "",
    policy_b: Annotated[
        str, typer.Option("--policy-b", help="A second policy: vote between their answers.")
    ] = "",
    target: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A sampler that runs elsewhere.")
    ] = "",
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Probability mass that is kept.")] = 0.95,
    top_k: Annotated[int, typer.Option(help="Likeliest tokens kept; 0 keeps all.")] = 0,
    max_response_tokens: Annotated[int, typer.Option(help="Bound on an answer.")] = 512,
    seed: Annotated[int | None, typer.Option(help="Makes answers repeatable.")] = None,
    template: Annotated[
        str, typer.Option(help="Layout of prompts: chat (the policy's own), plain or transcript.")
    ] = "chat",
    save_votes: Annotated[
        Path | None,
        typer.Option(help="Where votes go, as JSON lines; votes.jsonl in the state directory."),
    ] = None,
) -> None:
    """Talk to a policy. Lines that begin with / are commands; /help lists them."""
    from plumbline.cli.chat_sampling import ChatParameters
    from plumbline.core.validation import parse_config

    parameters = parse_config(
        ChatParameters,
        {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "max_response_tokens": max_response_tokens,
            "seed": _drawn_seed() if seed is None else seed,
            "template": template,
        },
        where="chat",
    )
    if policy_b and not policy:
        raise InvalidInputError("--policy-b needs a first policy to be compared with")
    settings = _reaching(load_settings(), target)
    if not policy and settings.target("sampler") is None:
        raise InvalidInputError(
            "no policy is named and no sampler runs; accepted: `plumbline chat POLICY`, or "
            "`plumbline up` and a sampler with a default policy"
        )
    votes = save_votes or settings.state_dir / VOTES_FILE
    with _sampler(settings) as sampler:
        names = [policy, policy_b] if policy_b else [policy]
        policies = [sampler.policy(name) for name in names]
        _talk(sampler, policies, parameters, settings, system=system, votes=votes)


def _talk(
    sampler: ChatSampler,
    policies: list[ChatPolicy],
    parameters: ChatParameters,
    settings: Settings,
    *,
    system: str,
    votes: Path,
) -> None:
    import functools

    from plumbline.cli.chat_screen import Screen, open_lines
    from plumbline.cli.chat_session import ChatSession
    from plumbline.cli.chat_slash import SlashCommands
    from plumbline.cli.chat_votes import VoteFile

    vote_file = functools.cache(lambda: VoteFile(votes))
    if len(policies) > 1:
        # Found out now rather than after the first vote.
        vote_file()
    commands = SlashCommands(stored=functools.partial(_stored_policies, settings)).table()
    lines = open_lines(settings.state_dir / HISTORY_FILE, list(commands))
    session = ChatSession(
        sampler,
        lines,
        Screen(sys.stdout, sys.stderr),
        policies=policies,
        parameters=parameters,
        commands=commands,
        vote_file=vote_file,
        system=system,
    )
    names = " and ".join(policy.name for policy in policies)
    say(f"talking to {names}, seed {parameters.seed}; /help lists commands")
    session.run()


@contextlib.contextmanager
def _sampler(settings: Settings) -> Iterator[ChatSampler]:
    from plumbline.cli.chat_sampling import ChatSampler, check_answers
    from plumbline.cli.local_services import service_client

    address = settings.target("sampler")
    if address is None:
        say("no sampler runs; the policy is loaded in this process")
    with service_client("sampler", settings) as client:
        check_answers(client, address)
        yield ChatSampler(client)


def _stored_policies(settings: Settings) -> list[str]:
    from plumbline.core.artifacts import open_configured_store

    tags: dict[str, Any] = open_configured_store(settings).tags()
    return sorted(tag for tag in tags if tag.startswith("policy/"))


def _reaching(settings: Settings, target: str) -> Settings:
    if not target:
        return settings
    return settings.model_copy(update={"targets": {**settings.targets, "sampler": target}})


def _drawn_seed() -> int:
    """A seed of this chat's own; it is told, so that a chat can be repeated."""
    import secrets

    return secrets.randbelow(_MAX_DRAWN_SEED)
