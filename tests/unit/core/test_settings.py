from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline.core.errors import ConfigError
from plumbline.core.settings import Settings
from plumbline.core.validation import parse_config


class Schedule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    warmup_steps: int = 0


class Sample(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(0.1, gt=0)
    learning_rate: float
    schedule: Schedule | None = None
    schedules: list[Schedule] = []

    @model_validator(mode="after")
    def _fits(self) -> Sample:
        if self.beta > 10 * self.learning_rate:
            raise ValueError(f"beta={self.beta} is above ten times {self.learning_rate}")
        return self


def test_defaults_lie_under_the_state_directory(tmp_path: Path) -> None:
    settings = Settings.from_environment({"PLUMBLINE_STATE_DIR": str(tmp_path)})
    assert settings.store_url == f"file://{tmp_path}/store"
    assert settings.cache_dir == tmp_path / "cache"
    assert settings.redis_url is None
    assert settings.target("reward") is None
    assert settings.listen("reward") == "127.0.0.1:0"
    assert settings.threads == 2
    assert settings.import_roots is None


def test_how_a_server_ends_is_bounded() -> None:
    settings = Settings.from_environment({"PLUMBLINE_DRAIN_S": "5", "PLUMBLINE_GRACE_S": "0.5"})
    assert (settings.drain_s, settings.grace_s) == (5.0, 0.5)
    for value in ("-1", "301", "nan", "soon"):
        with pytest.raises(ConfigError, match="PLUMBLINE_DRAIN_S"):
            Settings.from_environment({"PLUMBLINE_DRAIN_S": value})


def test_environment_wins_over_the_endpoints_file(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text(
        json.dumps(
            {
                "services": {"reward": "127.0.0.1:1", "sampler": "127.0.0.1:2"},
                "redis_url": "redis://from-file",
                "store": "file:///from-file",
            }
        )
    )
    state = {"PLUMBLINE_STATE_DIR": str(tmp_path)}
    from_file = Settings.from_environment(state)
    assert from_file.redis_url == "redis://from-file"
    assert from_file.store_url == "file:///from-file"
    assert from_file.target("reward") == "127.0.0.1:1"
    given = Settings.from_environment(
        {
            **state,
            "REDIS_URL": "redis://given",
            "PLUMBLINE_STORE": "s3://bucket",
            "PLUMBLINE_REWARD_TARGET": "dns:///reward:50051",
            "PLUMBLINE_REWARD_LISTEN": "0.0.0.0:50051",
            "PLUMBLINE_THREADS": "4",
            "PLUMBLINE_EXECUTOR": "kubernetes",
        }
    )
    assert (given.redis_url, given.store_url) == ("redis://given", "s3://bucket")
    assert given.target("reward") == "dns:///reward:50051"
    assert given.target("sampler") == "127.0.0.1:2"
    assert given.listen("reward") == "0.0.0.0:50051"
    assert given.threads == 4
    assert (from_file.executor, given.executor) == ("local", "kubernetes")


def test_services_that_start_later_are_seen(tmp_path: Path) -> None:
    settings = Settings.from_environment({"PLUMBLINE_STATE_DIR": str(tmp_path)})
    assert settings.target("jobs") is None
    (tmp_path / "endpoints.json").write_text('{"services": {"pipeline": "127.0.0.1:3"}}')
    assert settings.target("jobs") == "127.0.0.1:3"


def test_secrets_stay_out_of_repr() -> None:
    settings = Settings.from_environment(
        {
            "REDIS_URL": "redis://:hush@host",
            "PLUMBLINE_TOKEN": "hush",
            "PLUMBLINE_S3_ACCESS_KEY": "hush",
            "PLUMBLINE_S3_SECRET_KEY": "hush",
        }
    )
    assert "hush" not in repr(settings)
    assert settings.token is not None and settings.token.get_secret_value() == "hush"


def test_import_roots_set_but_empty_allow_nothing() -> None:
    assert Settings.from_environment({"PLUMBLINE_IMPORT_ROOTS": ""}).import_roots == ()
    assert Settings.from_environment({"PLUMBLINE_IMPORT_ROOTS": "/a:/b"}).import_roots == (
        Path("/a"),
        Path("/b"),
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PLUMBLINE_CACHE_BYTES": "lots"}, r"PLUMBLINE_CACHE_BYTES: cache_bytes='lots'"),
        ({"PLUMBLINE_EXECUTOR": "k8s"}, "PLUMBLINE_EXECUTOR: executor='k8s'"),
        ({"PLUMBLINE_THREADS": "0"}, "PLUMBLINE_THREADS: threads='0'.*greater than or equal to 1"),
        ({"PLUMBLINE_TLS_CERT": "/cert"}, "PLUMBLINE_TLS_KEY=None must be set together"),
        ({"PLUMBLINE_S3_ACCESS_KEY": "k"}, "PLUMBLINE_S3_SECRET_KEY must be set together"),
    ],
)
def test_bad_variable_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.from_environment(environment)


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "holds list")])
def test_broken_endpoints_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "endpoints.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        Settings.from_environment({"PLUMBLINE_STATE_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        (
            {"betta": 1, "learning_rate": 1},
            "betta",
            r"unknown key 'betta' \(did you mean 'beta'\?\); accepted: beta, learning_rate",
        ),
        ({}, "learning_rate", "key 'learning_rate' is missing"),
        (
            {"beta": -1, "learning_rate": 1},
            "beta",
            "beta=-1 is not accepted: input should be greater than 0",
        ),
        ({"beta": 9, "learning_rate": 0.1}, None, r"beta=9.0 is above ten times 0.1"),
        (
            {"learning_rate": 1, "schedule": {"warmup": 1}},
            "schedule.warmup",
            r"unknown key 'schedule.warmup'.*accepted: warmup_steps",
        ),
        (
            {"learning_rate": 1, "schedules": [{}, {"warmup_steps": "x"}]},
            "schedules[1].warmup_steps",
            r"schedules\[1\].warmup_steps='x' is not accepted",
        ),
    ],
)
def test_config_error_names_key_value_and_what_is_accepted(
    values: dict[str, object], field: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match="stage s: .*" + message) as caught:
        parse_config(Sample, values, where="stage s")
    assert caught.value.field == field
