"""The metrics page. The only module that imports prometheus_client, and the only one that knows metric names.

Triton's names keep Triton's meaning, so that its dashboards work. They are cumulative counters without the suffix
`_total`, which the library insists on for its counters, so they are exposed as untyped.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..engine.curve import UNMEASURED, LatencyCurve
from ..errors import StartupError
from .statistics import Histogram, VersionStats


@dataclass
class _Version:
    stats: VersionStats
    waiting: Callable[[], int] | None = None
    load_s: float = 0.0
    batch_limit: int | None = None
    curve: LatencyCurve = UNMEASURED
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
# The same for our own counters, which get the suffix `_total`.
_OWN_COUNTERS: tuple[tuple[str, str, Callable[[VersionStats], float]], ...] = (
    ("pixelserve_padding_rows", "Rows of zeros computed to fill buckets", lambda s: s.padding_rows),
    ("pixelserve_worker_restarts", "Threads that run batches, died and were replaced", lambda s: s.worker_restarts),
    (
        "pixelserve_session_rebuilds",
        "Sessions that kept failing and were loaded anew",
        lambda s: s.session_rebuilds,
    ),
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
        """Returns the observer of a version that is about to be loaded; one that takes another's place counts on."""
        return self._versions.setdefault((model, str(version)), _Version(VersionStats())).stats

    def unloaded(self, model: str, version: int) -> None:
        """Tells that a version has gone, and its figures with it."""
        self._versions.pop((model, str(version)), None)

    def loaded(
        self,
        model: str,
        version: int,
        *,
        provider: str,
        verified: bool,
        load_s: float,
        batch_limit: int,
        curve: LatencyCurve,
    ) -> None:
        """Tells that a version is ready.

        Args:
            model: its model's name.
            version: its number.
            provider: ONNX Runtime's name of where it computes.
            verified: whether its evidence held.
            load_s: seconds that loading took.
            batch_limit: most rows that are merged into a run; 0: requests are not merged.
            curve: what a run takes, by its size.
        """
        entry = self._versions[model, str(version)]
        entry.load_s = load_s
        entry.batch_limit = batch_limit
        entry.curve = curve
        entry.info = {"provider": provider, "verified": str(verified).lower()}

    def statistics(self, model: str, version: int) -> VersionStats:
        """Returns what a loaded version has done."""
        entry = self._versions.get((model, str(version)))
        # It may have gone since it was looked up.
        return VersionStats() if entry is None else entry.stats

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
        for name, text, value in _OWN_COUNTERS:
            counter = CounterMetricFamily(name, text, labels=_LABELS)
            for labels, entry in versions:
                counter.add_metric(labels, value(entry.stats))
            yield counter
        yield from _gauges(versions)
        yield _run_times(versions)
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
    limit = GaugeMetricFamily(
        "pixelserve_batch_limit", "Most rows merged into one run; 0: requests are not merged", labels=_LABELS
    )
    for labels, entry in versions:
        if entry.waiting is not None:
            pending.add_metric(labels, entry.waiting())
        load.add_metric(labels, entry.load_s)
        if entry.batch_limit is not None:
            limit.add_metric(labels, entry.batch_limit)
    yield from (pending, load, limit)


def _run_times(versions: _Versions) -> Metric:
    family = GaugeMetricFamily(
        "pixelserve_measured_run_seconds",
        "The fastest run of a batch size, measured when the version was loaded",
        labels=[*_LABELS, "batch_size"],
    )
    for labels, entry in versions:
        for size, time_ns in zip(entry.curve.sizes, entry.curve.times_ns, strict=True):
            family.add_metric([*labels, str(size)], time_ns / 1e9)
    return family


def _histograms(versions: _Versions) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "pixelserve_request_duration_seconds", "From a request's arrival to its answer", labels=_LABELS
    )
    rows = HistogramMetricFamily("pixelserve_batch_rows", "Rows (images) computed in one run", labels=_LABELS)
    for labels, entry in versions:
        with entry.stats.lock:
            _add(seconds, labels, entry.stats.request_seconds)
            _add(rows, labels, entry.stats.batch_rows)
    yield seconds
    yield rows


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    family.add_metric(labels, histogram.cumulative(), histogram.sum)


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
