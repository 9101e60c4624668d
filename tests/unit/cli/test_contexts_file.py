"""The contexts file: what it may say, which context is in force, and the commands that write it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline.cli.contexts.config import (
    ContextsFile,
    chosen_context,
    contexts_path,
    read_contexts,
    write_contexts,
)
from plumbline.cli.main import app
from plumbline.core.errors import (
    AlreadyExistsError,
    ConfigError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)

LAB = {"services": {"pipeline": "lab:50051"}}
PROD = {"cluster": {"namespace": "plumb"}}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The contexts file of this test, in a shell that names no context."""
    file = tmp_path / "config" / "contexts.yaml"
    monkeypatch.setenv("PLUMBLINE_CONTEXTS_FILE", str(file))
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PLUMBLINE_CONTEXT", "")
    return file


@pytest.fixture
def plumbline(path: Path) -> Callable[..., str]:
    """Runs the command in this process; its stdout."""

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def parsed(**content: Any) -> ContextsFile:
    return ContextsFile.model_validate(content)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PLUMBLINE_CONTEXTS_FILE": "/a/b.yaml", "XDG_CONFIG_HOME": "/x"}, "/a/b.yaml"),
        ({"XDG_CONFIG_HOME": "/x"}, "/x/plumbline/contexts.yaml"),
        ({}, str(Path.home() / ".config/plumbline/contexts.yaml")),
    ],
)
def test_where_the_file_is(environment: dict[str, str], expected: str) -> None:
    assert str(contexts_path(environment)) == expected


def test_a_context_is_chosen_by_the_variable_before_the_file(path: Path) -> None:
    environment = {"PLUMBLINE_CONTEXTS_FILE": str(path)}
    assert chosen_context(environment) is None
    write_contexts(path, parsed(current="lab", contexts={"lab": LAB, "prod": PROD}))

    assert chosen_context(environment) == ("lab", read_contexts(path).get("lab"))
    named = chosen_context({**environment, "PLUMBLINE_CONTEXT": "prod"})
    assert named is not None and named[0] == "prod"
    assert chosen_context({**environment, "PLUMBLINE_CONTEXT": "local"}) is None
    with pytest.raises(NotFoundError, match=r"'pord' \(did you mean 'prod'\?\); accepted: local"):
        chosen_context({**environment, "PLUMBLINE_CONTEXT": "pord"})


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({}, "neither is"),
        ({**LAB, **PROD}, "both are given"),
        ({"services": {"sampl": "h:1"}}, "services.sampl"),
        ({"services": {"sampler": "two words"}}, "pattern"),
        ({**LAB, "tls": {"cert": "/c.pem"}}, r"cert=/c.pem and key=None"),
        ({**LAB, "token_file": "/t", "token_env": "T"}, "exclude each other"),
        ({**LAB, "store": "http://x"}, "store"),
        ({**LAB, "token": "secret"}, "unknown key"),
        ({"cluster": {"namespace": "Bad_Name"}}, "namespace"),
        ({"cluster": {"release": "x"}}, "namespace"),
    ],
)
def test_what_a_context_may_not_say(path: Path, context: dict[str, Any], message: str) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"contexts": {"lab": context}}))

    with pytest.raises(ConfigError, match=message):
        read_contexts(path)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "current: lab\n", "contexts: {local: {}}\n"])
def test_a_file_that_is_no_contexts_file(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"contexts\.yaml"):
        read_contexts(path)


def test_what_is_written_is_read_back_and_private(path: Path) -> None:
    content = parsed(current="prod", contexts={"lab": LAB, "prod": PROD})

    write_contexts(path, content)

    assert read_contexts(path) == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["contexts.yaml"]


def test_home_is_written_out_in_paths(path: Path) -> None:
    file = {**LAB, "token_file": "~/token", "tls": {"ca": "~/ca.pem"}}

    found = parsed(contexts={"lab": file}).get("lab")

    assert (found.token_file, found.tls.ca) == (Path.home() / "token", Path.home() / "ca.pem")


def test_jobs_are_the_pipeline_services_and_a_gateway_answers_for_the_rest() -> None:
    context = parsed(contexts={"lab": {**LAB, "gateway": "gw:443"}}).get("lab")

    assert [context.target(name) for name in ("pipeline", "jobs", "reward")] == [
        "lab:50051",
        "lab:50051",
        "gw:443",
    ]


def test_commands_add_use_show_and_remove(plumbline: Callable[..., str], path: Path) -> None:
    plumbline("context", "add", "lab", "--service", "pipeline=lab:1", "--token-env", "LAB_TOKEN")
    plumbline("context", "add", "prod", "--namespace", "plumb", "--kube-context", "eu", "--use")

    assert json.loads(plumbline("context", "list", "--json")) == [
        {"name": "local", "current": False, "where": "this machine"},
        {"name": "lab", "current": False, "where": "pipeline=lab:1"},
        {"name": "prod", "current": True, "where": "release plumbline in plumb of eu"},
    ]
    assert json.loads(plumbline("--context", "lab", "context", "show", "--json")) == {
        "name": "lab",
        "services": {"pipeline": "lab:1"},
        "token_env": "LAB_TOKEN",
    }
    plumbline("context", "use", "local")
    assert read_contexts(path).current == "local"
    plumbline("context", "use", "prod")
    plumbline("context", "remove", "prod")
    assert read_contexts(path) == parsed(
        contexts={"lab": {"services": {"pipeline": "lab:1"}, "token_env": "LAB_TOKEN"}}
    )


def test_what_leads_to_a_store_is_kept(plumbline: Callable[..., str], path: Path) -> None:
    store = ("--store", "s3://lab", "--s3-endpoint", "https://s3.lab")
    more = ("--s3-region", "eu-1", "--s3-ca", "/lab/store.pem")

    plumbline("context", "add", "lab", "--gateway", "lab:443", *store, *more)

    found = read_contexts(path).get("lab")
    assert (found.store, found.s3_endpoint) == ("s3://lab", "https://s3.lab")
    assert (found.s3_region, found.s3_ca) == ("eu-1", Path("/lab/store.pem"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("add", "lab", "--gateway", "h:1"), AlreadyExistsError, "--replace"),
        (("add", "new", "--release", "x"), InvalidInputError, "needs --namespace"),
        (("add", "new", "--ca", "/x"), ConfigError, "neither is"),
        (("add", "local", "--gateway", "h:1"), ConfigError, "'local' is this machine"),
        (("use", "none"), NotFoundError, "accepted: local, lab"),
        (("remove", "none"), NotFoundError, "no context 'none'"),
        (("show", "none"), NotFoundError, "accepted: local, lab"),
    ],
)
def test_commands_refuse(
    plumbline: Callable[..., str],
    path: Path,
    arguments: tuple[str, ...],
    error: type[Exception],
    message: str,
) -> None:
    plumbline("context", "add", "lab", "--gateway", "lab:443")
    before = path.read_text()

    with pytest.raises(error, match=message):
        plumbline("context", *arguments)
    assert path.read_text() == before


@pytest.mark.parametrize("command", ["up", "down"])
def test_the_stack_of_this_machine_is_not_meant_in_a_context(
    plumbline: Callable[..., str], command: str
) -> None:
    plumbline("context", "add", "lab", "--gateway", "lab:443", "--use")

    with pytest.raises(FailedPreconditionError, match="plumbline --context local"):
        plumbline(command)
