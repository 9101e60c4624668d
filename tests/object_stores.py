"""Real S3 servers for tests, each over a directory of its own on loopback."""

from __future__ import annotations

import abc
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import pytest
from pydantic import SecretStr

from plumbline.core.settings import S3Access, Settings

STARTUP_S: Final = 60.0
ACCESS_KEY: Final = "plumbline-test"
SECRET_KEY: Final = "known-to-this-loopback-only"
NAMED_VARIABLE: Final = "PLUMBLINE_TEST_S3"
"""An S3 endpoint to test against: `http(s)://access_key:secret_key@host:port[?ca=/file.pem]`."""


@dataclass(frozen=True)
class S3Server:
    """An S3 endpoint; each test takes a bucket of its own."""

    endpoint: str
    access_key: str
    secret_key: str
    ca: Path | None = None

    @property
    def access(self) -> S3Access:
        return S3Access(
            endpoint=self.endpoint,
            access_key=SecretStr(self.access_key),
            secret_key=SecretStr(self.secret_key),
            ca=self.ca,
        )

    def settings(self, state_dir: Path) -> Settings:
        return Settings(
            state_dir=state_dir,
            s3_endpoint=self.endpoint,
            s3_access_key=SecretStr(self.access_key),
            s3_secret_key=SecretStr(self.secret_key),
            s3_ca=self.ca,
        )

    def environment(self) -> dict[str, str]:
        """Variables that a process of the platform reads."""
        found = {
            "PLUMBLINE_S3_ENDPOINT": self.endpoint,
            "PLUMBLINE_S3_ACCESS_KEY": self.access_key,
            "PLUMBLINE_S3_SECRET_KEY": self.secret_key,
        }
        return found | ({"PLUMBLINE_S3_CA": str(self.ca)} if self.ca else {})


def named_server() -> S3Server | None:
    """The server that PLUMBLINE_TEST_S3 names."""
    named = os.environ.get(NAMED_VARIABLE)
    if not named:
        return None
    address, _, query = named.partition("?")
    scheme, _, rest = address.partition("://")
    keys, _, host = rest.rpartition("@")
    access_key, _, secret_key = keys.partition(":")
    ca = query.removeprefix("ca=")
    return S3Server(f"{scheme}://{host}", access_key, secret_key, Path(ca) if ca else None)


@dataclass(frozen=True)
class Certificate:
    """A server's certificate, its key, and the authority that signed it."""

    ca: Path
    cert: Path
    key: Path


def make_certificate(directory: Path, names: str = "IP:127.0.0.1,DNS:localhost") -> Certificate:
    """Signed by a private authority of this directory; skips without the program openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is missing")
    directory.mkdir(parents=True, exist_ok=True)
    new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    for command in (
        f"req -x509 {new_key} -subj /CN=test-authority -keyout ca.key -out ca.crt",
        f"req {new_key} -subj /CN=store -keyout store.key -out store.csr",
        "x509 -req -in store.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 "
        "-extfile names -out store.crt",
    ):
        (directory / "names").write_text(f"subjectAltName={names}\n")
        subprocess.run(
            ["openssl", *command.split()],
            cwd=directory,
            check=True,
            capture_output=True,
            timeout=30,
        )
    return Certificate(directory / "ca.crt", directory / "store.crt", directory / "store.key")


class StoreProgram(abc.ABC):
    """An S3 server for as long as the block lasts.

    Args:
        binary: the program.
        directory: where it keeps what it stores; a second server over it finds that again.
        port: 0 takes a free one.
        certificate: None serves plain HTTP.
    """

    program: ClassVar[str]
    """Name among the servers that the set-up provides."""

    def __init__(
        self,
        binary: Path,
        directory: Path,
        *,
        port: int = 0,
        certificate: Certificate | None = None,
    ) -> None:
        self.binary = binary
        self.directory = directory
        self.port = port or free_port()
        self.certificate = certificate

    @abc.abstractmethod
    def command(self) -> Sequence[str | Path]:
        """The program and its arguments."""

    def environment(self) -> Mapping[str, str]:
        return {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> S3Server:
        (self.directory / "data").mkdir(exist_ok=True)
        log = (self.directory / f"{self.program}.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(),
                env={"PATH": os.defpath, "HOME": str(self.directory), **self.environment()},
                cwd=self.directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        scheme = "https" if self.certificate else "http"
        ca = self.certificate.ca if self.certificate else None
        server = S3Server(f"{scheme}://{self.address}", ACCESS_KEY, SECRET_KEY, ca)
        self._wait_until_it_answers(server)
        return server

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Take the server away from under its clients."""
        self._process.kill()
        self._process.wait()

    def _wait_until_it_answers(self, server: S3Server) -> None:
        trusted = ssl.create_default_context(cafile=server.ca) if server.ca else None
        deadline = time.monotonic() + STARTUP_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(server.endpoint, timeout=2, context=trusted).close()
                return
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500:  # refused as anonymous, so it is there
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.kill()
        log = (self.directory / f"{self.program}.log").read_text(errors="replace")[-2000:]
        pytest.fail(f"{self.program} did not answer on {self.address}:\n{log}")


class Minio(StoreProgram):
    """MinIO over one directory."""

    program = "minio"

    def command(self) -> Sequence[str | Path]:
        command = [self.binary, "server", self.directory / "data", "--address", self.address]
        if self.certificate is None:
            return command
        certificates = self.directory / "certificates"
        certificates.mkdir(exist_ok=True)
        shutil.copy(self.certificate.cert, certificates / "public.crt")
        shutil.copy(self.certificate.key, certificates / "private.key")
        return [*command, "--certs-dir", certificates]

    def environment(self) -> Mapping[str, str]:
        return {
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }


class VersityGateway(StoreProgram):
    """Versity S3 Gateway: objects are files, conditional writes hold a lock on them."""

    program = "versitygw"

    def command(self) -> Sequence[str | Path]:
        secured: list[str | Path] = []
        if self.certificate is not None:
            secured = ["--cert", self.certificate.cert, "--key", self.certificate.key]
        metadata = self.directory / "metadata"  # /tmp may have no extended attributes
        metadata.mkdir(exist_ok=True)
        place = ["--sidecar", metadata, self.directory / "data"]
        return [self.binary, "--port", self.address, "--quiet", *secured, "posix", *place]

    def environment(self) -> Mapping[str, str]:
        return {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}


class SeaweedFS(StoreProgram):
    """SeaweedFS: master, volume server, filer and S3 gateway in one process."""

    program = "seaweedfs"

    def command(self) -> Sequence[str | Path]:
        identity = {
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin"],
        }
        configuration = self.directory / "s3.json"
        configuration.write_text(json.dumps({"identities": [identity]}))
        ports = [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer")]
        ports += [
            f"-{part}.port.grpc={free_port()}" for part in ("master", "volume", "filer", "s3")
        ]
        secured: list[str] = []
        if self.certificate is not None:
            secured = [
                f"-s3.cert.file={self.certificate.cert}",
                f"-s3.key.file={self.certificate.key}",
            ]
        return [
            self.binary,
            "server",
            "-s3",
            "-ip=127.0.0.1",
            f"-dir={self.directory / 'data'}",
            "-volume.max=0",
            "-master.volumeSizeLimitMB=128",
            f"-s3.port={self.port}",
            f"-s3.config={configuration}",
            *ports,
            *secured,
        ]


PROGRAMS: Final[Mapping[str, type[StoreProgram]]] = {
    kind.program: kind for kind in (Minio, VersityGateway, SeaweedFS)
}


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
