"""Objects in an S3 bucket, through the `minio` client: MinIO, SeaweedFS, Ceph, AWS and others.

Compare-and-set uses conditional PUT (`If-None-Match: *` and `If-Match: <etag>`). The client has no
public call for it, so it goes through a presigned URL; headers outside the signature are allowed
there. A store that ignores the condition is found out by a probe and refused.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit
from xml.etree import ElementTree

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error, ServerError

from plumbline.core.artifacts.disk import CHUNK_BYTES, disk_errors, open_regular
from plumbline.core.errors import (
    ConfigError,
    ConflictError,
    CorruptArtifactError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    PlumblineError,
    StorageFullError,
    StorageUnavailableError,
    UnauthenticatedError,
)

PART_BYTES: Final = 64 * 2**20
"""Files above this size are uploaded in parts of this size."""
_MAX_PARTS: Final = 10_000
_PARALLEL_PARTS: Final = 2
_PRESIGNED_FOR: Final = timedelta(minutes=5)

_ABSENT_CODES: Final = {"NoSuchKey", "NoSuchBucket", "NoSuchUpload"}
_FULL_CODES: Final = {
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
    "InsufficientStorage",
}
_UNKNOWN_CALLER_CODES: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


class S3Backend:
    """ObjectBackend over one bucket and prefix.

    Args:
        endpoint: http(s)://host:port.
        access_key, secret_key: None for anonymous access.
        timeout_s: of connecting; reading waits up to twelve times as long.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str,
        access_key: str | None,
        secret_key: str | None,
        region: str,
        timeout_s: float = 5.0,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/"):
            raise ConfigError(
                f"S3 endpoint {endpoint!r} is malformed; accepted: http(s)://host:port",
                field="s3_endpoint",
            )
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s * 12),
            retries=urllib3.Retry(
                total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]
            ),
            maxsize=16,
        )
        try:
            self._client = Minio(
                parts.netloc,
                access_key=access_key,
                secret_key=secret_key,
                secure=parts.scheme == "https",
                region=region,
                http_client=self._http,
            )
        except ValueError as error:
            raise ConfigError(f"S3 endpoint {endpoint!r}: {error}", field="s3_endpoint") from None
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
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        with self._s3_errors(f"writing {key}"):
            signed = self._client.get_presigned_url(
                "PUT", self._bucket, self._prefix + key, expires=_PRESIGNED_FOR
            )
            response = self._http.urlopen(
                "PUT", signed, body=data, headers={"Content-MD5": digest, **condition}
            )
        if response.status == 200:
            return str(response.headers["etag"]).strip('"')
        # 409 is AWS's answer to two conditional writes in the same moment; 404 to If-Match on
        # an object that is gone.
        if response.status in {409, 412} or (response.status == 404 and expected is not None):
            raise ConflictError(
                f"{key} was not written: "
                + ("it exists already" if expected is None else "it changed meanwhile"),
                metadata={"key": key},
            )
        code, message = _error_in(response.data)
        raise self._typed(f"writing {key}", code or f"HTTP {response.status}", message)

    def get(self, key: str) -> tuple[bytes, str]:
        self._prepare()
        with self._s3_errors(f"reading {key}"):
            response = self._client.get_object(self._bucket, self._prefix + key)
            try:
                data = response.read()
                return data, str(response.headers["etag"]).strip('"')
            finally:
                response.close()
                response.release_conn()

    def download(self, key: str, destination: Path) -> str:
        self._prepare()
        digest = hashlib.sha256()
        doing = f"copying {key} from {self.url} to {destination}"
        with self._s3_errors(f"reading {key}"):
            response = self._client.get_object(self._bucket, self._prefix + key)
            try:
                with disk_errors(doing):
                    file = open(destination, "xb")  # noqa: SIM115 - closed two lines below
                with file:
                    for chunk in response.stream(CHUNK_BYTES):
                        digest.update(chunk)
                        with disk_errors(doing):
                            file.write(chunk)
                    with disk_errors(doing):
                        file.flush()
                        os.fsync(file.fileno())
            except BaseException:
                destination.unlink(missing_ok=True)
                raise
            finally:
                response.close()
                response.release_conn()
        return digest.hexdigest()

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
        key = f".probe/{uuid.uuid4().hex}"
        self._put_if(key, b"1", expected=None)
        try:
            self._put_if(key, b"2", expected=None)
        except ConflictError:
            return
        finally:
            with self._s3_errors("deleting the probe"):
                self._client.remove_object(self._bucket, self._prefix + key)
        raise FailedPreconditionError(
            f"{self.url} ignores If-None-Match on PUT, so two writers could overwrite each "
            "other; accepted: a store with conditional writes",
            reason="NO_CONDITIONAL_WRITES",
        )

    @contextmanager
    def _s3_errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PlumblineError:
            raise
        except S3Error as error:
            raise self._typed(doing, str(error.code), str(error.message)) from error
        except (ServerError, MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise StorageUnavailableError(f"{doing} in {self.url}: {_root_cause(error)}") from error

    def _typed(self, doing: str, code: str, message: str) -> PlumblineError:
        text = f"{doing} in {self.url}: {code}: {message}"
        if code in _ABSENT_CODES:
            return NotFoundError(text)
        if code in _FULL_CODES:
            return StorageFullError(f"{text}; free some space and run it again")
        if code in _UNKNOWN_CALLER_CODES:
            return UnauthenticatedError(
                f"{text}; check PLUMBLINE_S3_ACCESS_KEY and PLUMBLINE_S3_SECRET_KEY"
            )
        if code == "AccessDenied":
            return PermissionDeniedError(text)
        return StorageUnavailableError(text)


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


@contextmanager
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


def _error_in(body: bytes) -> tuple[str, str]:
    """Code and message of an S3 error document; empty where the body is none."""
    try:
        document = ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return "", body[:200].decode("utf-8", "replace")
    found: dict[str, Any] = {item.tag.rpartition("}")[2]: item.text or "" for item in document}
    return str(found.get("Code", "")), str(found.get("Message", ""))


def _root_cause(error: BaseException) -> str:
    """`Connection refused` rather than the retry machinery's account of it."""
    reason = getattr(error, "reason", None)
    return str(reason if reason is not None else error)
