"""Namespaces: a network without devices, own process ids, and a file tree of almost nothing.

Runs inside the sandboxed process, so it imports the standard library only.

Source: namespaces(7), mount_namespaces(7), pivot_root(2) and capabilities(7) of Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import secrets
import struct
from collections.abc import Sequence

_NEW_MOUNTS, _NEW_NAMES, _NEW_IPC = 0x20000, 0x4000000, 0x8000000
_NEW_USERS, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_ALL_BUT_USERS = _NEW_MOUNTS | _NEW_NAMES | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK

_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXECUTE = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
_KEPT_FLAGS = 1 | 2 | 4 | 8 | 1024 | 2048
"""Of statvfs: a remount inside a user namespace must repeat them."""
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPABILITIES_VERSION_3 = 0x20080522
_FIRST_USER, _USERS = 1 << 20, 1 << 30
"""User ids above those of people and services; each run as root takes one at random."""


def enter() -> None:
    """Leave the machine's namespaces. The next child is process 1 of the new ones.

    Raises:
        OSError: the kernel or a container's policy refuses.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            _unshare(_ALL_BUT_USERS)
            return
    user, group = os.geteuid(), os.getegid()
    _unshare(_ALL_BUT_USERS | _NEW_USERS)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    _write("/proc/self/gid_map", f"{group} {group} 1")


def build_tree(folder: str, *, readable: Sequence[str], size_bytes: int) -> None:
    """Make a file tree of `folder`, empty and writable, and read-only folders; enter it.

    Args:
        folder: keeps its path; what the machine has there is hidden, and the new content goes
            away with the last process.
        size_bytes: of all files in `folder`.
    """
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    # Mounted over the folder itself: a place that exists and that nobody else uses.
    root = folder
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, "size=1m,mode=755")
    for path in readable:
        _bind_read_only(path, root + path)
    _bind_read_only("/dev/null", root + "/dev/null", read_only=False)
    work = root + folder
    os.makedirs(work)
    options = f"size={size_bytes},nr_inodes=256,mode=700"
    _mount("tmpfs", work, "tmpfs", _NO_SUID | _NO_DEVICES | _NO_EXECUTE, options)
    os.chdir(root)
    _checked(_libc().syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "a new root")
    _checked(_libc().umount2(b".", _DETACH), "leaving the old root")
    _mount("none", "/", None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)
    os.chdir(folder)


def become_nobody(folder: str) -> None:
    """Give up root: a user id of its own, so that limits count this run's processes alone."""
    user = _FIRST_USER + secrets.randbelow(_USERS)
    os.chown(folder, user, user)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def drop_capabilities() -> None:
    """Give up what a new user namespace, or root, grants; without it mounts cannot be undone."""
    header = struct.pack("=Ii", _CAPABILITIES_VERSION_3, 0)
    _checked(_libc().capset(header, bytes(24)), "dropping capabilities")


def may_change_user() -> bool:
    """Whether this is root with other users beside it; a user namespace maps only oneself.

    Asked before `build_tree`, which leaves /proc behind.
    """
    if os.geteuid() != 0:
        return False
    with open("/proc/self/uid_map", encoding="ascii") as mapping:
        return int(mapping.read().split()[2]) > _FIRST_USER + _USERS


def _bind_read_only(source: str, target: str, *, read_only: bool = True) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT, 0o644))
    _mount(source, target, None, _BIND | _RECURSIVE)
    kept = os.statvfs(target).f_flag & _KEPT_FLAGS
    if read_only:
        _mount("none", target, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | kept)


def _unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "new namespaces")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    result = _libc().mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mounting {target}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _checked(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"the kernel refuses {what}: {os.strerror(error)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
