"""`serve-openai`: policies for programs that speak OpenAI's API."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from plumbline.cli.console import load_settings, say, served_reference
from plumbline.core.errors import FailedPreconditionError


def register(app: typer.Typer) -> None:
    app.command("serve-openai", rich_help_panel="Services")(serve_openai)


def serve_openai(
    policy: Annotated[
        str,
        typer.Argument(help="What the model `default` is: directory, artifact id or tag."),
    ] = "",
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Port 0 takes a free one.")
    ] = "127.0.0.1:8000",
    target: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A sampler that runs elsewhere.")
    ] = "",
) -> None:
    """Answer OpenAI's API over HTTP until Ctrl-C, from the running sampler or one of its own."""
    from plumbline.cli.local_services import with_local_services
    from plumbline.core.settings import Settings

    try:
        from plumbline.openai_front.config import SERVICE, configured_front
        from plumbline.openai_front.server import serve_front
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise FailedPreconditionError(
            f"{error.name} is not installed; install the extra `plumbline[http]`"
        ) from error
    settings = load_settings()
    # The listener is this machine's whatever the context: its certificates are of other servers.
    own = Settings.from_environment()
    own = own.model_copy(update={"listens": {**own.listens, SERVICE: listen}})
    config = configured_front(os.environ)
    if policy:
        config = config.model_copy(update={"default_policy": served_reference(policy)})
    scheme = "http" if own.tls_cert is None else "https"
    with with_local_services(settings, () if target else ("sampler",)) as equipped:
        serve_front(
            own,
            config,
            target=target or None,
            client_settings=equipped,
            on_listening=lambda address: say(f"base_url is {scheme}://{address}/v1"),
        )
