"""What a process tells the outside: JSON logs, Prometheus metrics, OpenTelemetry traces.

Traces are made only when OTEL_EXPORTER_OTLP_ENDPOINT is set; without it the SDK is not imported
and every tracing function here does nothing. Trace context and request ids cross gRPC as metadata
and Celery as message headers, under the same keys.
"""

from __future__ import annotations

import contextvars
import json
import logging
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from plumbline.core.errors import ConfigError
from plumbline.core.settings import Settings

REQUEST_ID_KEY = "x-request-id"

_log_context: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
    "log_context",
    default={},  # noqa: B039 - never mutated: bind replaces it
)
_service = ""
_provider: Any = None
_tracer: Any = None

logger = logging.getLogger(__name__)


def configure(service: str, settings: Settings) -> None:
    """Sets up logs, the metrics endpoint and tracing of one process; call it once, first.

    Raises:
        ConfigError: the metrics address is malformed or taken.
    """
    configure_logging(service)
    if settings.metrics_listen:
        start_metrics_server(settings.metrics_listen)
    if settings.otlp_endpoint:
        configure_tracing(service, settings.otlp_endpoint)


# Logs


def configure_logging(
    service: str, *, level: int | str = logging.INFO, stream: TextIO | None = None
) -> None:
    """Sends all logs to `stream` (stderr unless given), one JSON object a line."""
    global _service
    _service = service
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class JsonFormatter(logging.Formatter):
    """One JSON object a record: ts, level, logger, message, service, the bound ids, extra fields.

    Further fields come from `logger.info("...", extra={"fields": {...}})`.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "service": _service,
            **_log_context.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


@contextmanager
def bind_log_context(**fields: str | None) -> Iterator[None]:
    """Adds fields such as `job_id` or `request_id` to every log of the block.

    A bound request id also travels with the calls made inside. None leaves a field as it was.
    """
    token = _log_context.set(_merged(fields))
    try:
        yield
    finally:
        _log_context.reset(token)


def set_log_context(**fields: str | None) -> None:
    """As `bind_log_context`, until the current task or thread ends.

    For an RPC's task: an abandoned stream may be finished from another context, where the token
    of a `bind` is not valid.
    """
    _log_context.set(_merged(fields))


def current_request_id() -> str | None:
    """The request id bound here, if any."""
    return _log_context.get().get("request_id")


def new_request_id() -> str:
    return str(uuid.uuid4())


def _merged(fields: Mapping[str, str | None]) -> Mapping[str, str]:
    given = {name: value for name, value in fields.items() if value is not None}
    return {**_log_context.get(), **given}


# Metrics


def start_metrics_server(listen: str) -> int:
    """Serves the process's Prometheus metrics over HTTP.

    Args:
        listen: host:port; port 0 takes a free one.
    Returns:
        The bound port.
    Raises:
        ConfigError: the address is malformed or cannot be bound.
    """
    from prometheus_client import start_http_server

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"PLUMBLINE_METRICS_LISTEN={listen!r} is not an address; host:port is accepted, "
            "for example 0.0.0.0:9090",
            field="metrics_listen",
        )
    try:
        server, _ = start_http_server(int(port), host.strip("[]"))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot serve metrics on {listen}: {error}; name a free address",
            field="metrics_listen",
        ) from error
    bound = int(server.server_port)
    logger.info("metrics on %s:%d", host, bound)
    return bound


# Traces


def configure_tracing(service: str, endpoint: str, *, exporter: Any = None) -> None:
    """Exports spans to an OTLP endpoint.

    Args:
        service: becomes `service.name`.
        endpoint: for example http://collector:4317; https takes TLS.
        exporter: a SpanExporter to use instead; its spans are exported at once.
    Raises:
        ConfigError: the `telemetry` extra is not installed.
    """
    global _provider, _tracer
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    except ImportError as error:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint} asks for traces, but {error.name} is not "
            "installed; install plumbline[telemetry] or unset the variable",
            field="otlp_endpoint",
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"plumbline-{service}"}))
    processor = (
        BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))
        if exporter is None
        else SimpleSpanProcessor(exporter)
    )
    provider.add_span_processor(processor)
    _provider = provider
    _tracer = provider.get_tracer("plumbline")


def flush() -> None:
    """Sends the spans that wait for a batch; call it before the process ends."""
    if _provider is not None:
        _provider.force_flush()


@contextmanager
def span(
    name: str, *, kind: str = "INTERNAL", carrier: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A span around the block; nothing when tracing is off.

    Args:
        name: for example the RPC's full name.
        kind: INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER.
        carrier: headers that came with the work; their `traceparent` becomes the parent.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry import propagate
    from opentelemetry.trace import SpanKind

    parent = propagate.extract(carrier) if carrier else None
    with _tracer.start_as_current_span(name, context=parent, kind=SpanKind[kind]):
        yield


def outgoing_headers() -> dict[str, str]:
    """Headers that carry the current trace and request id to another process."""
    headers: dict[str, str] = {}
    request_id = current_request_id()
    if request_id:
        headers[REQUEST_ID_KEY] = request_id
    if _tracer is not None:
        from opentelemetry import propagate

        propagate.inject(headers)
    return headers


def instrument_celery() -> None:
    """Makes Celery messages of this process carry trace and request id, and tasks continue them.

    Connects to Celery's signals; calling it again changes nothing.
    """
    from celery import signals

    signals.before_task_publish.connect(_add_headers, dispatch_uid="plumbline-publish")
    signals.task_prerun.connect(_enter_task, dispatch_uid="plumbline-prerun")
    signals.task_postrun.connect(_leave_task, dispatch_uid="plumbline-postrun")


_open_tasks: dict[tuple[int, str], Any] = {}
"""By thread and task id: a message that is delivered again has the id of the task that still runs,
and each must be left in the thread that entered it."""


def _add_headers(headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers.update(outgoing_headers())


def _enter_task(task_id: str, task: Any, **_: Any) -> None:
    carrier = task.request.headers or {}
    scope = _task_scope(task.name, {k: v for k, v in carrier.items() if isinstance(v, str)})
    scope.__enter__()
    _open_tasks[threading.get_ident(), task_id] = scope


def _leave_task(task_id: str, **_: Any) -> None:
    scope = _open_tasks.pop((threading.get_ident(), task_id), None)
    if scope is not None:
        scope.__exit__(None, None, None)


@contextmanager
def _task_scope(name: str, carrier: Mapping[str, str]) -> Iterator[None]:
    with (
        bind_log_context(request_id=carrier.get(REQUEST_ID_KEY)),
        span(name, kind="CONSUMER", carrier=carrier),
    ):
        yield
