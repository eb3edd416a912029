"""The metrics page. The only module that imports prometheus_client, and the only one that knows metric names.

Triton's names keep Triton's meaning, so that its dashboards work. They are cumulative counters without the suffix
`_total`, which the library insists on for its counters, so they are exposed as untyped.
"""

import socket
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from ..engine.run import BatchRecord
from ..errors import Cancelled, RequestError, StartupError

# From the shortest request seen on loopback to one that has waited for seconds; about four buckets an octave near the
# usual latencies, so that a percentile read from them is within a fifth.
REQUEST_SECONDS = (
    *(50e-6, 75e-6, 100e-6, 125e-6, 150e-6, 200e-6, 250e-6, 300e-6, 400e-6, 500e-6, 600e-6, 800e-6),
    *(1e-3, 1.25e-3, 1.5e-3, 2e-3, 2.5e-3, 3e-3, 4e-3, 5e-3, 6e-3, 8e-3),
    *(10e-3, 12.5e-3, 15e-3, 20e-3, 25e-3, 30e-3, 40e-3, 50e-3, 75e-3),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0),
)
BATCH_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)

# Triton's reasons for a failed request.
_BACKEND, _CANCELED, _REJECTED = "BACKEND", "CANCELED", "REJECTED"


class _Histogram:
    """Counts by upper bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: Iterable[float]) -> None:
        counts, bounds = self._counts, self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        bounds = [*map(str, self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)


@dataclass
class VersionStats:
    """What one model version has done since it was loaded; a batcher's observer."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    success: int = 0
    failure: dict[str, int] = field(default_factory=lambda: dict.fromkeys((_BACKEND, _CANCELED, _REJECTED), 0))
    rows: int = 0
    runs: int = 0
    request_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failed_ns: int = 0
    worker_restarts: int = 0
    session_rebuilds: int = 0
    request_seconds: _Histogram = field(default_factory=lambda: _Histogram(REQUEST_SECONDS))
    batch_rows: _Histogram = field(default_factory=lambda: _Histogram(BATCH_ROWS))

    def on_batch(self, record: BatchRecord) -> None:
        """Adds a batch; a request's share of a batch's time is all of it, as in Triton."""
        requests = len(record.request_ns)
        with self.lock:
            if record.failed:
                self.failure[_BACKEND] += requests
                return
            self.success += requests
            self.rows += record.rows
            self.runs += 1
            self.request_ns += sum(record.request_ns)
            self.queue_ns += sum(record.queue_ns)
            self.input_ns += record.input_ns * requests
            self.infer_ns += record.infer_ns * requests
            self.output_ns += record.output_ns * requests
            self.request_seconds.observe_all([request_ns / 1e9 for request_ns in record.request_ns])
            self.batch_rows.observe(record.rows)

    def on_dropped(self, error: RequestError, waited_ns: int) -> None:
        """Adds a request that was dropped before it ran."""
        with self.lock:
            self.failed_ns += waited_ns
            self.failure[_CANCELED if isinstance(error, Cancelled) else _REJECTED] += 1

    def on_worker_restarted(self) -> None:
        """Adds a thread that died and was replaced."""
        with self.lock:
            self.worker_restarts += 1

    def on_session_rebuilt(self) -> None:
        """Adds a session that kept failing and was loaded anew."""
        with self.lock:
            self.session_rebuilds += 1


@dataclass
class _Version:
    stats: VersionStats
    waiting: Callable[[], int] | None = None
    load_s: float = 0.0
    info: dict[str, str] = field(default_factory=dict)


