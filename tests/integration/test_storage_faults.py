"""The S3 store when its server is away, full, wrongly addressed, not to be trusted or not good
enough."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cutting_relay import cutting_relay
from object_stores import PROGRAMS, S3Server, StoreProgram, make_certificate
from pydantic import SecretStr

from plumbline.core.artifacts import ArtifactStore, Lineage, open_store
from plumbline.core.artifacts.disk import CHUNK_BYTES
from plumbline.core.artifacts.s3_backend import S3Backend
from plumbline.core.errors import (
    ConfigError,
    ConflictError,
    FailedPreconditionError,
    StorageFullError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from plumbline.core.settings import Settings

pytestmark = pytest.mark.integration

IMPORTED = Lineage(stage="import")
MakeStore = Callable[..., StoreProgram]
STORES = tuple(PROGRAMS)


def make_store(settings: Settings, tmp_path: Path) -> ArtifactStore:
    return open_store(
        "s3://faults", cache_dir=tmp_path / "cache", cache_bytes=2**30, settings=settings
    )


@pytest.mark.parametrize("program", STORES)
def test_server_that_dies_during_an_upload_shows_nothing_of_it(
    store_program: MakeStore, program: str, tmp_path: Path
) -> None:
    """Killed while 160 MiB at a time go up. After its restart all that is listed is whole, and what
    was cut off goes up."""
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(160 * 2**20)
    data = tmp_path / program
    first = store_program(program, data)
    with first as server:
        store = make_store(server.settings(tmp_path), tmp_path)
        small = store.put("corpus", {"a": b"x"}, lineage=IMPORTED)
        cut_off = 0.0
        threading.Timer(0.8, first.kill).start()
        with pytest.raises(StorageUnavailableError, match="s3://faults at http"):
            while True:
                cut_off = time.time()
                store.put("policy", {"w": source}, lineage=IMPORTED, metrics={"t": cut_off})
    with store_program(program, data, port=first.port) as server:
        store = make_store(server.settings(tmp_path), tmp_path)
        seen = store.list(kind="policy").artifacts
        assert cut_off not in [artifact.manifest.metrics["t"] for artifact in seen]
        assert all(store.verify(artifact.id) for artifact in seen)
        assert store.read_bytes(small.id, "a") == b"x"
        again = store.put("policy", {"w": source}, lineage=IMPORTED, metrics={"t": cut_off})
        assert store.verify(again.id) == again


@pytest.mark.parametrize("program", STORES)
def test_download_goes_on_where_its_connection_broke(
    s3_servers: Callable[[str], S3Server], s3_bucket: str, program: str, tmp_path: Path
) -> None:
    """Connections end after 3 MiB, headers included, and chunks are of 1 MiB: each brings two whole
    ones, so 8 MiB arrive over four. Only the chunk that was cut is asked for again."""
    content = os.urandom(8 * 2**20)
    server = s3_servers(program)
    direct = S3Backend(s3_bucket, access=server.access)
    direct.put("large", content, sha256=hashlib.sha256(content).hexdigest())
    with cutting_relay(server.endpoint, after_bytes=3 * 2**20) as relay:
        backend = S3Backend(s3_bucket, access=relay.through(server))

        digest = backend.download("large", tmp_path / "copy")

    assert digest == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "copy").read_bytes() == content
    assert relay.cuts == 3
    headers_bytes = 64 * 1024
    assert relay.passed_bytes < len(content) + 3 * CHUNK_BYTES + headers_bytes


def test_download_is_given_up_where_no_byte_comes(
    s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    content = os.urandom(2**20)
    direct = S3Backend(s3_bucket, access=s3_server.access)
    direct.put("large", content, sha256=hashlib.sha256(content).hexdigest())
    with cutting_relay(s3_server.endpoint, after_bytes=2**16, once=2**9) as relay:
        backend = S3Backend(s3_bucket, access=relay.through(s3_server))
        with pytest.raises(StorageUnavailableError, match="reading large"):
            backend.download("large", tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("program", STORES)
def test_conditional_write_whose_answer_is_lost_has_taken_place(
    s3_servers: Callable[[str], S3Server], s3_bucket: str, program: str
) -> None:
    """The connection repeats it, and the store refuses the repetition because of the first."""
    server = s3_servers(program)
    direct = S3Backend(s3_bucket, access=server.access)
    with cutting_relay(server.endpoint, after_bytes=2**30) as relay:
        backend = S3Backend(s3_bucket, access=relay.through(server))
        backend.put_if("before", b"0", expected=None)

        relay.lost_answers = 1
        made = backend.put_if("pointer", b"1", expected=None)
        assert direct.get("pointer") == (b"1", made)

        relay.lost_answers = 1
        moved = backend.put_if("pointer", b"2", expected=made)
        assert direct.get("pointer") == (b"2", moved)

        direct.put_if("pointer", b"3", expected=moved)
        relay.lost_answers = 1
        with pytest.raises(ConflictError, match="pointer was not written: it changed meanwhile"):
            backend.put_if("pointer", b"4", expected=moved)
        assert relay.cuts == 3
    assert direct.get("pointer")[0] == b"3"


@pytest.mark.parametrize("program", STORES)
def test_certificate_of_a_private_authority(
    store_program: MakeStore, program: str, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path / "tls")
    stranger = make_certificate(tmp_path / "other").ca
    with store_program(program, tmp_path / "store", certificate=certificate) as server:
        trusting = make_store(server.settings(tmp_path), tmp_path)
        artifact = trusting.put("corpus", {"a": b"x"}, lineage=IMPORTED)
        assert trusting.verify(artifact.id) == artifact
        for authority in (None, stranger):
            settings = server.settings(tmp_path).model_copy(update={"s3_ca": authority})
            with pytest.raises(StorageUnavailableError, match="certificate verify failed"):
                make_store(settings, tmp_path).find_output("0" * 64)
    missing = server.settings(tmp_path).model_copy(update={"s3_ca": tmp_path / "none.pem"})
    with pytest.raises(ConfigError, match=r"PLUMBLINE_S3_CA=.*none\.pem is no file"):
        make_store(missing, tmp_path)


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
    store_program: MakeStore, limited_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    with store_program("minio", limited_disk(24)) as server:
        store = make_store(server.settings(tmp_path), tmp_path)
        with pytest.raises(StorageFullError):
            for number in range(40):
                content = os.urandom(2 * 2**20)
                # The write during which the disk fills up may be cut short for another reason.
                with contextlib.suppress(StorageUnavailableError):
                    store.put("corpus", {f"{number}": content}, lineage=IMPORTED)
        assert all(store.verify(artifact.id) for artifact in store.list().artifacts)


class _Scripted(BaseHTTPRequestHandler):
    """Speaks enough S3 to accept every write, whatever its condition says, once it has answered the
    first ones with a conflict."""

    conflicts_left = 0

    def do_PUT(self) -> None:
        if type(self).conflicts_left and self.path.partition("?")[0].endswith("/pointer"):
            type(self).conflicts_left -= 1
            self._answer(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
        else:
            self._answer(200)

    def do_DELETE(self) -> None:
        self._answer(204)

    def do_GET(self) -> None:
        self._answer(200)

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


class _Strict(_Scripted):
    """Keeps the one condition that a client asks for before its first write."""

    def do_PUT(self) -> None:
        if "conditional-writes" in self.path:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            super().do_PUT()


@contextlib.contextmanager
def scripted_store(handler: type[_Scripted]) -> Iterator[Settings]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Settings(
            s3_endpoint=f"http://127.0.0.1:{server.server_port}",
            s3_access_key=SecretStr("key"),
            s3_secret_key=SecretStr("secret"),
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_store_that_ignores_conditions_is_refused(tmp_path: Path) -> None:
    with (
        scripted_store(_Scripted) as settings,
        pytest.raises(FailedPreconditionError, match="ignores If-None-Match"),
    ):
        make_store(settings, tmp_path).put("corpus", {"a": b"x"}, lineage=IMPORTED)


@pytest.mark.parametrize("conflicts", [2, 100])
def test_write_that_meets_another_one_is_repeated(
    monkeypatch: pytest.MonkeyPatch, conflicts: int
) -> None:
    """The store's "try again" is no answer to the condition: neither "it is there" nor "it is
    not"."""
    monkeypatch.setattr(_Strict, "conflicts_left", conflicts)
    with scripted_store(_Strict) as settings:
        backend = S3Backend("faults", access=settings.s3_access)
        if conflicts == 2:
            assert backend.put_if("pointer", b"1", expected=None) == "0"
        else:
            with pytest.raises(StorageUnavailableError, match="ConditionalRequestConflict"):
                backend.put_if("pointer", b"1", expected=None)
