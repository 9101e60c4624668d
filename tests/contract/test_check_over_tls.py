"""`plumbline check --services` where every part speaks TLS, as in a release with `tls.mode`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

pytest.importorskip("uvicorn", reason="the extra plumbline[http] is not installed")

from plumbline.cli.platform_checks import check_services
from plumbline.core.rpc import serve_in_thread
from plumbline.core.settings import Settings
from plumbline.openai_front.server import front_in_thread


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A certificate for `localhost` that is its own authority, on both sides."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not installed")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=30)
    certificate = tmp_path / "cert.pem"
    return Settings(
        state_dir=tmp_path, tls_cert=certificate, tls_key=tmp_path / "key.pem", tls_ca=certificate
    )


def test_services_and_front_are_asked_with_certificates(settings: Settings) -> None:
    def register(server: grpc.aio.Server) -> list[str]:
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register, settings=settings) as sampler:
        target = f"localhost:{sampler.rpartition(':')[2]}"
        with front_in_thread(settings, target=target) as front:
            targets = {"sampler": target, "openai_front": f"localhost:{front.rpartition(':')[2]}"}
            with_tls = settings.model_copy(update={"targets": targets})
            without = Settings(state_dir=settings.state_dir, targets=targets)

            found = {one.check: one.result for one in check_services(with_tls, timeout_s=10)}
            refused = {one.check: one.result for one in check_services(without, timeout_s=2)}

    assert found["service sampler"] == found["service openai-front"] == "passed"
    assert refused["service sampler"] == refused["service openai-front"] == "failed"


def test_an_authority_alone_means_tls_and_the_name_is_the_one_that_is_set(
    settings: Settings,
) -> None:
    with front_in_thread(settings, target="localhost:9") as front:
        targets = {"openai_front": f"127.0.0.1:{front.rpartition(':')[2]}"}
        named = Settings(
            state_dir=settings.state_dir,
            targets=targets,
            tls_ca=settings.tls_ca,
            tls_server_name="localhost",
        )
        unnamed = named.model_copy(update={"tls_server_name": None})

        passed, failed = (
            {one.check: one for one in check_services(asked, timeout_s=10)}["service openai-front"]
            for asked in (named, unnamed)
        )

    assert (passed.result, failed.result) == ("passed", "failed")
    assert "not valid for '127.0.0.1'" in failed.why
