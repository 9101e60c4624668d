"""The generated tokens, judged by the code of the servers that read them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from charts.rendering import Object, render

from plumbline.core.errors import PermissionDeniedError, UnauthenticatedError
from plumbline.core.rpc.auth import TokenTable

GRANT = {
    "name": "evaluation-team",
    "tokenSha256": hashlib.sha256(b"their-token").hexdigest(),
    "scopes": ["reward.ScoreResponses"],
    "expiresAt": "2999-01-01T00:00:00Z",
}


@pytest.fixture
def table(tmp_path: Path) -> tuple[TokenTable, dict[str, str]]:
    """The tokens file as a server reads it, and the tokens by their keys in the Secret."""
    auth: Object = {"auth": {"grants": [GRANT]}}
    secret = render(changes=auth).one("Secret", "auth")
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    path = tmp_path / "tokens.json"
    path.write_text(values.pop("tokens.json"))
    return TokenTable(path), values


@pytest.mark.parametrize(
    ("key", "service", "method"),
    [
        ("admin-token", "pipeline", "CreateRun"),
        ("internal-token", "sampler", "SampleResponses"),
        ("internal-token", "reward", "ScoreResponses"),
        ("internal-token", "retriever", "RetrieveValues"),
        ("check-token", "jobs", "CreateJob"),
        ("check-token", "jobs", "WatchJob"),
        ("check-token", "jobs", "CancelJob"),
    ],
)
def test_a_token_allows_what_its_holder_calls(
    table: tuple[TokenTable, dict[str, str]], key: str, service: str, method: str
) -> None:
    tokens, values = table
    assert tokens.authorize(f"Bearer {values[key]}", service, method)


@pytest.mark.parametrize(
    ("key", "service", "method"),
    [
        ("internal-token", "pipeline", "CreateRun"),
        ("internal-token", "jobs", "CreateJob"),
        ("internal-token", "trainer", "CreateTrainingJob"),
        ("check-token", "jobs", "ListJobs"),
        ("check-token", "sampler", "Generate"),
    ],
)
def test_a_token_allows_nothing_else(
    table: tuple[TokenTable, dict[str, str]], key: str, service: str, method: str
) -> None:
    tokens, values = table
    with pytest.raises(PermissionDeniedError):
        tokens.authorize(f"Bearer {values[key]}", service, method)


def test_a_grant_of_the_values_is_in_force(table: tuple[TokenTable, dict[str, str]]) -> None:
    tokens, _ = table

    assert tokens.authorize("Bearer their-token", "reward", "ScoreResponses").name == GRANT["name"]
    with pytest.raises(PermissionDeniedError):
        tokens.authorize("Bearer their-token", "reward", "LoadRewardModel")
    with pytest.raises(UnauthenticatedError):
        tokens.authorize("Bearer another-token", "reward", "ScoreResponses")
