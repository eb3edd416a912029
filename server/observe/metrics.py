"""The metrics. The only module that knows their names.

Triton's names keep Triton's meaning, so that its dashboards work. They are cumulative counters without the suffix
`_total`, which the library insists on for its counters, so they are exposed as untyped.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from ..access.tokens_file import TokensFile
from ..engine.curve import UNMEASURED, LatencyCurve
from .gpus import Gpu, Gpus
from .histogram import Histogram
from .predictions import Predictions
from .statistics import VersionStats


@dataclass
class _Version:
    stats: VersionStats
    waiting: Callable[[], int] | None = None
    load_s: float = 0.0
    batch_limit: Callable[[], int] | None = None
    row_state: Callable[[], str] | None = None
    queue_limit: int | None = None
    curve: LatencyCurve = UNMEASURED
    info: dict[str, str] = field(default_factory=dict)


# Name, help, and how a version's statistics give the value; durations in microseconds.
_COUNTERS: tuple[tuple[str, str, Callable[[VersionStats], float]], ...] = (
    ("nv_inference_request_success", "Requests answered with a result", lambda s: s.success),
    ("nv_inference_count", "Rows (images) computed", lambda s: s.rows),
    ("nv_inference_exec_count", "Runs of the model (batches)", lambda s: s.runs),
    (
        "nv_inference_request_duration_us",
        "Microseconds from arrival to answer, summed over requests",
        lambda s: s.request_ns // 1000,
    ),
    (
        "nv_inference_queue_duration_us",
        "Microseconds in the queue, summed over requests",
        lambda s: s.queue_ns // 1000,
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Microseconds assembling the batch, summed over requests",
        lambda s: s.input_ns // 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Microseconds running the model, summed over requests",
        lambda s: s.infer_ns // 1000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Microseconds answering, summed over requests",
        lambda s: s.output_ns // 1000,
    ),
)
# The same for our own counters, which get the suffix `_total`.
_OWN_COUNTERS: tuple[tuple[str, str, Callable[[VersionStats], float]], ...] = (
    (
        "pixelserve_padding_rows",
        "Rows of zeros computed to fill buckets, in runs that did not fail",
        lambda s: s.padding_rows,
    ),
    (
        "pixelserve_worker_restarts",
        "Failures of worker threads, which continued; if not 0, see the log",
        lambda s: s.worker_restarts,
    ),
    (
        "pixelserve_session_rebuilds",
        "Sessions reloaded after repeated failures; if not 0, see the log",
        lambda s: s.session_rebuilds,
    ),
)
_LABELS = ["model", "version"]


class Metrics(Collector):
    """The numbers of every model version, collected when the page is read."""

    def __init__(self, *, requires_gpu: bool = False, gpus: Gpus | None = None) -> None:
        """Starts out with no versions.

        Args:
            requires_gpu: whether the server was told to compute on a GPU.
            gpus: the machine's; None: they are none of this server's business.
        """
        self._gpus = gpus
        self._requires_gpu = requires_gpu
        self._versions: dict[tuple[str, str], _Version] = {}
        self._loaded: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._failed_unix_s: dict[str, float] = {}
        self._replies: Callable[[], Mapping[str, int]] = dict
        self._failures: Callable[[], Mapping[tuple[str, str, str], int]] = dict
        self._certificate_ends_unix_s: Mapping[str, float] = {}
        # Empty without TLS, and from the start there with it: a counter that begins at 1 is no increase to Prometheus.
        self._certificate_reloads: dict[str, int] = {}
        self._is_certificate_current = True
        self._tokens: TokensFile | None = None
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

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
        batch_limit: Callable[[], int],
        row_state: Callable[[], str],
        queue_limit: int,
        curve: LatencyCurve,
        predictions: Predictions | None = None,
    ) -> None:
        """Tells that a version is ready.

        Args:
            model: its model's name.
            version: its number.
            provider: ONNX Runtime's name of where it computes.
            verified: whether its evidence held.
            load_s: seconds that loading took.
            batch_limit: gives the most rows that are merged into a run; 0: requests are not merged.
            row_state: gives what is known of its rows (see `pixelserve.rows.RowProof`).
            queue_limit: most requests that may wait for it at a priority.
            curve: what a run takes, by its size.
            predictions: is told what it predicts; None: it is no classifier.
        """
        self._loaded[model] += 1
        entry = self._versions[model, str(version)]
        entry.load_s = load_s
        entry.batch_limit, entry.row_state = batch_limit, row_state
        entry.queue_limit = queue_limit
        entry.curve = curve
        entry.stats.predictions = predictions
        entry.info = {"provider": provider, "verified": str(verified).lower()}

    def load_failed(self, model: str, version: int) -> None:
        """Tells that a version of a model, or the model as a whole (0), could not be loaded."""
        entry = self._versions.get((model, str(version)))
        # Of one that never took requests, zeros would stay; where another serves in its place, that counts on.
        if entry is not None and not entry.info:
            del self._versions[model, str(version)]
        self._failed[model] += 1
        self._failed_unix_s[model] = time.time()

    def certificates_taken(self, ends_unix_s: Mapping[str, float], *, renewed: bool) -> None:
        """Tells that connections get certificates from now on.

        Args:
            ends_unix_s: when the first certificate of each file expires, by what the file is: server, client_ca.
            renewed: whether they take the place of others.
        """
        self._certificate_ends_unix_s = ends_unix_s
        reloads = self._certificate_reloads or {"renewed": 0, "failed": 0}
        self._certificate_reloads = {**reloads, "renewed": reloads["renewed"] + renewed}
        self._is_certificate_current = True

    def certificates_refused(self) -> None:
        """Tells that the files of the certificates changed to something that cannot be used."""
        self._certificate_reloads = {**self._certificate_reloads, "failed": self._certificate_reloads["failed"] + 1}
        self._is_certificate_current = False

    def watch_calls(
        self,
        replies: Callable[[], Mapping[str, int]],
        failures: Callable[[], Mapping[tuple[str, str, str], int]],
    ) -> None:
        """Hands over the way to read how many calls were answered.

        Args:
            replies: calls that got a result, by the method's full name.
            failures: calls that got none, by the method's full name, the status code and the reason.
        """
        self._replies, self._failures = replies, failures

    def watch_tokens(self, tokens: TokensFile) -> None:
        """Hands over the file of tokens."""
        self._tokens = tokens

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
        for _, entry in versions:
            entry.stats.settle()
        for name, text, value in _COUNTERS:
            yield _untyped(name, text, ((labels, value(entry.stats)) for labels, entry in versions))
        failures = (
            ([*labels, reason], count) for labels, entry in versions for reason, count in entry.stats.failure.items()
        )
        yield _untyped(
            "nv_inference_request_failure",
            "Accepted requests without a result: BACKEND (the run failed), CANCELED (the client left), REJECTED (the "
            "deadline passed)",
            failures,
            ("reason",),
        )
        for name, text, value in _OWN_COUNTERS:
            counter = CounterMetricFamily(name, text, labels=_LABELS)
            for labels, entry in versions:
                counter.add_metric(labels, value(entry.stats))
            yield counter
        yield from _gauges(versions)
        yield _run_times(versions)
        yield from _histograms(versions)
        yield from _buckets(versions)
        yield from _predictions(versions)
        yield self._calls()
        yield from self._loads()
        yield from self._certificates()
        yield from _tokens(self._tokens)
        yield from _gpus(self._gpus.read() if self._gpus else [])
        yield GaugeMetricFamily(
            "pixelserve_gpu_required", "1 with --require-gpu or --device cuda", int(self._requires_gpu)
        )
        yield GaugeMetricFamily("pixelserve_threads", "Python threads of the process", threading.active_count())
        info = InfoMetricFamily(
            "pixelserve_model",
            "Where a version computes (provider) and whether its evidence held (verified)",
            labels=_LABELS,
        )
        for labels, entry in versions:
            if entry.info:
                info.add_metric(labels, entry.info)
        yield info

    def _calls(self) -> Metric:
        family = CounterMetricFamily(
            "pixelserve_requests",
            "Calls answered, by status code and, unless it is OK, reason, such as queue_full or invalid_request",
            labels=["method", "code", "reason"],
        )
        for method, count in sorted(self._replies().items()):
            family.add_metric([_short(method), "OK", ""], count)
        for (method, code, reason), count in sorted(self._failures().items()):
            family.add_metric([_short(method), code, reason], count)
        return family

    def _loads(self) -> Iterator[Metric]:
        for name, text, counts in (
            ("pixelserve_model_loads", "Versions loaded", self._loaded),
            ("pixelserve_model_load_failures", "Versions, and models as a whole, that failed to load", self._failed),
        ):
            family = CounterMetricFamily(name, text, labels=["model"])
            for model, count in sorted(dict(counts).items()):
                family.add_metric([model], count)
            yield family
        # A counter that begins at 1 is no increase to Prometheus.
        last = GaugeMetricFamily(
            "pixelserve_model_last_load_failure_timestamp_seconds",
            "Unix time of the last failed load",
            labels=["model"],
        )
        for model, unix_s in sorted(dict(self._failed_unix_s).items()):
            last.add_metric([model], unix_s)
        yield last

    def _certificates(self) -> Iterator[Metric]:
        ends = GaugeMetricFamily(
            "pixelserve_tls_certificate_expiry_timestamp_seconds",
            "Unix time at which the first certificate of a file (server, client_ca) expires; with --tls-cert",
            labels=["file"],
        )
        for name, end_unix_s in self._certificate_ends_unix_s.items():
            ends.add_metric([name], end_unix_s)
        reloads = CounterMetricFamily(
            "pixelserve_tls_reloads", "Changes of the certificate files: renewed or failed", labels=["outcome"]
        )
        for outcome, count in self._certificate_reloads.items():
            reloads.add_metric([outcome], count)
        current = GaugeMetricFamily(
            "pixelserve_tls_last_reload_successful",
            "0 while the files are unusable and the previous certificates are in use",
        )
        if self._certificate_reloads:
            current.add_metric([], int(self._is_certificate_current))
        yield from (ends, reloads, current)


def _tokens(file: TokensFile | None) -> Iterator[Metric]:
    accepted = GaugeMetricFamily("pixelserve_tokens", "Accepted tokens; with --tokens")
    stale = GaugeMetricFamily(
        "pixelserve_tokens_stale", "1 while the tokens file is wrong or missing and the previous tokens are accepted"
    )
    failures = CounterMetricFamily(
        "pixelserve_tokens_refused_files", "Refused changes of the tokens file; the log says why"
    )
    if file is not None:
        accepted.add_metric([], file.authorizer.count)
        stale.add_metric([], int(file.is_stale))
        failures.add_metric([], file.failures)
    yield from (accepted, stale, failures)


def _gpus(found: Iterable[Gpu]) -> Iterator[Metric]:
    utilization = GaugeMetricFamily(
        "nv_gpu_utilization", "Share of time that the GPU computes, 0 to 1; not with --device cpu", labels=["gpu_uuid"]
    )
    total = GaugeMetricFamily("nv_gpu_memory_total_bytes", "Bytes of GPU memory", labels=["gpu_uuid"])
    used = GaugeMetricFamily(
        "nv_gpu_memory_used_bytes", "Bytes of GPU memory in use, by all processes", labels=["gpu_uuid"]
    )
    for gpu in found:
        utilization.add_metric([gpu.uuid], gpu.utilization)
        total.add_metric([gpu.uuid], gpu.memory_total_bytes)
        used.add_metric([gpu.uuid], gpu.memory_used_bytes)
    yield from (utilization, total, used)


def _short(method: str) -> str:
    """Returns a method's name without its service: ours are distinct."""
    return method.rpartition("/")[2]


