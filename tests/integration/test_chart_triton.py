"""Triton as the chart starts it: reward models out of the store, exported, and served.

The commands of the init container and of the server are run as they are rendered; paths and ports
alone are this machine's. NVIDIA's image and accelerators are not shown here.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from charts.rendering import Object, Pod, render

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from triton_server import TritonServer

from plumbline.core.artifacts import Lineage, open_configured_store
from plumbline.core.settings import Settings
from plumbline.reward.backends import EncodedText, ModelFiles
from plumbline.reward.config import TritonClientConfig
from plumbline.reward.triton_backend import TritonBackend

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

ON_A_CPU: Object = {
    "triton": {
        "enabled": True,
        "pool": "cpu",
        "gpus": 0,
        "exportSettings": {"device": "cpu", "threads": 1},
    }
}


def words(container: Object, directory: Path) -> list[str]:
    return [str(word).replace("/models", str(directory)) for word in container["command"]]


def test_reward_models_of_the_store_are_served(
    tritonserver: Path, tiny_reward_models: dict[str, Path], tmp_path: Path
) -> None:
    settings = Settings(state_dir=tmp_path / "state", store=f"file://{tmp_path / 'store'}")
    store = open_configured_store(settings)
    ids = {}
    for head in ("helpfulness", "safety"):
        made = store.put("reward-model", tiny_reward_models[head], lineage=Lineage(stage="import"))
        store.tag(f"reward-model/{head}@latest", made.id)
        ids[head] = made.id
    pod = render(changes=ON_A_CPU).pod("triton")

    _export(pod, settings, tmp_path)
    program, *arguments = words(pod.main, tmp_path)
    repository = tmp_path / "repository"
    assert program == "tritonserver"
    assert arguments.pop(0) == f"--model-repository={repository}"
    with TritonServer(tritonserver, repository, tmp_path, arguments) as server:
        backend = TritonBackend(TritonClientConfig(target=server.target))
        try:
            for head, model_id in ids.items():
                model = ModelFiles(model_id, tiny_reward_models[head])
                scored = backend.submit(model, [EncodedText([3, 4, 5, 6, 7], response_length=2)])
                assert math.isfinite(scored.result(timeout=60)[0]), head
        finally:
            backend.close()


def _export(pod: Pod, settings: Settings, directory: Path) -> None:
    (container,) = pod.spec["initContainers"]
    _, *arguments = words(container, directory)
    subprocess.run(
        [sys.executable, *arguments],
        env={
            **os.environ,
            "PLUMBLINE_STATE_DIR": str(settings.state_dir),
            "PLUMBLINE_STORE": settings.store_url,
        },
        check=True,
        timeout=300,
    )
