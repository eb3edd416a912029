"""Traces: OpenTelemetry's spans of requests and runs, sent to a collector by OTLP over HTTP.

A request's span is a child of the caller's span if its W3C headers name one. It has three children: `queue`, `batch`
(assembling the run's inputs) and `compute`. A run is a separate trace, linked to the requests it computed, and their
`batch` spans link to it: it belongs to all of them, so it is a child of none.

Spans are made after a call is answered, from times that the engine takes anyway: untraced calls cost nothing, and
traced ones are not delayed.
"""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..engine.request import ComputedBatch
from .access_log import Allowance
from .calls import AnsweredCall, trace_parent
from .logs import Log

_PATH = "/v1/traces"
# The codes that count as server errors in OpenTelemetry's conventions for gRPC servers.
_ERRORS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
# Names from callers are cut to this length.
_MAX_NAME = 128
# A collector that is down is reported every ten seconds, not at every attempt.
_COMPLAINTS_PER_S = 0.1


class Tracing:
    """Traces calls. Thread-safe."""

    def __init__(self, exporter: SpanExporter, service: Mapping[str, str], rate: int, log: Log) -> None:
        """Starts the thread that sends spans.

        Args:
            exporter: sends them.
            service: OpenTelemetry's resource attributes, such as service.version; those of the environment win.
            rate: see the attribute.
            log: receives failures to send.
        """
        self.is_on = True
        """Whether anything is traced."""
        self.rate = rate
        """One in this many calls is traced if the caller does not decide; 0: none."""
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            # Our own decision comes first.
            sampler=ALWAYS_ON,
            resource=Resource({"service.name": "pixelserve", **service}).merge(_from_environment()),
            shutdown_on_exit=False,
        )
        self._exporter = exporter
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("pixelserve", service.get("service.version"))
        self._complaints = _Complaints(log)
        # Spans use time since 1970, the engine since boot; the difference changes when the clock is set.
        self._unix_offset_ns = 0

    def wants(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        """Returns whether to trace a call with this metadata: as its caller says, or by chance."""
        if not self.is_on:
            return False
        parent = trace_parent(metadata)
        if parent is not None:
            return parent.is_sampled
        return bool(self.rate) and random.random() * self.rate < 1  # noqa: S311  not a secret

    def add(self, call: AnsweredCall) -> str:
        """Creates a call's spans and returns its trace id, 32 hexadecimal digits."""
        self._unix_offset_ns = time.time_ns() - time.monotonic_ns()
        parent = self._propagator.extract(call.parent.headers, Context()) if call.parent else Context()
        span = self._start(call.method.removeprefix("/"), parent, call.started_ns, SpanKind.SERVER, _attributes(call))
        if call.batch is not None:
            self._trace_phases(call, call.batch, span)
        if call.code in _ERRORS:
            span.set_status(Status(StatusCode.ERROR, call.message))
        span.end(self._unix_ns(call.ended_ns))
        return format_trace_id(span.get_span_context().trace_id)

    def close(self, timeout_s: float) -> None:
        """Sends the remaining spans, within `timeout_s` seconds whatever the collector does."""
        sender = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        sender.start()
        sender.join(timeout_s)
        if sender.is_alive():
            self._exporter.shutdown()
        self._complaints.close()

    def _trace_phases(self, call: AnsweredCall, batch: ComputedBatch, span: Span) -> None:
        within = set_span_in_context(span, Context())
        run = self._run_span(call, batch)
        run.add_link(span.get_span_context())
        phases = (
            ("queue", call.queued_ns, batch.started_ns),
            ("batch", batch.started_ns, batch.assembled_ns),
            ("compute", batch.assembled_ns, batch.computed_ns),
        )
        for name, start_ns, end_ns in phases:
            links = [Link(run.get_span_context())] if name == "batch" else None
            self._start(name, within, start_ns, links=links).end(self._unix_ns(end_ns))

    def _run_span(self, call: AnsweredCall, batch: ComputedBatch) -> Span:
        """Returns a run's span, which ends when all its requests are answered; one thread answers them."""
        run = batch.listener
        if not isinstance(run, _RunSpan):
            attributes = {
                "pixelserve.model": call.model,
                "pixelserve.version": call.version,
                "pixelserve.batch.rows": batch.rows,
                "pixelserve.batch.padding": batch.padded - batch.rows,
            }
            span = self._start(f"run {call.model}", Context(), batch.started_ns, SpanKind.INTERNAL, attributes)
            run = batch.listener = _RunSpan(span, self._unix_ns(batch.computed_ns))
        return run.span

    def _start(
        self,
        name: str,
        parent: Context,
        start_ns: int,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: dict[str, Any] | None = None,
        links: list[Link] | None = None,
    ) -> Any:
        return self._tracer.start_span(name, parent, kind, attributes, links, start_time=self._unix_ns(start_ns))

    def _unix_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns + self._unix_offset_ns


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Returns an exporter of spans by OTLP over HTTP.

    OpenTelemetry's environment variables configure the rest, such as OTEL_EXPORTER_OTLP_HEADERS and
    OTEL_EXPORTER_OTLP_CERTIFICATE.

    Args:
        endpoint: the collector's URL, such as http://localhost:4318, with or without /v1/traces.
    """
    return OTLPSpanExporter(endpoint.rstrip("/").removesuffix(_PATH) + _PATH)


def _from_environment() -> Resource:
    """Returns the resource of OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES."""
    return OTELResourceDetector().detect()


def _attributes(call: AnsweredCall) -> dict[str, Any]:
    service, _, method = call.method.removeprefix("/").partition("/")
    attributes: dict[str, Any] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": call.code_number,
        "pixelserve.via": call.via,
    }
    if call.model:
        attributes |= {"pixelserve.model": call.model[:_MAX_NAME], "pixelserve.version": call.version[:_MAX_NAME]}
    if call.request_id:
        attributes["pixelserve.request_id"] = call.request_id[:_MAX_NAME]
    if call.reason:
        attributes["pixelserve.reason"] = call.reason
    return attributes


@dataclass(frozen=True)
class _RunSpan:
    """A run's span, until all of the run's requests are answered."""

    span: Span
    end_ns: int
    """When the outputs were ready, in nanoseconds since 1970."""

    def on_answered(self) -> None:
        self.span.end(self.end_ns)


class _Complaints(logging.Handler):
    """Forwards messages of OpenTelemetry's exporter, such as a collector that is down, to our log at a limited rate."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._allowance = Allowance(_COMPLAINTS_PER_S)
        self._logger = logging.getLogger("opentelemetry")
        self._logger.propagate = False
        # The second handler takes messages after the server stopped; without it Python would print them.
        self._logger.handlers = [self, logging.NullHandler()]

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            if self._allowance.take(time.monotonic_ns()):
                self._log.warning("traces are not sent", reason=record.getMessage())

    def close(self) -> None:
        self._logger.removeHandler(self)
        super().close()