# Name, help, and how a version's statistics give the value; durations in microseconds.
_COUNTERS: tuple[tuple[str, str, Callable[[VersionStats], float]], ...] = (
    ("nv_inference_request_success", "Requests answered with a result", lambda s: s.success),
    ("nv_inference_count", "Rows (images) computed", lambda s: s.rows),
    ("nv_inference_exec_count", "Runs of the model (batches)", lambda s: s.runs),
    (
        "nv_inference_request_duration_us",
        "Arrival to answer, summed over requests",
        lambda s: s.request_ns // 1000,
    ),
    ("nv_inference_queue_duration_us", "Waiting in the queue, summed over requests", lambda s: s.queue_ns // 1000),
    (
        "nv_inference_compute_input_duration_us",
        "Assembling, summed over requests",
        lambda s: s.input_ns // 1000,
    ),
    ("nv_inference_compute_infer_duration_us", "Running the model, summed over requests", lambda s: s.infer_ns // 1000),
    ("nv_inference_compute_output_duration_us", "Answering, summed over requests", lambda s: s.output_ns // 1000),
)
_LABELS = ["model", "version"]


class Metrics(Collector):
    """The numbers of every model version, collected when the page is read."""

    def __init__(self) -> None:
        """Starts out with no versions."""
        self._versions: dict[tuple[str, str], _Version] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def observer(self, model: str, version: int) -> VersionStats:
        """Returns the observer of a version that is about to be loaded."""
        stats = VersionStats()
        self._versions[model, str(version)] = _Version(stats)
        return stats

    def loaded(self, model: str, version: int, *, provider: str, verified: bool, load_s: float) -> None:
        """Tells that a version is ready."""
        entry = self._versions[model, str(version)]
        entry.load_s = load_s
        entry.info = {"provider": provider, "verified": str(verified).lower()}

    def watch_queue(self, model: str, version: int, waiting: Callable[[], int]) -> None:
        """Hands over the way to read how many requests wait for a version."""
        self._versions[model, str(version)].waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """Yields every metric family."""
        versions = [([model, version], entry) for (model, version), entry in list(self._versions.items())]
        for name, text, value in _COUNTERS:
            yield _untyped(name, text, (({}, labels, value(entry.stats)) for labels, entry in versions))
        failures = (
            ({"reason": reason}, labels, count)
            for labels, entry in versions
            for reason, count in entry.stats.failure.items()
        )
        yield _untyped("nv_inference_request_failure", "Accepted requests that got no result, by reason", failures)
        yield from _gauges(versions)
        yield from _histograms(versions)
        info = InfoMetricFamily("pixelserve_model", "Where a loaded version computes, and its evidence", labels=_LABELS)
        for labels, entry in versions:
            if entry.info:
                info.add_metric(labels, entry.info)
        yield info


_Versions = list[tuple[list[str], _Version]]


def _untyped(name: str, text: str, samples: Iterable[tuple[dict[str, str], list[str], float]]) -> Metric:
    family = Metric(name, text, "unknown")
    for extra, labels, value in samples:
        family.add_sample(name, dict(zip(_LABELS, labels, strict=True)) | extra, value)
    return family


def _gauges(versions: _Versions) -> Iterator[Metric]:
    pending = GaugeMetricFamily("nv_inference_pending_request_count", "Requests in the queue", labels=_LABELS)
    load = GaugeMetricFamily("nv_model_load_duration_secs", "Seconds that loading took", labels=_LABELS)
    for labels, entry in versions:
        if entry.waiting is not None:
            pending.add_metric(labels, entry.waiting())
        load.add_metric(labels, entry.load_s)
    yield pending
    yield load


def _histograms(versions: _Versions) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "pixelserve_request_duration_seconds", "From a request's arrival to its answer", labels=_LABELS
    )
    rows = HistogramMetricFamily("pixelserve_batch_rows", "Rows (images) computed in one run", labels=_LABELS)
    for labels, entry in versions:
        with entry.stats.lock:
            entry.stats.request_seconds.add_to(seconds, labels)
            entry.stats.batch_rows.add_to(rows, labels)
    yield seconds
    yield rows


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # A scrape that hangs must not keep the process alive.
    block_on_close = False
    # Looking the host's name up can take seconds and nothing needs it.
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        super(WSGIServer, self).server_bind()
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name is http.server's
        """A scrape every few seconds is no event."""


class MetricsServer:
    """Serves /metrics, /live and /ready over HTTP."""

    def __init__(self, metrics: Metrics, is_ready: Callable[[], bool]) -> None:
        """Stores what it is handed; `bind` takes the port."""
        self._metrics_app = make_wsgi_app(metrics.registry)
        self._is_ready = is_ready
        self._server: WSGIServer | None = None

    def bind(self, host: str, port: int) -> str:
        """Takes the port (0: a free one), starts serving and returns the address, host:port.

        Raises:
            StartupError: the port is in use or not ours to take.
        """
        shown = f"[{host}]" if ":" in host else host
        try:
            self._server = make_server(host, port, self._app, _Server, _QuietHandler)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {shown}:{port} for metrics: {error.strerror}; "
                f"choose another with --metrics-port (0: a free one) or --host"
            ) from error
        # `close` waits until the thread looks up; half a second, the default, is long for a server that stops.
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
        return f"{shown}:{self._server.server_port}"

    def close(self) -> None:
        """Stops serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics_app(environ, start_response)
            return page
        if path == "/live":
            return _text(start_response, "200 OK", "live")
        if path == "/ready":
            ready = self._is_ready()
            return _text(start_response, "200 OK" if ready else "503 Service Unavailable", f"ready: {ready}".lower())
        return _text(start_response, "404 Not Found", "here are /metrics, /live and /ready")


def _text(start_response: Callable[..., Any], status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
