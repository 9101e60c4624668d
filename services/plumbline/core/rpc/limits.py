"""Limits and timings that servers and clients must agree on."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Both directions, both sides. Bulk data travels as artifact ids; this leaves room for a batch of
responses with their logprobs."""

MIN_PING_INTERVAL_MS = 10_000
"""The server hangs up on a client that pings more often. The channel argument with this effect is
`grpc.http2.min_ping_interval_without_data_ms`; the similar `min_recv_ping_interval` is ignored."""

CLIENT_KEEPALIVE_MS = 30_000
"""Above MIN_PING_INTERVAL_MS with room to spare, or calls die with "too many pings"."""

SERVER_KEEPALIVE_MS = 60_000
KEEPALIVE_TIMEOUT_MS = 20_000

MAX_CONNECTION_AGE_MS = 600_000
"""Clients reconnect, and so find pods that were added, within ten minutes. There is no
`max_connection_age_grace_ms`: a long WatchJob on an aged connection runs to its own end."""

HEALTH_METHODS = "/grpc.health.v1.Health/"
REFLECTION_METHODS = "/grpc.reflection."
