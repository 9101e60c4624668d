"""gRPC servers and clients of the platform: one bootstrap for each side.

A room's server.py calls `serve`; its servicer awaits `run_blocking` for engine work; callers use
`connect` or `aconnect` and catch `plumbline.core.errors`.
"""

from __future__ import annotations

import os

# grpc's core writes lines of its own to stderr, such as one for each server that goes away, among
# JSON logs and the CLI's output; what they tell is in the calls' errors. Read when grpc is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from plumbline.core.rpc.blocking import remaining_s, run_blocking
from plumbline.core.rpc.client import SERVICES, aconnect, connect
from plumbline.core.rpc.deferred import DeferredServicer
from plumbline.core.rpc.limits import MAX_MESSAGE_BYTES
from plumbline.core.rpc.server import serve, serve_in_thread, start_server
from plumbline.core.rpc.status import from_rpc_error, to_status

__all__ = [
    "MAX_MESSAGE_BYTES",
    "SERVICES",
    "DeferredServicer",
    "aconnect",
    "connect",
    "from_rpc_error",
    "remaining_s",
    "run_blocking",
    "serve",
    "serve_in_thread",
    "start_server",
    "to_status",
]
