"""What a sandboxed program may use, what it is ended for, and when none is run at all."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from plumbline.core.errors import DeadlineExceededError, FailedPreconditionError, InvalidInputError
from plumbline.retriever.tools.sandbox.config import Layer, SandboxConfig
from plumbline.retriever.tools.sandbox.runner import Sandbox
from plumbline.retriever.tools.sandbox.seccomp import filter_program
from plumbline.retriever.tools.sandbox.watching import Ending, Outcome

SETS = {
    "all": tuple(Layer),
    "without namespaces": (Layer.LANDLOCK, Layer.SECCOMP),
    "namespaces alone": (Layer.NAMESPACES,),
}


@pytest.fixture(scope="module", params=SETS)
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """A sandbox of one set of layers; skips where the kernel has them not."""
    made = Sandbox(SandboxConfig(layers=SETS[request.param], wall_s=30, cpu_s=2))
    missing = set(SETS[request.param]) - made.layers
    if missing:
        pytest.skip(f"this machine does not permit {', '.join(sorted(missing))}")
    return made


def assert_raised(outcome: Outcome, *errors: str) -> None:
    assert outcome.ending is Ending.RAISED, outcome
    assert outcome.why.split(":")[0] in errors, outcome


def test_a_program_runs_with_the_standard_library_and_its_folder(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import asyncio, collections, csv, dataclasses, datetime, decimal, hashlib, json, math\n"
        "import random, re, sqlite3, statistics, tempfile, typing, unittest, uuid, zlib\n"
        "open('notes.txt', 'w').write('kept')\n"
        "print(open('notes.txt').read(), math.comb(5, 2))\n"
        "def double(x): return 2 * x\n",
        ["double(21)", "double('a')", "undefined"],
    )

    assert (outcome.ending, outcome.stdout) == (Ending.FINISHED, "kept 10\n"), outcome
    assert [value.value for value in outcome.values] == ["42", "'aa'", ""]
    assert outcome.values[2].raised == "NameError: name 'undefined' is not defined"


def test_memory_is_bounded(sandbox: Sandbox) -> None:
    outcome = sandbox.run("kept = []\nwhile True:\n    kept.append(bytearray(64 << 20))")

    assert_raised(outcome, "MemoryError")


def test_a_spin_is_ended_even_where_signals_are_ignored(sandbox: Sandbox) -> None:
    began = time.monotonic()
    outcome = sandbox.run(
        "import signal\n"
        "for s in (signal.SIGXCPU, signal.SIGTERM, signal.SIGALRM):\n"
        "    signal.signal(s, signal.SIG_IGN)\n"
        "while True:\n    pass"
    )

    assert outcome.ending is Ending.LIMIT, outcome
    assert time.monotonic() - began < 25


def test_a_sleeper_is_ended_by_the_clock() -> None:
    sandbox = Sandbox(SandboxConfig(wall_s=0.6))
    sandbox.require()
    began = time.monotonic()

    outcome = sandbox.run("import time\ntime.sleep(60)")

    assert (outcome.ending, outcome.why) == (Ending.LIMIT, "it ran for more than 0.6 s")
    assert time.monotonic() - began < 30


def test_a_deadline_that_passes_is_an_error() -> None:
    with pytest.raises(DeadlineExceededError, match="while a program was running"):
        Sandbox(SandboxConfig()).run("import time\ntime.sleep(60)", deadline=time.monotonic() + 1.5)


def test_output_is_bounded(sandbox: Sandbox) -> None:
    outcome = sandbox.run("import sys\nwhile True:\n    sys.stderr.write('x' * 65536)")

    assert (outcome.ending, outcome.why) == (Ending.LIMIT, "it wrote more than 262144 bytes")
    assert len(outcome.stderr) <= 262144


def test_results_are_bounded(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "import os\nwhile True:\n    for fd in range(3, 32):\n"
        "        try: os.write(fd, b'x' * 65536)\n        except OSError: pass"
    )

    assert outcome.ending is Ending.LIMIT, outcome


def test_disk_is_bounded(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        "i = 0\nwhile True:\n    i += 1\n    open(f'f{i}', 'wb').write(b'x' * (1 << 20))"
    )

    assert outcome.ending in (Ending.LIMIT, Ending.RAISED), outcome
    assert "8388608 bytes" in outcome.why or "No space left" in outcome.why


def test_one_file_is_bounded(sandbox: Sandbox) -> None:
    outcome = sandbox.run("open('big', 'wb').write(b'x' * (5 << 20))")

    assert_raised(outcome, "OSError")


CALLS = {
    "socket": (41, 198),
    "clone": (56, 220),
    "execve": (59, 221),
    "ptrace": (101, 117),
    "mount": (165, 40),
    "unshare": (272, 97),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "memfd_create": (319, 279),
    "keyctl": (250, 219),
    "open_by_handle_at": (304, 265),
    "setsid": (112, 157),
    "prctl": (157, 167),
    "pidfd_send_signal": (424, 424),
}


def interpret(program: bytes, machine: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What a seccomp filter answers: an independent reading of classic BPF."""
    code = [struct.unpack_from("<HBBI", program, i) for i in range(0, len(program), 8)]
    data = {0: number, 4: machine}
    data |= {16 + 8 * i: argument for i, argument in enumerate(arguments)}
    accumulator, place = 0, 0
    while True:
        operation, equal, unequal, value = code[place]
        place += 1
        if operation == 0x20:
            accumulator = data.get(value, 0)
        elif operation == 0x15:
            place += equal if accumulator == value else unequal
        else:
            assert operation == 0x06
            return value


ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000


