"""Bounds of a sandboxed program, and how it is shut in."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from plumbline.core.validation import FrozenConfig


class Layer(StrEnum):
    """A mechanism of the Linux kernel that shuts a program in."""

    NAMESPACES = "namespaces"
    """An own network without devices, own processes, and a file tree of an empty folder and the
    interpreter's library. Needs user namespaces or CAP_SYS_ADMIN."""
    LANDLOCK = "landlock"
    """File access by allowed folders. Needs Linux 6.2; no privilege."""
    SECCOMP = "seccomp"
    """A list of allowed system calls: none that opens a socket, starts a process, or reaches
    another one. Needs no privilege."""


class SandboxConfig(FrozenConfig):
    """One program's share of the machine."""

    layers: tuple[Layer, ...] = tuple(Layer)
    """Layers to use where the kernel permits them."""
    allow_weaker: bool = False
    """Run programs even where the permitted layers leave the network, files or other processes
    open. For machines that hold nothing of worth; without it such machines run no program."""
    readable: tuple[str, ...] = ()
    """Folders that programs may read beside the interpreter's own library."""
    wall_s: float = Field(10.0, gt=0, le=600)
    cpu_s: int = Field(5, ge=1, le=600)
    memory_bytes: int = Field(512 << 20, ge=64 << 20)
    """Address space, the interpreter's own included."""
    disk_bytes: int = Field(8 << 20, ge=1 << 16)
    """All files in the program's folder together."""
    file_bytes: int = Field(4 << 20, ge=1 << 12)
    open_files: int = Field(32, ge=16, le=1024)
    output_bytes: int = Field(256 << 10, ge=1 << 10)
    """Standard output and error together; a program that writes more is ended."""
    source_bytes: int = Field(256 << 10, ge=1 << 10)
