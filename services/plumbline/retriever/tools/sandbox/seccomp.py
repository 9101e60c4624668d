"""A seccomp filter that allows what one Python process needs alone, and refuses the rest.

Runs inside the sandboxed process, so it imports the standard library only. Refused calls fail with
EPERM, which Python raises as PermissionError. Among them are socket, clone, fork, execve, ptrace,
mount, bpf, io_uring, memfd_create, chmod, setsid and prctl.

Source: Documentation/userspace-api/seccomp_filter.rst of Linux; numbers from its unistd tables.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_ANY_ARCHITECTURE = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "openat": (257, 56), "close": (3, 57),
    "close_range": (436, 436), "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291),
    "lseek": (8, 62), "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226),
    "mremap": (25, 216), "madvise": (28, 233), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "futex": (202, 98), "getrandom": (318, 278), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101),
    "gettimeofday": (96, 169), "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158),
    "getpgid": (121, 155), "getsid": (124, 156), "getcwd": (79, 17), "chdir": (80, 49),
    "fchdir": (81, 50), "readlinkat": (267, 78), "faccessat": (269, 48), "faccessat2": (439, 439),
    "getdents64": (217, 61), "unlinkat": (263, 35), "renameat": (264, 38), "renameat2": (316, 276),
    "ftruncate": (77, 46), "fsync": (74, 82), "fdatasync": (75, 83),
    "dup": (32, 23), "dup3": (292, 24), "pipe2": (293, 59), "ppoll": (271, 73),
    "pselect6": (270, 72), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22), "eventfd2": (290, 19), "uname": (63, 160), "sysinfo": (99, 179),
    "getrlimit": (97, 163), "getrusage": (98, 165), "times": (100, 153), "exit": (60, 93),
    "exit_group": (231, 94), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99), "set_tid_address": (218, 96), "rseq": (334, 293),
    "membarrier": (324, 283), "restart_syscall": (219, 128), "sendfile": (40, 71),
    "copy_file_range": (326, 285), "umask": (95, 166), "flock": (73, 32), "setitimer": (38, 103),
    "getitimer": (36, 102), "statfs": (137, 43), "fstatfs": (138, 44), "fadvise64": (221, 223),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "rt_sigpending": (127, 136),
    "getcpu": (309, 168),
}  # fmt: skip
"""Numbers on x86-64 and on AArch64."""
_X86_64_ONLY = {
    "open": 2, "stat": 4, "lstat": 6, "time": 201, "getpgrp": 111, "readlink": 89, "access": 21,
    "getdents": 78, "unlink": 87, "rename": 82, "dup2": 33, "pipe": 22, "poll": 7, "select": 23,
    "epoll_wait": 232, "arch_prctl": 158, "alarm": 37, "pause": 34,
}  # fmt: skip
_ON_ITSELF = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}
"""Allowed when the first argument is the process itself: `os.abort` and `signal.raise_signal`."""
_PRLIMIT = (302, 261)
_FCNTL, _IOCTL = (72, 25), (16, 29)
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1031, 1032)
"""Duplicate, flags, locks, F_DUPFD_CLOEXEC, pipe sizes; not F_SETOWN, which aims signals."""
_IOCTL_COMMANDS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONCLEX, FIOCLEX; not TIOCSTI, which types for the user."""

_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | 1  # errno 1 is EPERM
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in struct seccomp_data."""
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


def filter_program(machine: str, own_pid: int) -> bytes:
    """The filter as BPF instructions of 8 bytes each.

    Raises:
        OSError: an architecture whose call numbers are not known here.
    """
    if machine not in _AUDIT_ARCHITECTURES:
        raise OSError(f"no system call table for {machine}; known: {sorted(_AUDIT_ARCHITECTURES)}")
    column = 0 if machine == "x86_64" else 1
    allowed = [numbers[column] for numbers in _ANY_ARCHITECTURE.values()]
    allowed += _X86_64_ONLY.values() if machine == "x86_64" else []
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCHITECTURES[machine], equal=1),
        # A call by another architecture's table would be read by the wrong numbers.
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    for number in sorted(allowed):
        code += [_instruction(_JUMP_EQUAL, number, unequal=1), _instruction(_RETURN, _ALLOW)]
    for numbers in _ON_ITSELF.values():
        code += _with_argument(numbers[column], 0, (own_pid,))
    # prlimit reaches other processes of the user, unless the process is 0: itself.
    code += _with_argument(_PRLIMIT[column], 0, (0, own_pid))
    code += _with_argument(_FCNTL[column], 1, _FCNTL_COMMANDS)
    code += _with_argument(_IOCTL[column], 1, _IOCTL_COMMANDS)
    return b"".join([*code, _instruction(_RETURN, _REFUSE)])


def _with_argument(number: int, argument: int, accepted: tuple[int, ...]) -> list[bytes]:
    """Allow a call when the low half of one argument is among the accepted values."""
    tests = [
        part
        for value in accepted
        for part in (
            _instruction(_JUMP_EQUAL, value, unequal=1),
            _instruction(_RETURN, _ALLOW),
        )
    ]
    return [
        _instruction(_JUMP_EQUAL, number, unequal=len(tests) + 2),
        _instruction(_LOAD, _ARGUMENTS + 8 * argument),
        *tests,
        _instruction(_RETURN, _REFUSE),
    ]


def _instruction(code: int, value: int, *, equal: int = 0, unequal: int = 0) -> bytes:
    return struct.pack("<HBBI", code, equal, unequal, value)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install() -> None:
    """Filter every further call of this process; no_new_privs must be set.

    Raises:
        OSError: the kernel refuses.
    """
    code = filter_program(platform.machine(), os.getpid())
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refuses a seccomp filter")
