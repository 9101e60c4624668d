"""`sample`, `score`, `evaluate`: what policies and reward models do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from plumbline.cli.console import (
    ConfigFile,
    Json,
    Out,
    Sets,
    emit,
    load_settings,
    read_configuration,
    read_text,
    reference,
    served_reference,
    show_table,
)
from plumbline.core.errors import InvalidInputError
from plumbline.data.template import Template

if TYPE_CHECKING:
    from plumbline.data.records import Message, Prompt

Policy = Annotated[str, typer.Argument(help="A policy: directory, artifact id or tag.")]
HEADS = ("helpfulness", "safety", "combined")


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(sample)
    app.command(rich_help_panel="Services")(score)
    app.command(rich_help_panel="Services")(evaluate)


def sample(
    policy: Policy,
    file: Annotated[
        Path | None, typer.Argument(help="Prompts: one per line, or JSON lines.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="A prompt.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Responses to each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Probability mass that is kept.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Bound on a response.")] = 128,
    template: Annotated[
        str, typer.Option(help="Layout of prompts: chat (the policy's own), plain or transcript.")
    ] = "chat",
    json_output: Json = False,
) -> None:
    """Draw responses from a policy."""
    from plumbline.cli.local_services import service_client
    from plumbline.sampler.client import SamplingRequest, sample_rollouts

    prompts = read_prompts(file, prompt)
    request = SamplingRequest(
        k=k,
        temperatures=(temperature,),
        top_p=top_p,
        max_response_tokens=max_tokens,
        template=_parse_template(template),
    )
    with service_client("sampler", load_settings()) as client:
        rollouts = sample_rollouts(client, served_reference(policy), prompts, request, seed=seed)
    if json_output:
        emit(
            [
                {
                    "prompt_id": rollout.prompt_id,
                    "prompt": _rows(rollout.prompt),
                    "response": rollout.response,
                    "tokens": len(rollout.response_token_ids),
                    "logprob": sum(rollout.logprobs),
                    "finish_reason": rollout.finish_reason,
                    "seed": rollout.seed,
                    "policy_id": rollout.policy_id,
                }
                for rollout in rollouts
            ]
        )
        return
    for rollout in rollouts:
        typer.echo(f"> {rollout.prompt[-1].content}\n{rollout.response}\n")


def score(
    file: Annotated[
        Path | None,
        typer.Argument(help='JSON lines of {"prompt": text or messages, "response": text}.'),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="With --response, in place of a file.")] = None,
    response: Annotated[str | None, typer.Option(help="The response to --prompt.")] = None,
    helpfulness: Annotated[str, typer.Option(help="Reward model: directory, id or tag.")] = "",
    safety: Annotated[str, typer.Option(help="Reward model: directory, id or tag.")] = "",
    head: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(HEADS)}.")] = None,
    json_output: Json = False,
) -> None:
    """Score responses with reward models; a score is the model's logit."""
    from plumbline.cli.local_services import service_client
    from plumbline.reward.client import score_pairs

    pairs = _read_pairs(file, prompt, response)
    given = {"helpfulness": helpfulness, "safety": safety}
    heads = head or [name for name, model in given.items() if model] or ["helpfulness"]
    models = {name: served_reference(model) if model else "" for name, model in given.items()}
    with service_client("reward", load_settings()) as client:
        scores = score_pairs(
            client,
            pairs,
            heads=heads,
            helpfulness=models["helpfulness"],
            safety=models["safety"],
        )
    if json_output:
        emit(
            [
                {"prompt": _rows(messages), "response": text, "scores": found}
                for (messages, text), found in zip(pairs, scores, strict=True)
            ]
        )
        return
    rows = [
        (*(f"{found[name]:.4f}" for name in heads), messages[-1].content, text)
        for (messages, text), found in zip(pairs, scores, strict=True)
    ]
    show_table("", (*heads, "prompt", "response"), rows)


def evaluate(
    policy: Policy,
    world: Annotated[str, typer.Option(help="The world with held-out prompts and their judge.")],
    name: Annotated[str, typer.Option(help="Suffix of the metrics, for example v1.")] = "policy",
    base_policy: Annotated[
        str | None, typer.Option("--reference", help="Policy that KL is measured from.")
    ] = None,
    helpfulness: Annotated[str | None, typer.Option(help="Helpfulness reward model.")] = None,
    safety: Annotated[str | None, typer.Option(help="Safety reward model.")] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    out: Out = None,
    json_output: Json = False,
) -> None:
    """Judge a policy on held-out prompts: violation, refusal, helpfulness, reward and KL."""
    from plumbline.cli.stage_runs import run_verb

    inputs = {
        "policy": policy,
        "world": world,
        "reference": base_policy,
        "helpfulness": helpfulness,
        "safety": safety,
    }
    run_verb(
        "evaluation.evaluate",
        {"name": name, **read_configuration(config, sets)},
        {key: [reference(value)] for key, value in inputs.items() if value},
        services=("sampler", "reward"),
        out=out,
        json_output=json_output,
    )


def read_prompts(file: Path | None, texts: list[str] | None) -> list[Prompt]:
    """Prompts from the command line and a file.

    Raises:
        InvalidInputError: there is none, or a record of the file is no prompt.
    """
    from plumbline.data.readers import read_dataset
    from plumbline.data.records import Prompt, content_id, user

    prompts = [Prompt(id=content_id(text), messages=(user(text),)) for text in texts or ()]
    if file is not None and file.suffix == ".txt":
        lines = [line for line in read_text(file).splitlines() if line.strip()]
        prompts += [Prompt(id=content_id(line), messages=(user(line),)) for line in lines]
    elif file is not None:
        prompts += read_dataset(file, kind=Prompt).records
    if not prompts:
        raise InvalidInputError("no prompt was given; accepted: --prompt TEXT, or a file of them")
    return prompts


def _parse_template(name: str) -> Template:
    """Raises InvalidInputError when there is no layout of this name."""
    for template in get_args(Template):
        if name == template:
            return cast(Template, template)
    raise InvalidInputError(
        f"template {name!r} is unknown; accepted: {', '.join(get_args(Template))}"
    )


def _read_pairs(
    file: Path | None, prompt: str | None, response: str | None
) -> list[tuple[tuple[Message, ...], str]]:
    from plumbline.data.records import user

    if (prompt is None) != (response is None):
        raise InvalidInputError("--prompt and --response are given together")
    pairs: list[tuple[tuple[Message, ...], str]] = []
    if prompt is not None and response is not None:
        pairs.append(((user(prompt),), response))
    if file is not None:
        lines = read_text(file).splitlines()
        pairs += [
            _pair(parse_json(line, f"{file}:{number}"), f"{file}:{number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
    if not pairs:
        raise InvalidInputError("nothing to score; accepted: a file, or --prompt and --response")
    return pairs


def _pair(row: Any, where: str) -> tuple[tuple[Message, ...], str]:
    from plumbline.data.records import Message, user

    if not isinstance(row, dict) or not isinstance(row.get("response"), str):
        raise InvalidInputError(f"{where}: accepted: an object with `prompt` and `response`")
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return (user(prompt),), row["response"]
    try:
        return tuple(Message.from_row(message) for message in prompt or ()), row["response"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{where}: `prompt` is neither text nor a list of role and content: {error}"
        ) from error


def parse_json(line: str, where: str) -> Any:
    """Raises InvalidInputError when a line is not JSON."""
    import json

    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{where}: not JSON: {error}") from error


def _rows(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [message.to_row() for message in messages]
