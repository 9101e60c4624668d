"""Programs that try to get out of the sandbox, each against every set of layers that it relies on.

What must not happen is watched from outside: a listener that nobody may reach, a file that nobody
may read or change, a process that nobody may signal.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from plumbline.retriever.tools.sandbox.config import Layer, SandboxConfig
from plumbline.retriever.tools.sandbox.runner import Sandbox
from plumbline.retriever.tools.sandbox.watching import Ending, Outcome

SETS = {
    "all": tuple(Layer),
    "without namespaces": (Layer.LANDLOCK, Layer.SECCOMP),
    "namespaces alone": (Layer.NAMESPACES,),
}
SECRET = "the-secret-outside"


@pytest.fixture(scope="module", params=SETS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """A sandbox of one set of layers; skips where the kernel has them not."""
    made = Sandbox(SandboxConfig(layers=SETS[request.param], wall_s=30, cpu_s=2))
    missing = set(SETS[request.param]) - made.layers
    if missing:
        pytest.skip(f"this machine does not permit {', '.join(sorted(missing))}")
    return made


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    path.chmod(0o644)
    return path


def assert_raised(outcome: Outcome, *errors: str) -> None:
    assert outcome.ending is Ending.RAISED, outcome
    assert outcome.why.split(":")[0] in errors, outcome


def test_tcp_reaches_nobody(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = sandbox.run(
            f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=2)"
        )
        server.settimeout(0.2)

        with pytest.raises(TimeoutError):
            server.accept()
    assert_raised(outcome, "PermissionError", "OSError")


def test_udp_reaches_nobody(sandbox: Sandbox) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.2)
        outcome = sandbox.run(
            "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            f"s.sendto(b'out', ('127.0.0.1', {receiver.getsockname()[1]}))"
        )

        with pytest.raises(TimeoutError):
            receiver.recv(10)
    assert_raised(outcome, "PermissionError", "OSError")


def test_names_are_not_resolved(sandbox: Sandbox) -> None:
    outcome = sandbox.run("import socket\nsocket.getaddrinfo('example.com', 80)")

    assert_raised(outcome, "gaierror", "PermissionError", "UnicodeError", "OSError")


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_sockets_reach_nobody(sandbox: Sandbox, tmp_path: Path, abstract: bool) -> None:
    address = f"\0plumbline-test-{os.getpid()}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        if not abstract:
            Path(address).chmod(0o777)
        outcome = sandbox.run(
            f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({address!r})"
        )
        server.settimeout(0.2)

        with pytest.raises(TimeoutError):
            server.accept()
    assert_raised(outcome, "PermissionError", "FileNotFoundError", "ConnectionRefusedError")


def test_a_fork_bomb_does_not_go_off(sandbox: Sandbox) -> None:
    outcome = sandbox.run("import os\nwhile True:\n    os.fork()")

    assert_raised(outcome, "PermissionError", "BlockingIOError")
    assert not left_behind()


def test_a_thread_bomb_does_not_go_off(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import threading, time\nwhile True:\n"
        "    threading.Thread(target=time.sleep, args=(100,)).start()"
    )

    assert_raised(outcome, "RuntimeError")


def test_nobody_survives_a_double_fork(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import os, time\n"
        "def leave():\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(60)\n"
        "leave()"
    )

    assert_raised(outcome, "PermissionError", "BlockingIOError")
    assert not left_behind()


def left_behind() -> list[psutil.Process]:
    """Processes of ours, or without a parent, that were started as a sandbox."""
    found = []
    for process in psutil.process_iter(["cmdline", "ppid"]):
        line = " ".join(process.info["cmdline"] or ())
        if "sandbox.program import main" in line and process.info["ppid"] in (1, os.getpid()):
            found.append(process)
    return found


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/proc/{parent}/environ", "/proc/self/environ", "/proc/1/cmdline"]
)
def test_files_of_the_machine_are_not_read(sandbox: Sandbox, path: str) -> None:
    outcome = sandbox.run(f"print(open({path.format(parent=os.getpid())!r}).read())")

    assert_raised(outcome, "PermissionError", "FileNotFoundError")
    assert outcome.stdout == ""


def test_a_file_outside_is_neither_read_nor_changed(sandbox: Sandbox, secret: Path) -> None:
    before = secret.stat()
    attempts = (
        "open({path!r}).read()",
        "open({path!r}, 'w').write('changed')",
        "__import__('os').remove({path!r})",
        "__import__('os').rename({path!r}, 'mine')",
        "__import__('os').truncate({path!r}, 0)",
        "__import__('os').chmod({path!r}, 0)",
        "__import__('os').utime({path!r}, (0, 0))",
        "__import__('os').link({path!r}, 'mine')",
        "__import__('os').mkdir({path!r} + '.d')",
        "__import__('os').listdir(__import__('os').path.dirname({path!r}))",
    )
    outcome = sandbox.run("", [attempt.format(path=str(secret)) for attempt in attempts])

    assert [value.value for value in outcome.values] == [""] * len(attempts), outcome.values
    assert secret.read_text() == SECRET
    after = secret.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert os.listdir(secret.parent) == ["secret.txt"]


@pytest.mark.parametrize("how", ["symlink", "dots", "descriptor"])
def test_no_way_around_leads_to_a_file_outside(sandbox: Sandbox, secret: Path, how: str) -> None:
    ways = {
        "symlink": f"import os\nos.symlink({str(secret)!r}, 'l')\nprint(open('l').read())",
        "dots": f"print(open('../' * 20 + {str(secret)!r}[1:]).read())",
        "descriptor": (
            f"import os\nd = os.open('/', os.O_PATH)\n"
            f"print(open(os.open({str(secret)!r}[1:], os.O_RDONLY, dir_fd=d)).read())"
        ),
    }
    outcome = sandbox.run(ways[how])

    assert_raised(outcome, "PermissionError", "FileNotFoundError")
    assert SECRET not in outcome.stdout + outcome.stderr


def test_nothing_is_inherited(sandbox: Sandbox) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    os.environ["PLUMBLINE_TEST_TOKEN"] = SECRET
    try:
        outcome = sandbox.run(
            "import os, sys\n"
            "print(dict(os.environ))\n"
            "print(sys.stdin.read())\n"
            f"os.write({write}, b'x')"
        )
    finally:
        del os.environ["PLUMBLINE_TEST_TOKEN"]
        os.close(write)
        leaked = os.read(read, 10)
        os.close(read)

    assert SECRET not in outcome.stdout
    assert_raised(outcome, "OSError")
    assert leaked == b""


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of the same user, which nothing inside may touch."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


SIGNALS = {
    "kill": "import os\nos.kill({pid}, 9)",
    "kill the parent": "import os\nos.kill(os.getppid() or {pid}, 9)",
    "everybody": "import os\nos.kill(-1, 9)",
    "by C": "import ctypes\nassert ctypes.CDLL(None).kill({pid}, 9) == 0",
    "by owner of a pipe": (
        "import fcntl, os, signal\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, {pid})\n"
        "fcntl.fcntl(r, 10, 9)\n"
        "fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')"
    ),
    "by its limits": "import resource\nresource.prlimit({pid}, resource.RLIMIT_CPU, (0, 0))",
    "by tracing": "import ctypes\nassert ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0",
    "by its memory": (
        "import ctypes\nb = ctypes.create_string_buffer(8)\n"
        "v = (ctypes.c_void_p * 2)(ctypes.addressof(b), 8)\n"
        "assert ctypes.CDLL(None).process_vm_readv({pid}, v, 1, v, 1, 0) >= 0"
    ),
}


@pytest.mark.parametrize("how", SIGNALS)
def test_other_processes_are_left_alone(
    sandbox: Sandbox, bystander: subprocess.Popen[bytes], how: str
) -> None:
    limit = psutil.Process(bystander.pid).rlimit(psutil.RLIMIT_CPU)

    sandbox.run(SIGNALS[how].format(pid=bystander.pid))

    time.sleep(0.05)
    assert bystander.poll() is None
    assert psutil.Process(bystander.pid).rlimit(psutil.RLIMIT_CPU) == limit


OPEN = SandboxConfig(layers=(), allow_weaker=True)


def test_without_layers_the_same_attempts_succeed(
    secret: Path, bystander: subprocess.Popen[bytes]
) -> None:
    """So the tests above would see it if a layer let them through."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        outcome = Sandbox(OPEN).run(
            f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}))\n"
            f"print(open({str(secret)!r}).read())\n" + SIGNALS["kill"].format(pid=bystander.pid)
        )
        server.settimeout(5)
        server.accept()[0].close()

    assert outcome.stdout == f"{SECRET}\n"
    assert bystander.wait(5) == -9
