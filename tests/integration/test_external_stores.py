"""The quickstart with nothing embedded: artifacts on a real MinIO, jobs on a real redis-server."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from object_stores import S3Server, free_port

from plumbline.core.artifacts import open_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SMALL = Path(__file__).with_name("small_quickstart.yaml")
PASSWORD = "known-to-this-loopback-only"
CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir {directory}
appendonly yes
maxmemory-policy noeviction
requirepass {password}
"""


@pytest.fixture(scope="module")
def redis_server(
    find_program: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of a redis-server 7 with a password, an append-only file and no eviction."""
    binary = find_program("redis-server", builder="apt-get")
    directory = tmp_path_factory.mktemp("redis")
    port = free_port()
    text = CONFIGURATION.format(port=port, directory=directory, password=PASSWORD)
    with (directory / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "-"], stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
        )
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    try:
        _wait_for_answer(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                version = client.info("server")["redis_version"]
            except redis.ConnectionError:
                assert process.poll() is None and time.monotonic() < deadline, "redis-server died"
                time.sleep(0.05)
                continue
            assert int(version.split(".")[0]) >= 7, version
            return


@pytest.fixture
def outside(
    new_shell: Any, redis_server: str, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> Iterator[Any]:
    """A shell whose platform keeps everything outside of its state directory."""
    shell = new_shell(tmp_path)
    shell.environment |= {
        **s3_server.environment(),
        "PLUMBLINE_STORE": f"s3://{s3_bucket}/platform",
        "REDIS_URL": redis_server,
    }
    yield shell
    try:
        shell("down")
    finally:
        for process in shell.processes():
            process.kill()


@pytest.mark.slow
def test_the_small_quickstart_makes_what_it_makes_anywhere(
    outside: Any, undisturbed: Any, s3_server: S3Server, s3_bucket: str, tmp_path: Path
) -> None:
    """Every artifact has the id that it has on a directory and Valkey, and none is kept here."""
    outside("up")
    result = outside.json("run", "--no-up", str(SMALL))

    assert result["state"] == "SUCCEEDED"
    assert result["artifacts"] == undisturbed.result["artifacts"]
    assert result["metrics"] == undisturbed.result["metrics"]
    assert (outside.state_dir / "reports" / "small-quickstart.html").is_file()
    assert not (outside.state_dir / "store").exists()
    assert not (outside.state_dir / "redis").exists() or not os.listdir(outside.state_dir / "redis")
    store = open_store(
        f"s3://{s3_bucket}/platform",
        cache_dir=tmp_path / "cache",
        cache_bytes=2**30,
        settings=s3_server.settings(tmp_path),
    )
    assert all(store.verify(artifact_id) for artifact_id in result["artifacts"].values())

    again = outside.json("run", "--no-up", str(SMALL))
    assert all(stage["cached"] for stage in again["stages"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_quickstart(outside: Any, request: pytest.FixtureRequest) -> None:
    """As a user runs it; what the policies reach is `test_quickstart_full`'s to say."""
    del outside.environment["PLUMBLINE_THREADS"]
    quickstart = request.config.rootpath / "pipelines" / "quickstart.yaml"
    with outside.start("run", "--json", str(quickstart)) as process:
        out, err = process.communicate(timeout=3000)

    assert process.returncode == 0, err
    assert '"state": "SUCCEEDED"' in out
