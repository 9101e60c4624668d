"""`context`: which platform the command talks to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.cli.console import Json, assignments, emit, say, show_table
from plumbline.cli.contexts import CONTEXT_VARIABLE
from plumbline.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError

Name = Annotated[str, typer.Argument(help="Name of the context; `local` is this machine.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Choose the platform that commands talk to: this machine's, one by address, or a "
        "release on a Kubernetes cluster.",
        no_args_is_help=True,
    )
    group.command("list")(list_contexts)
    group.command("use")(use_context)
    group.command("show")(show_context)
    group.command("add")(add_context)
    group.command("remove")(remove_context)
    app.add_typer(group, name="context", rich_help_panel="Platform")


def list_contexts(json_output: Json = False) -> None:
    """List the contexts; a star marks the one in force."""
    from plumbline.cli.contexts.config import LOCAL, contexts_path, read_contexts

    content = read_contexts(contexts_path(os.environ))
    chosen = _in_force()
    found = [
        {
            "name": name,
            "current": name == chosen,
            "where": "this machine" if name == LOCAL else content.get(name).where,
        }
        for name in content.names
    ]
    if json_output:
        emit(found)
        return
    rows = [("*" if one["current"] else "", one["name"], one["where"]) for one in found]
    show_table("", ("", "context", "where"), rows)


def use_context(name: Name) -> None:
    """Make a context the one that commands use from now on."""
    from plumbline.cli.contexts.config import LOCAL, contexts_path, read_contexts, write_contexts

    path = contexts_path(os.environ)
    content = read_contexts(path)
    if name != LOCAL:
        content.get(name)
    write_contexts(path, content.model_copy(update={"current": name}))
    say(f"context {name} is used from now on")
    if os.environ.get(CONTEXT_VARIABLE, name) != name:
        say(f"in this shell {CONTEXT_VARIABLE}={os.environ[CONTEXT_VARIABLE]} comes before it")


def show_context(
    name: Annotated[str, typer.Argument(help="Unset: the one in force.")] = "",
    json_output: Json = False,
) -> None:
    """Show what a context says."""
    from plumbline.cli.contexts.config import LOCAL, contexts_path, read_contexts

    chosen = name or _in_force()
    content = read_contexts(contexts_path(os.environ))
    values: dict[str, Any] = {}
    if chosen != LOCAL:
        values = content.get(chosen).model_dump(mode="json", exclude_defaults=True)
    if json_output:
        emit({"name": chosen, **values})
        return
    import yaml

    typer.echo(yaml.safe_dump({chosen: values or "this machine"}, sort_keys=True).rstrip())


def add_context(
    name: Name,
    namespace: Annotated[str, typer.Option(help="On a cluster: the release's namespace.")] = "",
    release: Annotated[str, typer.Option(help="On a cluster: the release.")] = "",
    kube_context: Annotated[str, typer.Option(help="Context of the kubeconfig.")] = "",
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig file.")] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOST:PORT", help="A service's address; may be repeated."),
    ] = None,
    gateway: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Answers for every service not named.")
    ] = "",
    ca: Annotated[
        Path | None, typer.Option(help="Authority of the services' certificates.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="Own certificate, for mTLS.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    server_name: Annotated[str, typer.Option(help="Name in the services' certificates.")] = "",
    token_file: Annotated[Path | None, typer.Option(help="File with the bearer token.")] = None,
    token_env: Annotated[str, typer.Option(help="Variable with the bearer token.")] = "",
    store: Annotated[str, typer.Option(metavar="URL", help="Store, as seen from here.")] = "",
    s3_endpoint: Annotated[str, typer.Option(metavar="URL", help="Where it answers.")] = "",
    s3_region: Annotated[str, typer.Option(help="Its region.")] = "",
    s3_ca: Annotated[Path | None, typer.Option(help="Authority of its certificate.")] = None,
    use: Annotated[bool, typer.Option("--use", help="Use it from now on.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Over one of this name.")] = False,
) -> None:
    """Add a context. It names files and variables with secrets, and holds none itself."""
    from plumbline.cli.contexts.config import (
        ContextsFile,
        contexts_path,
        read_contexts,
        write_contexts,
    )
    from plumbline.core.validation import parse_config

    if not namespace and (release or kube_context or kubeconfig):
        raise InvalidInputError("a context on a cluster needs --namespace")
    cluster = {
        "namespace": namespace,
        "release": release,
        "kube_context": kube_context,
        "kubeconfig": _absolute(kubeconfig),
    }
    tls = {
        "ca": _absolute(ca),
        "cert": _absolute(cert),
        "key": _absolute(key),
        "server_name": server_name,
    }
    added = {
        "cluster": _given(cluster) if namespace else None,
        "services": assignments(service, option="--service"),
        "gateway": gateway,
        "tls": _given(tls),
        "token_file": _absolute(token_file),
        "token_env": token_env,
        "store": store,
        "s3_endpoint": s3_endpoint,
        "s3_region": s3_region,
        "s3_ca": _absolute(s3_ca),
    }
    path = contexts_path(os.environ)
    content = read_contexts(path).model_dump(mode="json", exclude_defaults=True)
    contexts = content.setdefault("contexts", {})
    if name in contexts and not replace:
        raise AlreadyExistsError(f"there is a context {name!r} in {path}; --replace replaces it")
    contexts[name] = _given(added)
    if use:
        content["current"] = name
    write_contexts(path, parse_config(ContextsFile, content, where=f"context {name}"))
    say(f"context {name} is in {path}{' and is used from now on' if use else ''}")


def remove_context(name: Name) -> None:
    """Forget a context; where it was used, this machine is used from now on."""
    from plumbline.cli.contexts.config import LOCAL, contexts_path, read_contexts, write_contexts

    path = contexts_path(os.environ)
    content = read_contexts(path)
    if name not in content.contexts:
        raise NotFoundError(f"no context {name!r} in {path}")
    rest = {other: context for other, context in content.contexts.items() if other != name}
    current = LOCAL if content.current == name else content.current
    write_contexts(path, content.model_copy(update={"contexts": rest, "current": current}))
    say(f"context {name} is removed")


def _in_force() -> str:
    from plumbline.cli.contexts.config import LOCAL, chosen_context

    chosen = chosen_context(os.environ)
    return chosen[0] if chosen else LOCAL


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _absolute(path: Path | None) -> str:
    return str(path.expanduser().absolute()) if path else ""
