"""Landlock: which folders a process may read and write.

Runs inside the sandboxed process, so it imports the standard library only.

Source: Documentation/userspace-api/landlock.rst of Linux.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on every architecture."""
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << i for i in range(6))
_MAKE_REGULAR = 1 << 8
_TRUNCATE = 1 << 14
_FILE_RIGHTS_BY_VERSION = {3: 15, 4: 15}
_FILE_RIGHTS = 16
"""How many rights over files a version of the interface knows, and every later one."""
_TRUNCATION_SINCE = 3
"""Before it, a file that may be read could be emptied."""
_NETWORK_SINCE, _NETWORK_RIGHTS = 4, 3
_SCOPES_SINCE, _SCOPES = 6, 3
"""Signals and abstract sockets stay within the sandbox."""

_READ = _READ_FILE | _READ_DIR
_WORK = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REGULAR | _TRUNCATE
"""Regular files only: without folders and links the owner can clear up whatever was left."""


def version() -> int:
    """The kernel's version of the interface; 0 where there is none."""
    answer = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    return max(0, int(answer))


def restrict(*, readable: Sequence[str], writable: Sequence[str]) -> None:
    """Allow this process the files beneath these paths alone; no_new_privs must be set.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    supported = version()
    if supported < _TRUNCATION_SINCE:
        raise OSError(
            f"the kernel's Landlock is of version {supported}; {_TRUNCATION_SINCE} or later "
            "(Linux 6.2) guards files from being emptied"
        )
    handled = (1 << _FILE_RIGHTS_BY_VERSION.get(supported, _FILE_RIGHTS)) - 1
    network = _NETWORK_RIGHTS if supported >= _NETWORK_SINCE else 0
    scopes = _SCOPES if supported >= _SCOPES_SINCE else 0
    attributes = struct.pack("=QQQ", handled, network, scopes)
    # An older kernel refuses fields that it does not know, even where they are zero bytes long.
    size = 24 if scopes else 16 if network else 8
    ruleset = _checked(
        _libc().syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0), "a ruleset"
    )
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in writable:
            _allow(ruleset, path, _WORK & handled)
        _checked(_libc().syscall(_RESTRICT_SELF, ruleset, 0), "the restriction")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
        attributes = struct.pack("=Qi", rights, parent)
        _checked(
            _libc().syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, attributes, 0), f"rule {path}"
        )
    finally:
        os.close(parent)


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock refuses {what}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
