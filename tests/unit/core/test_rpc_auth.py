"""Tokens file: who may call what, and that a broken file never opens the door."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import ConfigError, PermissionDeniedError, UnauthenticatedError
from plumbline.core.rpc.auth import TokenTable, server_credentials
from plumbline.core.settings import Settings

DIGEST = hashlib.sha256(b"secret").hexdigest()


def write(path: Path, **grant: Any) -> Path:
    path.write_text(json.dumps({DIGEST: {"name": "team", **grant}}))
    return path


@pytest.mark.parametrize(
    ("scopes", "service", "method", "allowed"),
    [
        (["*"], "reward", "ScoreResponses", True),
        (["reward.*"], "reward", "ScoreResponses", True),
        (["reward.*"], "sampler", "Generate", False),
        (["reward.ScoreResponses"], "reward", "ScoreResponses", True),
        (["reward.ScoreResponses"], "reward", "LoadRewardModel", False),
        (["sampler.Generate", "jobs.GetJob"], "jobs", "GetJob", True),
    ],
)
def test_scope_matrix(
    tmp_path: Path, scopes: list[str], service: str, method: str, allowed: bool
) -> None:
    table = TokenTable(write(tmp_path / "tokens.json", scopes=scopes))
    if allowed:
        assert table.authorize("Bearer secret", service, method).name == "team"
    else:
        with pytest.raises(PermissionDeniedError) as caught:
            table.authorize("Bearer secret", service, method)
        assert caught.value.metadata["scope"] == f"{service}.{method}"


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "TOKEN_MISSING"),
        ("", "TOKEN_UNKNOWN"),
        ("secret", "TOKEN_UNKNOWN"),
        (f"Bearer {DIGEST}", "TOKEN_UNKNOWN"),  # the file's content is no credential
        ("Bearer secret ", "TOKEN_UNKNOWN"),
        ("Bearer sécret", "TOKEN_UNKNOWN"),
    ],
)
def test_anything_but_the_token_is_refused(
    tmp_path: Path, authorization: str | None, reason: str
) -> None:
    table = TokenTable(write(tmp_path / "tokens.json", scopes=["*"]))
    with pytest.raises(UnauthenticatedError) as caught:
        table.authorize(authorization, "reward", "ScoreResponses")
    assert caught.value.reason == reason


def test_expiry_is_a_moment_in_time(tmp_path: Path) -> None:
    path = write(tmp_path / "tokens.json", scopes=["*"], expires_at="2001-01-01T00:00:00+08:00")
    with pytest.raises(UnauthenticatedError, match="2001-01-01") as caught:
        TokenTable(path).authorize("Bearer secret", "reward", "ScoreResponses")
    assert caught.value.reason == "TOKEN_EXPIRED"
    write(path, scopes=["*"], expires_at="9999-01-01T00:00:00Z")
    TokenTable(path).authorize("Bearer secret", "reward", "ScoreResponses")


def test_revocation_takes_effect_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "tokens.json", scopes=["*"])
    table = TokenTable(path)
    table.authorize("Bearer secret", "reward", "ScoreResponses")
    path.write_text("{broken")
    table.authorize("Bearer secret", "reward", "ScoreResponses")
    path.write_text("{}")
    with pytest.raises(UnauthenticatedError):
        table.authorize("Bearer secret", "reward", "ScoreResponses")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        json.dumps({"plain-token": {"name": "a", "scopes": ["*"]}}),
        json.dumps({DIGEST: {"name": "a", "scopes": []}}),
        json.dumps({DIGEST: {"name": "a", "scopes": ["reward"]}}),
        json.dumps({DIGEST: {"name": "a", "scopes": ["*"], "admin": True}}),
        json.dumps({DIGEST: {"name": "a", "scopes": ["*"], "expires_at": "2030-01-01T00:00:00"}}),
    ],
    ids=["empty", "list", "token", "no-scope", "bad-scope", "unknown-key", "no-zone"],
)
def test_malformed_file_stops_the_start_and_shows_no_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="malformed") as caught:
        TokenTable(path)
    assert "plain-token" not in caught.value.message


def test_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        TokenTable(tmp_path / "absent.json")


def test_server_with_authority_but_no_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PLUMBLINE_TLS_CERT"):
        server_credentials(Settings(tls_ca=tmp_path / "ca.pem"))
