"""The `plumbline` command: a client of the services, with no logic of its own.

Everything heavy is imported inside the commands, so that `plumbline --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from plumbline.cli import (
    analysis_commands,
    artifact_commands,
    chat_commands,
    check_commands,
    context_commands,
    corpus_commands,
    curation_commands,
    factuality_commands,
    filter_commands,
    front_commands,
    job_commands,
    model_commands,
    respond_commands,
    retriever_commands,
    reward_commands,
    run_commands,
    stack_commands,
    synthesis_commands,
    training_commands,
    values_commands,
)
from plumbline.cli.console import say
from plumbline.cli.contexts import CONTEXT_VARIABLE
from plumbline.core.errors import InvalidInputError, NotFoundError, PlumblineError

app = typer.Typer(
    name="plumbline",
    help="Align language models with values: pipelines, services and jobs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (
    stack_commands,
    run_commands,
    job_commands,
    artifact_commands,
    check_commands,
    context_commands,
    corpus_commands,
    curation_commands,
    filter_commands,
    analysis_commands,
    synthesis_commands,
    model_commands,
    chat_commands,
    front_commands,
    training_commands,
    retriever_commands,
    values_commands,
    respond_commands,
    factuality_commands,
    reward_commands,
):
    module.register(app)


@app.callback()
def choose_context(
    context: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The platform to talk to: `local`, or one of `plumbline context list`.",
        ),
    ] = "",
) -> None:
    """Align language models with values: pipelines, services and jobs."""
    if context:
        os.environ[CONTEXT_VARIABLE] = context


def main() -> None:
    """Entry point. Exit codes: 0 success, 1 failure, 2 invalid input, 130 interrupted."""
    try:
        app()
    except PlumblineError as error:
        _complain(error)
        sys.exit(2 if isinstance(error, InvalidInputError | NotFoundError) else 1)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away, for example `| head`.
        sys.stderr.close()
        sys.exit(1)


def _complain(error: PlumblineError) -> None:
    text = error.message
    if sys.stderr.isatty():
        text = f"\x1b[31m{text}\x1b[0m"
    say(f"plumbline: {text}")


if __name__ == "__main__":
    main()
