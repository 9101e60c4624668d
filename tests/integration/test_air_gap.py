"""Values, replies and tools work where nothing outside this machine can be reached.

The services' own tests run once more in a network namespace that holds loopback alone. A patch of
Python's sockets would not do: gRPC opens its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

TESTS = Path(__file__).parents[1]
CONTRACTS = (
    "contract/test_retriever_service.py",
    "contract/test_respond_service.py",
    "contract/test_check_factuality.py",
    "unit/retriever/test_search_index.py",
)
CUT_OFF = """
import errno, fcntl, socket, struct, sys

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    flags = 0x1 | 0x8 | 0x40  # IFF_UP, IFF_LOOPBACK, IFF_RUNNING
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", flags))  # SIOCSIFFLAGS
with socket.socket() as outside:
    outside.settimeout(5)
    assert outside.connect_ex(("192.0.2.1", 443)) == errno.ENETUNREACH
try:
    socket.getaddrinfo("example.org", 443)
except socket.gaierror:
    pass
else:
    sys.exit("a name was resolved: this namespace is not cut off")

import pytest

sys.exit(pytest.main(sys.argv[1:]))
"""


def cut_off() -> list[str]:
    """The command that takes the network away; skips where the machine does not allow it."""
    program = shutil.which("unshare") or pytest.skip("the program unshare is missing")
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        if subprocess.run([program, *options, "true"], capture_output=True).returncode == 0:
            return [program, *options]
    pytest.skip("network namespaces are not allowed here")


def test_the_services_need_no_network() -> None:
    command = [*cut_off(), sys.executable, "-c", CUT_OFF, "-q", "-p", "no:cacheprovider"]

    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in CONTRACTS)],
        cwd=TESTS.parent,
        # A library that would ask a hub may try, and must do without.
        env={**os.environ, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 20
