"""The inside of the sandbox: shuts this process in, then runs the program that was sent to it.

Started by `runner` as a process of its own; imports the standard library and its neighbours only.
What should come out of the program is never sent in: the values of expressions go out, and who
started this compares them, so a program cannot pretend to be right.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import sysconfig
import traceback
from typing import Any

from plumbline.retriever.tools.sandbox import landlock, namespaces, seccomp

REFUSED_EXIT = 97
"""Exit code when the kernel refuses a layer; the program has not run then."""
_MAX_VALUE_CHARACTERS = 20_000
_PR_SET_PARENT_DEATH_SIGNAL, _PR_SET_NO_NEW_PRIVILEGES = 1, 38
_NEED_SYSTEM_LIBRARIES = ("bz2", "hashlib", "lzma", "sqlite3", "uuid", "zlib")
"""Imported beforehand: the shared libraries that they load lie outside what may be read."""


def main() -> None:
    """Read the job from the file descriptor that the last argument names; never returns."""
    with os.fdopen(int(sys.argv.pop()), encoding="utf-8") as file:
        job = json.load(file)
    try:
        _confine(job)
    except OSError as error:
        _tell(job, {"refused": str(error)})
        os._exit(REFUSED_EXIT)
    _tell(job, {"started": True})
    _run(job)


def _confine(job: dict[str, Any]) -> None:
    readable = [*_interpreter_library(), *job["readable"]]
    _die_with_parent()
    for name in _NEED_SYSTEM_LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # Folders on the way to the library must let another user through.
    os.umask(0o022)
    if "namespaces" in job["layers"]:
        namespaces.enter()
        _continue_in_child()
        as_nobody = namespaces.may_change_user()
        namespaces.build_tree(job["folder"], readable=readable, size_bytes=job["disk_bytes"])
        if as_nobody:
            namespaces.become_nobody(job["folder"])
        elif os.geteuid() == 0 and "seccomp" not in job["layers"]:
            raise OSError("limits on the number of processes do not bind root")
    namespaces.drop_capabilities()
    os.umask(0o077)
    # After a change of user the kernel forgets it.
    _die_with_parent()
    with open("program.py", "w", encoding="utf-8") as file:
        file.write(job["source"])
    _limit(job)
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError("the kernel refuses no_new_privs")
    if "landlock" in job["layers"]:
        landlock.restrict(readable=[*readable, "/dev/null"], writable=[job["folder"]])
    if "seccomp" in job["layers"]:
        seccomp.install()


def _interpreter_library() -> list[str]:
    paths = {sysconfig.get_path("stdlib"), os.path.dirname(os.__file__)}
    return sorted(os.path.realpath(path) for path in paths)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _continue_in_child() -> None:
    """Fork; the parent only waits, and ends as the child ends."""
    child = os.fork()
    if not child:
        return
    # Held open here, the pipes would not end when the child does.
    os.closerange(0, 256)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _limit(job: dict[str, Any]) -> None:
    limits = {
        resource.RLIMIT_CPU: (job["cpu_s"],) * 2,
        resource.RLIMIT_AS: (job["memory_bytes"],) * 2,
        resource.RLIMIT_FSIZE: (job["file_bytes"],) * 2,
        resource.RLIMIT_NOFILE: (job["open_files"],) * 2,
        resource.RLIMIT_NPROC: (1, 1),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
    }
    for limit, values in limits.items():
        resource.setrlimit(limit, values)


def _run(job: dict[str, Any]) -> None:
    # Only the standard library is to be found from here on.
    sys.path[:] = [path for path in sys.path if path not in (job["package_root"], "")]
    sys.argv = ["program.py"]
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": "program.py"}
    code = 0
    try:
        exec(compile(job["source"], "program.py", "exec"), namespace)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        code = 1
        _print_program_traceback(error)
        _tell(job, {"raised": _described(error)})
    if not code:
        for index, expression in enumerate(job["expressions"]):
            _tell(job, {"index": index, **_value(expression, namespace)})
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    os._exit(code & 0xFF)


def _value(expression: str, namespace: dict[str, Any]) -> dict[str, str]:
    try:
        value = repr(eval(compile(expression, "assertion", "eval"), namespace))
    except BaseException as error:
        return {"raised": _described(error)}
    if len(value) > _MAX_VALUE_CHARACTERS:
        return {"raised": f"a value of more than {_MAX_VALUE_CHARACTERS} characters"}
    return {"value": value}


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException:
        # The program's own exception may fail to describe itself.
        return type(error).__name__


def _print_program_traceback(error: BaseException) -> None:
    with contextlib.suppress(BaseException):
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, frames)


def _tell(job: dict[str, Any], what: dict[str, Any]) -> None:
    line = json.dumps(what).encode() + b"\n"
    with contextlib.suppress(OSError):
        while line:
            line = line[os.write(job["results"], line) :]
