"""Images of buildah's storage, and containers of them under runc."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN_S = 120.0
_USER = 10001
_WRITABLE = ("/tmp", "/var/lib/plumbline")


@dataclass(frozen=True)
class Image:
    """An image with its files mounted at `root`."""

    name: str
    root: Path
    config: Mapping[str, Any]

    @property
    def title(self) -> str:
        return self.name.rpartition("/")[2].partition(":")[0]

    @property
    def target(self) -> str:
        return self.title.removeprefix("plumbline-")

    def site_packages(self) -> Path:
        (found,) = (self.root / "opt/plumbline/lib").glob("python3.*/site-packages")
        return found

    def size_bytes(self) -> int:
        """Bytes of all its files."""
        files = (path.lstat() for path in self.root.rglob("*") if not path.is_symlink())
        return sum(status.st_size for status in files)


@contextmanager
def find_image(name: str) -> Iterator[Image]:
    """An image that was built here, mounted for as long as the block lasts."""
    described = json.loads(_output("buildah", "inspect", "--type", "image", name))
    container = _output("buildah", "from", "--pull-never", name)
    try:
        root = Path(_output("buildah", "mount", container))
        yield Image(name, root, described["OCIv1"]["config"])
    finally:
        _output("buildah", "rm", container)


class Container:
    """One process in an image, under what Pod Security `restricted` and a read-only root leave."""

    def __init__(
        self, image: Image, bundle: Path, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self._id = f"plumbline-test-{uuid.uuid4().hex[:12]}"
        bundle.mkdir(parents=True)
        variables = [*image.config["Env"], *(f"{k}={v}" for k, v in environment.items())]
        specification = _specification(image.root, command, variables)
        (bundle / "config.json").write_text(json.dumps(specification))
        self._log = bundle / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["runc", "run", "--bundle", bundle, self._id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def finished(self) -> str:
        """What it printed, once it has ended well."""
        status = self._process.wait(RUN_S)
        assert status == 0, f"status {status}: {self.output()}"
        return self.output()

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def user(self) -> int:
        """User id of its process."""
        state = json.loads(_output("runc", "state", self._id))
        return os.stat(f"/proc/{state['pid']}").st_uid

    def attempt_to_write(self, path: str) -> str:
        """What the kernel says to root of the container who writes there."""
        attempt = ["runc", "exec", "--user", "0", self._id, "touch", path]
        return subprocess.run(attempt, capture_output=True, text=True, timeout=RUN_S).stderr

    def remove(self) -> None:
        subprocess.run(["runc", "delete", "--force", self._id], capture_output=True, timeout=RUN_S)
        self._process.wait(RUN_S)


def _specification(root: Path, command: Sequence[str], variables: Sequence[str]) -> dict[str, Any]:
    """OCI runtime specification; the network is this machine's, so that tests can call servers."""
    # As volumes of a pod are its user's through `fsGroup`.
    private = ["nosuid", "nodev", f"uid={_USER}", f"gid={_USER}"]
    writable = [
        {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": private}
        for path in _WRITABLE
    ]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "user": {"uid": _USER, "gid": _USER},
            "args": list(command),
            "env": list(variables),
            "cwd": "/var/lib/plumbline",
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "hostname": "image-test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            *writable,
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
