"""What is in an image, and that it runs as a cluster runs it: no root, no writable root.

The base comes from Debian's packages (`.ci/base-image`), so no registry is needed. Containers are
started by runc from the image's files, on this machine's network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from images.containers import Container, Image, find_image

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

REPOSITORY = Path(__file__).parents[2]
TARGETS = tuple(os.environ.get("TARGETS", "curation pipeline").split())
"""Targets that are built and looked into; those with torch take gigabytes and minutes."""
BUILD_TOOLS = ("g++", "gcc", "cc1plus", "make", "pip", "uv")
BASES = {
    "BASE_IMAGE": "localhost/plumbline-base",
    "BUILDER_IMAGE": "localhost/plumbline-builder",
}
STARTUP_S = 60.0


@pytest.fixture(scope="session", params=TARGETS)
def image(request: pytest.FixtureRequest) -> Iterator[Image]:
    """A target as `make images` builds it, its files mounted."""
    for program in ("buildah", "debootstrap", "runc"):
        if shutil.which(program) is None:
            pytest.skip(f"images were not tested: {program} is missing (Debian packages it)")
    if os.geteuid() != 0:
        pytest.skip("images were not tested: mounting their files needs root")
    wheels = REPOSITORY / "build" / "wheels" / "requirements.txt"
    if not wheels.exists():
        pytest.skip("images were not tested: there are no wheels; run `make wheels`")
    _run(".ci/base-image")
    building = {"BUILDER": "buildah", "TARGETS": request.param, "TAG": "test", **BASES}
    _run(".ci/images", **building)
    with find_image(f"localhost/plumbline-{request.param}:test") as found:
        yield found


def test_an_image_says_what_it_is_and_runs_as_nobody(image: Image) -> None:
    config = image.config
    assert config["User"] == "10001:10001"
    assert config["Cmd"][:2] == ["python", "-m"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == image.title
    assert labels["org.opencontainers.image.version"]
    assert labels["org.opencontainers.image.revision"]
    print(f"\n{image.title}: {image.size_bytes() / 2**20:.0f} MiB")


def test_an_image_without_models_carries_no_torch(image: Image) -> None:
    packages = {path.name for path in image.site_packages().iterdir()}
    assert "plumbline" in packages
    heavy = {"torch", "transformers", "triton", "nvidia", "peft"} & packages
    if image.target in ("sampler", "reward", "worker"):
        assert "torch" in heavy
    else:
        assert not heavy


def test_an_image_carries_no_tools_of_its_build(image: Image) -> None:
    places = ("usr/bin", "usr/local/bin", "opt/plumbline/bin")
    found = {
        name for name in BUILD_TOOLS for place in places if (image.root / place / name).exists()
    }
    assert not found
    assert not (image.root / "wheels").exists() or not any((image.root / "wheels").iterdir())
    assert not list((image.root / "root").glob(".cache*"))


def test_an_image_is_compiled_to_bytecode_and_to_kernels(image: Image) -> None:
    # The file system may be read-only, so nothing could be compiled later.
    package = image.site_packages() / "plumbline"
    modules = list(package.rglob("*.py"))
    compiled = {path.name.partition(".")[0] for path in package.rglob("__pycache__/*.pyc")}
    assert modules
    assert {path.stem for path in modules} <= compiled
    assert list((package / "sampler" / "kernels").glob("_native*.so"))


def test_nothing_in_an_image_belongs_to_its_user_but_its_state(image: Image) -> None:
    owned = [path for path in (image.root / "opt").rglob("*") if path.lstat().st_uid != 0]
    assert not owned
    assert (image.root / "var/lib/plumbline").stat().st_uid == 10001


def test_every_stage_is_known_and_the_command_line_answers(
    image: Image, container: Callable[..., Container]
) -> None:
    help_text = container(image, "plumbline", "--help").finished()
    assert "submit" in help_text or "run" in help_text
    code = "from plumbline.catalogue import STAGES; import json; print(json.dumps(sorted(STAGES)))"
    stages = json.loads(container(image, "python", "-c", code).finished())
    assert "trainer.sft" in stages


def test_the_server_is_healthy_on_a_read_only_root(
    image: Image, container: Callable[..., Container], free_port: Callable[[], int]
) -> None:
    if image.target in ("openai-front", "worker"):
        pytest.skip(f"{image.target} is no gRPC server")
    address = f"127.0.0.1:{free_port()}"
    variables = {
        f"PLUMBLINE_{image.target.upper()}_LISTEN": address,
        # Nothing listens there: a server comes up before its broker.
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    server = container(image, *image.config["Cmd"], environment=variables)
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="")
        try:
            answer = stub.Check(request, timeout=STARTUP_S, wait_for_ready=True)
        except grpc.RpcError as error:
            pytest.fail(f"{error}\n{server.output()}")
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert server.user() == 10001
    assert "Read-only file system" in server.attempt_to_write("/opt/plumbline/x")


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """Starts containers as a restricted pod would be; they end with the test."""
    started: list[Container] = []

    def start(image: Image, *command: str, environment: dict[str, str] | None = None) -> Container:
        bundle = tmp_path / f"bundle-{len(started)}"
        started.append(Container(image, bundle, command, environment or {}))
        return started[-1]

    yield start
    for one in started:
        one.remove()


def _run(script: str, **variables: str) -> None:
    done = subprocess.run(
        [REPOSITORY / script],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, f"{script}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