_Versions = list[tuple[list[str], _Version]]


def _untyped(
    name: str, text: str, samples: Iterable[tuple[list[str], float]], more_labels: Iterable[str] = ()
) -> Metric:
    family = UnknownMetricFamily(name, text, labels=[*_LABELS, *more_labels])
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _gauges(versions: _Versions) -> Iterator[Metric]:
    pending = GaugeMetricFamily("nv_inference_pending_request_count", "Requests in the queue now", labels=_LABELS)
    load = GaugeMetricFamily("nv_model_load_duration_secs", "Seconds that loading took", labels=_LABELS)
    limit = GaugeMetricFamily(
        "pixelserve_batch_limit",
        "Maximum rows merged into one run, as measured at load or set in config.pbtxt; 0: requests are not merged",
        labels=_LABELS,
    )
    queue_limit = GaugeMetricFamily(
        "pixelserve_queue_limit", "Requests that may wait at one priority; more are refused", labels=_LABELS
    )
    rows = GaugeMetricFamily(
        "pixelserve_rows",
        "1 for the state of the row proof: independent, dependent, unproven or single",
        labels=[*_LABELS, "state"],
    )
    for labels, entry in versions:
        if entry.row_state is not None:
            rows.add_metric([*labels, entry.row_state()], 1)
        if entry.queue_limit is not None:
            queue_limit.add_metric(labels, entry.queue_limit)
        if entry.waiting is not None:
            pending.add_metric(labels, entry.waiting())
        load.add_metric(labels, entry.load_s)
        if entry.batch_limit is not None:
            limit.add_metric(labels, entry.batch_limit())
    yield from (pending, load, limit, queue_limit, rows)


