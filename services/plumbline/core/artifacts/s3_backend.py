"""Objects in an S3 bucket, through the `minio` client: MinIO, SeaweedFS, Ceph, AWS and others.

Compare-and-set uses conditional PUT (`If-None-Match: *` and `If-Match: <etag>`). The client has no
public call for it, so it goes through a presigned URL; headers outside the signature are allowed
there. A store that ignores the condition is found out by a probe and refused.

A download whose connection breaks goes on with a range request from the byte that it reached.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import os
import threading
import time
from collections.abc import Generator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Final

import urllib3
from minio.error import MinioException, S3Error, ServerError

from plumbline.core.artifacts.disk import CHUNK_BYTES, disk_errors, open_regular
from plumbline.core.artifacts.s3_client import (
    error_in,
    http_client,
    root_cause,
    s3_client,
    typed_error,
)
from plumbline.core.errors import (
    ConflictError,
    CorruptArtifactError,
    FailedPreconditionError,
    NotFoundError,
    PlumblineError,
    StorageUnavailableError,
)
from plumbline.core.settings import S3Access

PART_BYTES: Final = 64 * 2**20
"""Files above this size are uploaded in parts of this size."""
_MAX_PARTS: Final = 10_000
_PARALLEL_PARTS: Final = 2
_PRESIGNED_FOR: Final = timedelta(minutes=5)
_PROBE_KEY: Final = ".conditional-writes"
_BUSY_RETRIES: Final = 4
_BUSY_PAUSE_S: Final = 0.1
"""Before the first repetition of a write that met another one; doubled with each."""
_RESUMES: Final = 4
"""Broken connections in a row, none of which brought a byte, after which a download is given up."""
_RESUME_PAUSE_S: Final = 0.2
"""Before the first resumption; doubled with each that brings nothing."""


class S3Backend:
    """ObjectBackend over one bucket and prefix.

    Args:
        access: endpoint (http(s)://host:port), keys, region, and whom to trust.
        timeout_s: of connecting; reading waits up to twelve times as long.
    Raises:
        ConfigError: a malformed endpoint, or a file of authorities that cannot be read.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        access: S3Access,
        timeout_s: float = 5.0,
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = access.endpoint
        self._http = http_client(access.ca, timeout_s)
        self._client = s3_client(access, self._http)
        self._prepare_lock = threading.Lock()
        self._prepared = False

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/") + f" at {self._endpoint}"

    def put(self, key: str, source: Path | bytes, *, sha256: str) -> None:
        self._prepare()
        with self._s3_errors(f"writing {key}"), _opened(source) as (stream, size):
            reader = _HashingReader(stream)
            self._client.put_object(
                self._bucket,
                self._prefix + key,
                reader,
                size,
                part_size=_part_bytes(size),
                num_parallel_uploads=_PARALLEL_PARTS,
            )
            # Each part's own digest was checked by the server; this one is for the whole file.
            if reader.sha256 != sha256:
                self.delete(key)
                raise CorruptArtifactError(
                    f"{source if isinstance(source, Path) else key} has sha256 {reader.sha256}, "
                    f"expected {sha256}: it changed while it was being stored"
                )
        stored = self.size_bytes(key)
        if stored != size:
            raise CorruptArtifactError(
                f"{key} in {self.url} has {stored} bytes after an upload of {size}"
            )

    def put_if(self, key: str, data: bytes, *, expected: str | None) -> str:
        self._prepare()
        return self._put_if(key, data, expected=expected)

    def _put_if(self, key: str, data: bytes, *, expected: str | None) -> str:
        condition = {"If-None-Match": "*"} if expected is None else {"If-Match": f'"{expected}"'}
        response, was_repeated = self._answer_to_put(key, data, condition)
        if response.status == 200:
            return _version_in(response)
        # 404 is the answer to If-Match on an object that is gone.
        if response.status == 412 or (response.status == 404 and expected is not None):
            written = self._version_of(key, data) if was_repeated else None
            if written is not None:
                return written
            raise ConflictError(
                f"{key} was not written: "
                + ("it exists already" if expected is None else "it changed meanwhile"),
                metadata={"key": key},
            )
        code, message = error_in(response.data)
        doing = f"writing {key} in {self.url}"
        raise typed_error(doing, code or f"HTTP {response.status}", message)

    def _answer_to_put(
        self, key: str, data: bytes, headers: dict[str, str]
    ) -> tuple[urllib3.BaseHTTPResponse, bool]:
        """What the store says in the end to a write with such headers, and whether the connection
        repeated it meanwhile.

        409 says that something else was at the object in that moment, not that the condition does
        not hold: AWS wants such writes repeated, and stores over a file system answer so while
        they remove an emptied folder.
        """
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        pauses = [_BUSY_PAUSE_S * 2**attempt for attempt in range(_BUSY_RETRIES)]
        with self._s3_errors(f"writing {key}"):
            signed = self._client.get_presigned_url(
                "PUT", self._bucket, self._prefix + key, expires=_PRESIGNED_FOR
            )
            was_repeated = False
            while True:
                response = self._http.urlopen(
                    "PUT", signed, body=data, headers={"Content-MD5": digest, **headers}
                )
                was_repeated = was_repeated or _was_retried(response)
                if response.status != 409 or not pauses:
                    return response, was_repeated
                time.sleep(pauses.pop(0))

    def _version_of(self, key: str, data: bytes) -> str | None:
        """The version of an object that holds these bytes, None where it does not.

        A write whose answer was lost, or that failed after it took effect, is repeated by the
        connection and then refused because of itself.
        """
        try:
            found, version = self._read(key)
        except NotFoundError:
            return None
        return version if found == data else None

    def get(self, key: str) -> tuple[bytes, str]:
        self._prepare()
        return self._read(key)

    def _read(self, key: str) -> tuple[bytes, str]:
        with self._s3_errors(f"reading {key}"):
            response = self._client.get_object(self._bucket, self._prefix + key)
            try:
                data = response.read()
                return data, _version_in(response)
            finally:
                response.close()
                response.release_conn()

    def download(self, key: str, destination: Path) -> str:
        self._prepare()
        digest = hashlib.sha256()
        doing = f"copying {key} from {self.url} to {destination}"
        with self._s3_errors(f"reading {key}"), contextlib.closing(self._chunks(key)) as chunks:
            # Asked before the file is made: an object that is not there leaves none.
            first = next(chunks, b"")
            try:
                with disk_errors(doing):
                    file = open(destination, "xb")  # noqa: SIM115 - closed two lines below
                with file:
                    for chunk in itertools.chain((first,), chunks):
                        digest.update(chunk)
                        with disk_errors(doing):
                            file.write(chunk)
                    with disk_errors(doing):
                        file.flush()
                        os.fsync(file.fileno())
            except BaseException:
                destination.unlink(missing_ok=True)
                raise
        return digest.hexdigest()

    def _chunks(self, key: str) -> Generator[bytes, None, None]:
        """An object's bytes in order, over broken connections.

        What follows a break is asked for by range and only of the same version of the object.
        """
        offset, fruitless = 0, 0
        version: dict[str, str] = {}
        while True:
            response = None
            try:
                response = self._client.get_object(
                    self._bucket, self._prefix + key, offset=offset, request_headers=dict(version)
                )
                if offset and response.status != 206:
                    raise StorageUnavailableError(
                        f"reading {key} in {self.url}: the connection broke after {offset} bytes, "
                        "and the store ignores ranges"
                    )
                version = {"If-Match": str(response.headers["etag"])}
                for chunk in response.stream(CHUNK_BYTES):
                    offset += len(chunk)
                    fruitless = 0
                    yield chunk
                return
            except (urllib3.exceptions.HTTPError, OSError):
                fruitless += 1
                if not offset or fruitless > _RESUMES:
                    raise
            finally:
                if response is not None:
                    response.close()
                    response.release_conn()
            time.sleep(_RESUME_PAUSE_S * 2 ** (fruitless - 1))

    def size_bytes(self, key: str) -> int | None:
        self._prepare()
        try:
            with self._s3_errors(f"looking up {key}"):
                found = self._client.stat_object(self._bucket, self._prefix + key)
        except NotFoundError:
            return None
        return int(found.size)

    def children(self, prefix: str, *, after: str = "") -> Iterator[str]:
        self._prepare()
        full = self._prefix + prefix
        with self._s3_errors(f"listing {prefix}"):
            for item in self._client.list_objects(
                self._bucket, prefix=full, start_after=full + after if after else None
            ):
                name = str(item.object_name)[len(full) :].rstrip("/")
                # What lies below `after` sorts behind it, so its directory is listed once more.
                if name > after:
                    yield name

    def keys(self, prefix: str) -> Iterator[str]:
        self._prepare()
        with self._s3_errors(f"listing {prefix}"):
            for item in self._client.list_objects(
                self._bucket, prefix=self._prefix + prefix, recursive=True
            ):
                yield str(item.object_name)[len(self._prefix) :]

    def delete(self, key: str) -> None:
        self._prepare()
        with self._s3_errors(f"deleting {key}"):
            self._client.remove_object(self._bucket, self._prefix + key)

    def _prepare(self) -> None:
        """Once per process: make the bucket where it is missing, and probe conditional writes."""
        with self._prepare_lock:
            if self._prepared:
                return
            with self._s3_errors("opening the bucket"):
                self._make_bucket()
            self._probe_conditional_writes()
            self._prepared = True

    def _make_bucket(self) -> None:
        try:
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)
        except S3Error as error:
            # Another process made it first, or this key may use the bucket but not look it up.
            if error.code not in {
                "BucketAlreadyOwnedByYou",
                "BucketAlreadyExists",
                "AccessDenied",
            }:
                raise

    def _probe_conditional_writes(self) -> None:
        """Whether the store refuses to write an object that must be absent and is not.

        The object stays: a store over a file system would remove its emptied folder with it, just
        when another process may be writing there.
        """
        for content in (b"1", b"2"):
            try:
                self._put_if(_PROBE_KEY, content, expected=None)
            except ConflictError:
                return
        raise FailedPreconditionError(
            f"{self.url} ignores If-None-Match on PUT, so two writers could overwrite each "
            "other; accepted: a store with conditional writes",
            reason="NO_CONDITIONAL_WRITES",
        )

    @contextlib.contextmanager
    def _s3_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PlumblineError:
            raise
        except S3Error as error:
            where = f"{doing} in {self.url}"
            raise typed_error(where, str(error.code), str(error.message)) from error
        except (ServerError, MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise StorageUnavailableError(f"{doing} in {self.url}: {root_cause(error)}") from error


def _version_in(response: urllib3.BaseHTTPResponse) -> str:
    return str(response.headers["etag"]).strip('"')


def _was_retried(response: urllib3.BaseHTTPResponse) -> bool:
    return response.retries is not None and bool(response.retries.history)


class _HashingReader:
    """Digests what the client reads, in the order in which it reads."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[IO[bytes], int]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source)
        return
    with open_regular(source) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        yield file, size


def _part_bytes(size: int) -> int:
    """Part size for a file of known size: 64 MiB, or more where 10,000 parts would not do.

    A file that fits one part is sent in one request.
    """
    least = -(-size // _MAX_PARTS)
    return max(PART_BYTES, -(-least // 2**20) * 2**20)
