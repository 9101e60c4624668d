"""The S3 store when its server is away, full, wrongly addressed or not good enough."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from plumbline.core.artifacts import ArtifactStore, Lineage, open_store
from plumbline.core.errors import (
    ConfigError,
    FailedPreconditionError,
    StorageFullError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from plumbline.core.settings import Settings

pytestmark = pytest.mark.integration

IMPORTED = Lineage(stage="import")
StartMinio = Callable[[Path], AbstractContextManager[Any]]


def make_store(settings: Settings, tmp_path: Path) -> ArtifactStore:
    return open_store(
        "s3://faults", cache_dir=tmp_path / "cache", cache_bytes=2**30, settings=settings
    )


def test_server_that_dies_during_an_upload_shows_nothing_of_it(
    start_minio: StartMinio, tmp_path: Path
) -> None:
    """Killed while 160 MiB at a time go up; after a restart all that is listed is whole."""
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(160 * 2**20)
    data = tmp_path / "minio"
    data.mkdir()
    first = start_minio(data)
    with first as server:
        store = make_store(server.settings(tmp_path), tmp_path)
        small = store.put("corpus", {"a": b"x"}, lineage=IMPORTED)
        threading.Timer(0.8, first.kill).start()  # type: ignore[attr-defined]
        with pytest.raises(StorageUnavailableError, match="s3://faults at http"):
            while True:
                store.put("policy", {"w": source}, lineage=IMPORTED, metrics={"t": time.time()})
    with start_minio(data) as server:
        store = make_store(server.settings(tmp_path), tmp_path)
        seen = store.list(kind="policy").artifacts
        assert all(store.verify(artifact.id) for artifact in seen)
        assert store.read_bytes(small.id, "a") == b"x"


def test_absent_server_is_reported_in_seconds(free_port: Callable[[], int], tmp_path: Path) -> None:
    settings = Settings(
        s3_endpoint=f"http://127.0.0.1:{free_port()}",
        s3_access_key=SecretStr("key"),
        s3_secret_key=SecretStr("secret"),
    )
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="refused"):
        make_store(settings, tmp_path).find_output("0" * 64)
    assert time.monotonic() - started < 10


def test_wrong_keys_name_the_variables_and_not_the_keys(s3_server: Any, tmp_path: Path) -> None:
    settings = Settings(
        s3_endpoint=s3_server.endpoint,
        s3_access_key=SecretStr("nobody"),
        s3_secret_key=SecretStr("hush-hush"),
    )
    with pytest.raises(UnauthenticatedError, match="PLUMBLINE_S3_ACCESS_KEY") as caught:
        make_store(settings, tmp_path).put("corpus", {"a": b"x"}, lineage=IMPORTED)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://host", "http://host/path"])
def test_malformed_endpoint_is_refused(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="accepted: http"):
        make_store(Settings(s3_endpoint=endpoint), tmp_path)


def test_server_with_a_full_disk_publishes_nothing(
    start_minio: StartMinio, limited_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    with start_minio(limited_disk(24)) as server:
        store = make_store(server.settings(tmp_path), tmp_path)
        with pytest.raises(StorageFullError):
            for number in range(40):
                content = os.urandom(2 * 2**20)
                # The write during which the disk fills up may be cut short for another reason.
                with contextlib.suppress(StorageUnavailableError):
                    store.put("corpus", {f"{number}": content}, lineage=IMPORTED)
        assert all(store.verify(artifact.id) for artifact in store.list().artifacts)


class _Careless(BaseHTTPRequestHandler):
    """Speaks enough S3 to accept every write, whatever its condition says."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(204 if self.command == "DELETE" else 200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_HEAD = do_DELETE = do_GET = _answer

    def log_message(self, format: str, *args: object) -> None:
        return None


def test_store_that_ignores_conditions_is_refused(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Careless)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = Settings(
        s3_endpoint=f"http://127.0.0.1:{server.server_port}",
        s3_access_key=SecretStr("key"),
        s3_secret_key=SecretStr("secret"),
    )
    try:
        with pytest.raises(FailedPreconditionError, match="ignores If-None-Match"):
            make_store(settings, tmp_path).put("corpus", {"a": b"x"}, lineage=IMPORTED)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