def _run_times(versions: _Versions) -> Metric:
    family = GaugeMetricFamily(
        "pixelserve_measured_run_seconds",
        "Seconds of the fastest run of a batch size, measured at load",
        labels=[*_LABELS, "batch_size"],
    )
    for labels, entry in versions:
        for size, time_ns in zip(entry.curve.sizes, entry.curve.times_ns, strict=True):
            family.add_metric([*labels, str(size)], time_ns / 1e9)
    return family


# Name, help, and which of a version's statistics it is.
_HISTOGRAMS: tuple[tuple[str, str, Callable[[VersionStats], Histogram]], ...] = (
    (
        "pixelserve_request_duration_seconds",
        "Seconds from a request's arrival to its answer",
        lambda s: s.request_seconds,
    ),
    (
        "pixelserve_queue_duration_seconds",
        "Seconds from a request's arrival to the start of its run",
        lambda s: s.queue_seconds,
    ),
    ("pixelserve_assembly_duration_seconds", "Seconds to assemble a run's batch", lambda s: s.assembly_seconds),
    ("pixelserve_compute_duration_seconds", "Seconds that the model takes for one run", lambda s: s.compute_seconds),
    ("pixelserve_reply_duration_seconds", "Seconds to answer a run's requests", lambda s: s.reply_seconds),
    ("pixelserve_batch_rows", "Rows (images) computed in one run", lambda s: s.batch_rows),
    ("pixelserve_batch_padding_rows", "Rows of padding in one run", lambda s: s.batch_padding_rows),
    ("pixelserve_queue_length", "Requests available when a run was formed, its own included", lambda s: s.queue_length),
)