@pytest.mark.parametrize(("machine", "audit"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_filter_allows_its_list_alone(machine: str, audit: int) -> None:
    program = filter_program(machine, own_pid=77)
    column = 0 if machine == "x86_64" else 1
    kill, fcntl, read = ((62, 129), (72, 25), (0, 63))

    for numbers in CALLS.values():
        assert interpret(program, audit, numbers[column]) == REFUSE
    assert interpret(program, audit, read[column]) == ALLOW
    assert interpret(program, audit, kill[column], (77,)) == ALLOW
    assert interpret(program, audit, kill[column], (1,)) == REFUSE
    assert interpret(program, audit, fcntl[column], (3, 1)) == ALLOW
    assert interpret(program, audit, fcntl[column], (3, 8)) == REFUSE  # F_SETOWN
    # The 32-bit table, and x32 with its bit: by other numbers anything could be called.
    assert interpret(program, 0x40000003, read[column]) == KILL
    assert interpret(program, audit, 0x40000000 | read[column]) == REFUSE
    allowed = sum(interpret(program, audit, number) == ALLOW for number in range(600))
    assert allowed < 120


def test_no_program_runs_where_it_would_not_be_shut_in() -> None:
    for layers in ((), (Layer.LANDLOCK,)):
        sandbox = Sandbox(SandboxConfig(layers=layers))
        assert sandbox.open_to() == ("the network", "files", "other processes")
        with pytest.raises(FailedPreconditionError, match="no program is run") as caught:
            sandbox.run("print(1)")
        assert caught.value.reason == "SANDBOX_UNAVAILABLE"


def test_files_alone_are_open_without_landlock_and_namespaces() -> None:
    sandbox = Sandbox(SandboxConfig(layers=(Layer.SECCOMP,)))

    assert sandbox.open_to() == ("files",)


def test_a_weaker_sandbox_is_a_choice_of_the_operator() -> None:
    outcome = Sandbox(SandboxConfig(layers=(), allow_weaker=True)).run("print(6 * 7)")

    assert (outcome.ending, outcome.stdout) == (Ending.FINISHED, "42\n")


def test_a_crash_is_told_from_a_limit(sandbox: Sandbox) -> None:
    outcome = sandbox.run("import ctypes\nctypes.string_at(0)")

    assert (outcome.ending, outcome.why) == (Ending.CRASHED, "signal SIGSEGV ended it")


def test_an_exit_is_an_ending(sandbox: Sandbox) -> None:
    assert sandbox.run("import sys\nsys.exit(3)").why == "exit code 3"
    assert sandbox.run("raise SystemExit").ending is Ending.FINISHED


def test_a_long_program_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidInputError, match="accepted: up to 262144"):
        sandbox.run("#" * 300_000)


def test_the_machine_keeps_nothing_of_a_run(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    sandbox.run("open('a', 'w').write('x')\nopen('.hidden', 'w').write('x')")

    assert os.listdir(tmp_path) == []


def test_descriptors_are_given_back(sandbox: Sandbox) -> None:
    count: Callable[[], int] = psutil.Process().num_fds
    sandbox.run("pass")
    before = count()

    for _ in range(3):
        sandbox.run("pass")

    assert count() == before
