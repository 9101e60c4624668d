"""What a context of addresses means for clients: targets, tokens, stores, and local files."""

from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.cli.console import load_settings, served_reference
from plumbline.cli.contexts.config import Context, ContextsFile, write_contexts
from plumbline.cli.contexts.settings import ContextSettings, context_settings
from plumbline.cli.contexts.uploads import stored_inputs, stored_pipeline
from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import ConfigError, FailedPreconditionError
from plumbline.core.settings import Settings

PIPELINE = """\
name: a
params:
  corpus: {type: path}
  model: {type: path, default: ""}
stages:
  docs:
    uses: curation.curate
    inputs: {corpus: "${params.corpus}"}
  more:
    uses: curation.curate
    inputs: {corpus: "path:%s"}
"""


@pytest.fixture(autouse=True)
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that names a platform of its own, which no context may fall back to."""
    monkeypatch.setenv("PLUMBLINE_CONTEXTS_FILE", str(tmp_path / "contexts.yaml"))
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PLUMBLINE_REWARD_TARGET", "other:1")
    monkeypatch.setenv("PLUMBLINE_STORE", f"file://{tmp_path}/own-store")
    monkeypatch.setenv("REDIS_URL", "redis://own")
    monkeypatch.delenv("PLUMBLINE_CONTEXT", raising=False)


def lab(**more: object) -> Context:
    return Context.model_validate({"services": {"pipeline": "lab:50051"}, **more})


def in_force(tmp_path: Path, context: Context) -> Settings:
    content = ContextsFile(current="lab", contexts={"lab": context})
    write_contexts(tmp_path / "contexts.yaml", content)
    return load_settings()


def test_addresses_are_the_contexts_and_never_this_machines(tmp_path: Path) -> None:
    settings = in_force(tmp_path, lab())

    assert settings.target("pipeline") == settings.target("jobs") == "lab:50051"
    with pytest.raises(ConfigError, match=r"'lab' names no address of reward.*services\.reward"):
        settings.target("reward")
    assert settings.redis_url is None
    assert settings.state_dir == tmp_path / "state/contexts/lab"


def test_a_target_given_to_the_command_comes_first() -> None:
    settings = context_settings("lab", lab(), {})

    given = settings.model_copy(update={"targets": {"sampler": "there:9"}})

    assert given.target("sampler") == "there:9"
    assert given.target("pipeline") == "lab:50051"


def test_without_a_context_the_environment_holds() -> None:
    settings = load_settings()

    assert not isinstance(settings, ContextSettings)
    assert settings.target("reward") == "other:1"
    assert settings.redis_url == "redis://own"


def test_a_token_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-a-file\n")
    named = {
        "file": (lab(token_file=tmp_path / "token"), {}),
        "variable": (lab(token_env="LAB_TOKEN"), {"LAB_TOKEN": "of-a-variable"}),
        "shell": (lab(), {"PLUMBLINE_TOKEN": "of-another-platform"}),
    }

    found = {
        name: settings.token.get_secret_value()
        for name, (context, environment) in named.items()
        if (settings := context_settings("lab", context, environment)).token
    }

    assert found == {"file": "of-a-file", "variable": "of-a-variable"}


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (lab(token_env="LAB_TOKEN"), "the variable LAB_TOKEN holds no token"),
        (lab(token_file="/nowhere/token"), "cannot read /nowhere/token"),
    ],
)
def test_a_token_that_is_not_there(context: Context, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        context_settings("lab", context, {})


def test_tls_files_are_the_contexts() -> None:
    tls = {"ca": "/lab/ca.pem", "server_name": "pipeline.lab"}

    settings = context_settings("lab", lab(tls=tls), {"PLUMBLINE_TLS_CA": "/own.pem"})

    assert settings.tls_ca == Path("/lab/ca.pem")
    assert settings.server_name("pipeline") == "pipeline.lab"
    assert context_settings("lab", lab(), {"PLUMBLINE_TLS_CA": "/own.pem"}).tls_ca is None


def test_a_store_is_used_where_the_context_names_one(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="'lab' names no store") as caught:
        open_configured_store(in_force(tmp_path, lab()))
    assert caught.value.reason == "NO_STORE"

    named = lab(store="s3://artifacts/lab", s3_endpoint="https://s3.lab")
    keys = {"PLUMBLINE_S3_ACCESS_KEY": "a", "PLUMBLINE_S3_SECRET_KEY": "b"}
    settings = context_settings("lab", named, keys)

    assert settings.store_url == "s3://artifacts/lab"
    access = settings.s3_access
    assert access.endpoint == "https://s3.lab"
    assert access.secret_key is not None and access.secret_key.get_secret_value() == "b"


def test_nothing_but_keys_of_a_store_comes_from_the_shell(tmp_path: Path) -> None:
    shell = {
        "PLUMBLINE_S3_ENDPOINT": "http://localhost:9000",
        "PLUMBLINE_S3_REGION": "local",
        "PLUMBLINE_S3_CA": "/own.pem",
        "PLUMBLINE_S3_ACCESS_KEY": "a",
        "PLUMBLINE_S3_SECRET_KEY": "b",
    }

    access = context_settings("lab", lab(store="s3://prod"), shell).s3_access

    assert (access.endpoint, access.region, access.ca) == (
        "https://s3.amazonaws.com",
        "us-east-1",
        None,
    )
    assert access.access_key is not None and access.access_key.get_secret_value() == "a"
    named = lab(store="s3://prod", s3_region="eu-1", s3_ca="/lab/store.pem")
    access = context_settings("lab", named, shell).s3_access
    assert (access.region, access.ca) == ("eu-1", Path("/lab/store.pem"))


def test_local_inputs_of_a_job_go_to_the_store(tmp_path: Path) -> None:
    documents = tmp_path / "docs.jsonl"
    documents.write_text('{"text": "a"}\n')
    settings = context_settings("lab", lab(store=f"file://{tmp_path}/shared"), {})

    given = {"corpus": [f"path:{documents}"], "filters": ["filter/toxicity@latest"]}
    stored = stored_inputs(settings, "curation.curate", given)

    artifact = open_configured_store(settings).get(stored["corpus"][0])
    assert artifact.kind == "corpus"
    assert stored["filters"] == ["filter/toxicity@latest"]
    assert stored_inputs(Settings(), "curation.curate", given) == given
    with pytest.raises(FailedPreconditionError, match="names no store"):
        stored_inputs(context_settings("lab", lab(), {}), "curation.curate", given)


def test_local_inputs_of_a_pipeline_go_to_the_store(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text('{"text": "a"}\n')
    second.write_text('{"text": "b"}\n')
    text = PIPELINE % second
    settings = context_settings("lab", lab(store=f"file://{tmp_path}/shared"), {})

    written, params = stored_pipeline(settings, text, {"corpus": str(first)})

    store = open_configured_store(settings)
    ids = {
        store.read_bytes(artifact.id, artifact.manifest.files[0].name): artifact.id
        for artifact in store.list().artifacts
    }
    assert params == {"corpus": ids[first.read_bytes()]}
    assert written == text.replace(f"path:{second}", ids[second.read_bytes()])
    assert stored_pipeline(Settings(), text, params) == (text, params)


def test_a_service_is_not_asked_for_a_path_of_this_machine(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.mkdir()
    assert served_reference(str(policy)) == f"path:{policy}"

    in_force(tmp_path, lab())

    assert served_reference("policy/mine@latest") == "policy/mine@latest"
    with pytest.raises(FailedPreconditionError, match=r"plumbline artifacts put PATH") as caught:
        served_reference(str(policy))
    assert caught.value.reason == "LOCAL_PATH"