def _histograms(versions: _Versions) -> Iterator[Metric]:
    for name, text, histogram in _HISTOGRAMS:
        family = HistogramMetricFamily(name, text, labels=_LABELS)
        for labels, entry in versions:
            with entry.stats.lock:
                _add(family, labels, histogram(entry.stats))
        yield family


def _buckets(versions: _Versions) -> Iterator[Metric]:
    labels = [*_LABELS, "batch_size"]
    runs = CounterMetricFamily("pixelserve_bucket_runs", "Runs, by rows with padding", labels=labels)
    seconds = CounterMetricFamily(
        "pixelserve_bucket_compute_seconds", "Seconds that the model took, by rows with padding", labels=labels
    )
    for version, entry in versions:
        with entry.stats.lock:
            sizes = {size: (bucket.runs, bucket.infer_ns) for size, bucket in sorted(entry.stats.buckets.items())}
        for size, (count, infer_ns) in sizes.items():
            runs.add_metric([*version, str(size)], count)
            seconds.add_metric([*version, str(size)], infer_ns / 1e9)
    yield from (runs, seconds)


def _predictions(versions: _Versions) -> Iterator[Metric]:
    counts = CounterMetricFamily("pixelserve_predictions", "Rows predicted as a class", labels=[*_LABELS, "label"])
    not_finite = CounterMetricFamily(
        "pixelserve_predictions_not_finite",
        "Rows with NaN or infinity; no other prediction metric counts them",
        labels=_LABELS,
    )
    confidence = HistogramMetricFamily(
        "pixelserve_prediction_confidence", "Highest probability of a row", labels=_LABELS
    )
    entropy = HistogramMetricFamily(
        "pixelserve_prediction_entropy_nats", "Entropy of a row's probabilities, in nats", labels=_LABELS
    )
    drift = GaugeMetricFamily(
        "pixelserve_drift_stability_index",
        "How far the last predictions, at least 100, are from the card's baseline: of classes and of confidence",
        labels=[*_LABELS, "of"],
    )
    rows = GaugeMetricFamily(
        "pixelserve_drift_window_rows",
        "Predictions that the index is computed from, at most --drift-window",
        labels=_LABELS,
    )
    for labels, entry in versions:
        predictions = entry.stats.predictions
        if predictions is None:
            continue
        for label, count in zip(predictions.labels, predictions.counts(), strict=True):
            counts.add_metric([*labels, label], count)
        not_finite.add_metric(labels, predictions.not_finite())
        for family, histogram in zip((confidence, entropy), predictions.histograms, strict=True):
            _add(family, labels, histogram)
        found = predictions.drift()
        if found is not None:
            drift.add_metric([*labels, "classes"], found.classes)
            drift.add_metric([*labels, "confidence"], found.confidence)
            rows.add_metric(labels, found.rows)
    yield from (counts, not_finite, confidence, entropy, drift, rows)


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    family.add_metric(labels, histogram.cumulative(), histogram.sum)
