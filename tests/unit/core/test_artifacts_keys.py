from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plumbline.core.artifacts import Lineage, Manifest, canonical_json, check_key, check_tag
from plumbline.core.artifacts.files import directory_files
from plumbline.core.artifacts.keys import MAX_KEY_BYTES
from plumbline.core.artifacts.manifest import check_file_names, check_metrics
from plumbline.core.errors import CorruptArtifactError, InvalidInputError, NotFoundError


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "is empty"),
        ("..", "leaves its directory"),
        ("a/../b", "leaves its directory"),
        ("./a", "leaves its directory"),
        ("/etc/passwd", "is absolute"),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("a\0b", "NUL"),
        ("%2e%2e/a", "percent sign"),
        ("a\\..\\b", "backslash"),
        ("\u2024\u2024/a", "outside ASCII"),  # one dot leaders, which look like dots
        ("fullwidth\uff0fslash", "outside ASCII"),
        ("p\u043elicy", "outside ASCII"),  # a Cyrillic o
        ("e\u0301", "outside ASCII"),  # not in composed form
        ("a\nb", "has the component"),
        ("a:b", "has the component"),
        (" a", "has the component"),
        ("a/b ", "has the component"),
        ("x" * 201, "component of 201 bytes"),
        ("/".join(["x" * 100] * 6), f"605 bytes long, above {MAX_KEY_BYTES}"),
    ],
)
def test_hostile_key_is_refused_and_named(key: str, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem) as caught:
        check_key(key)
    assert caught.value.reason == "INVALID_KEY"
    assert "accepted: " in caught.value.message


@pytest.mark.parametrize(
    "key", ["config.json", "1_Pooling/config.json", "a b.txt", ".hidden", "...", "x=1+2~@-"]
)
def test_ordinary_key_is_accepted(key: str) -> None:
    assert check_key(key) == key


@given(st.text(max_size=40))
def test_accepted_keys_stay_below_their_root(key: str) -> None:
    """Whatever is accepted, joining and normalising it cannot leave the root or change it."""
    try:
        check_key(key)
    except InvalidInputError:
        return
    assert os.path.normpath(os.path.join("/root", key)) == f"/root/{key}"


def test_tag_without_a_label_is_the_latest() -> None:
    assert check_tag("policy/quickstart") == "policy/quickstart@latest"
    assert check_tag("policy/quickstart@v2") == "policy/quickstart@v2"


@pytest.mark.parametrize("tag", ["@latest", "a@", "a@b@c", "a@b/c", "a/@b", "../a@b", "0" * 64])
def test_malformed_tag_is_refused(tag: str) -> None:
    with pytest.raises(InvalidInputError):
        check_tag(tag)


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1.0, "a": [1, "é"]}) == '{"a":[1,"é"],"b":1.0}'.encode()
    with pytest.raises(InvalidInputError, match="finite"):
        canonical_json({"a": float("nan")})


def test_manifest_id_ignores_the_order_in_which_things_were_given() -> None:
    one = Manifest(kind="report", files=(), lineage=Lineage(stage="s"), metrics={"a": 1, "b": 2})
    two = Manifest(kind="report", files=(), lineage=Lineage(stage="s"), metrics={"b": 2, "a": 1})
    assert one.artifact_id == two.artifact_id
    assert Manifest.from_bytes(one.to_bytes(), one.artifact_id) == one


def test_manifest_of_another_format_is_refused() -> None:
    data = b'{"format":1,"surprise":true}'
    with pytest.raises(CorruptArtifactError, match="incompatible version"):
        Manifest.from_bytes(data, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metric_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(InvalidInputError, match="metric 'kl' is"):
        check_metrics({"kl": value}, what="metric")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "A"], "differ only by case"), (["a", "a/b"], "also the directory of 'a/b'")],
)
def test_names_that_no_directory_can_hold_together(names: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_file_names(names)


def test_lineage_holds_ids_only() -> None:
    with pytest.raises(ValidationError, match="malformed"):
        Lineage(stage="s", inputs={"corpus": ("corpus/mine@latest",)})


def test_links_devices_and_empty_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        directory_files(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="holds no files"):
        directory_files(tmp_path)
    os.mkfifo(tmp_path / "empty/pipe")
    with pytest.raises(InvalidInputError, match="not a regular file"):
        directory_files(tmp_path)
    (tmp_path / "empty/pipe").unlink()
    (tmp_path / "empty/link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInputError, match="symbolic link"):
        directory_files(tmp_path)
