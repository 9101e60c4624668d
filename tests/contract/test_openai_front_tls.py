"""TLS: mutual towards the sampler, by token towards callers."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest

from plumbline.core.rpc import serve_in_thread
from plumbline.core.settings import Settings
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc

pytest.importorskip("uvicorn", reason="the extra `http` is not installed")

from plumbline.openai_front.server import front_in_thread


class NoPolicies(sampler_pb2_grpc.SamplerServiceServicer):
    async def ListPolicies(
        self, request: pb.ListPoliciesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListPoliciesResponse:
        return pb.ListPoliciesResponse()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A certificate for `localhost` that is its own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is not installed")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=30)
    certificate = tmp_path / "cert.pem"
    return Settings(tls_cert=certificate, tls_key=tmp_path / "key.pem", tls_ca=certificate)


def test_callers_need_no_certificate_and_the_sampler_gets_one(settings: Settings) -> None:
    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(NoPolicies(), server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register, settings=settings) as sampler:
        target = f"localhost:{sampler.rpartition(':')[2]}"
        with front_in_thread(settings, target=target) as front:
            url = f"https://localhost:{front.rpartition(':')[2]}/v1/models"
            trusting = ssl.create_default_context(cafile=str(settings.tls_ca))
            with urllib.request.urlopen(url, context=trusting, timeout=10) as reply:
                body = reply.read()
            with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
                urllib.request.urlopen(url, timeout=10)

    assert body == b'{"object":"list","data":[]}'
