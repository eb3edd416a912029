"""The metrics of model versions.

Triton's names keep Triton's meaning, so its dashboards work. They are cumulative counters without the suffix `_total`,
which the library requires for counters, so they are exposed as untyped.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from ..engine.curve import UNMEASURED, LatencyCurve
from ..engine.target import TargetState
from .histogram import Histogram
from .statistics import VersionStats


@dataclass
class Version:
    """A version's data for the metrics."""

    stats: VersionStats
    """Its statistics."""
    waiting: Callable[[], int] | None = None
    """Returns the number of waiting requests."""
    load_s: float = 0.0
    """Loading time in seconds."""
    batch_limit: Callable[[], int] | None = None
    """Returns the maximum rows merged into a run."""
    row_state: Callable[[], str] | None = None
    """Returns the state of its row proof."""
    queue_limit: int | None = None
    """Maximum waiting requests per priority."""
    curve: LatencyCurve = UNMEASURED
    """Run time by batch size."""
    target: Callable[[], TargetState | None] | None = None
    """Returns the state of its latency target."""
    info: dict[str, str] = field(default_factory=dict)
    """Its provider and evidence; empty until it accepts requests."""


# Name, help, and the value from a version's statistics; durations in microseconds.
_COUNTERS: tuple[tuple[str, str, Callable[[VersionStats], float]], ...] = (
    ("nv_inference_request_success", "Requests answered with a result", lambda s: s.success),
    ("nv_inference_count", "Rows (images) computed", lambda s: s.rows),
    ("nv_inference_exec_count", "Runs of the model (batches)", lambda s: s.runs),
    (
        "nv_inference_request_duration_us",
        "Microseconds from arrival to answer, summed over requests",
        lambda s: s.request_ns // 1000,
    ),
    ("nv_inference_queue_duration_us", "Microseconds in the queue, summed over requests", lambda s: s.queue_ns // 1000),
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

_Versions = list[tuple[list[str], Version]]


def of_versions(versions: _Versions) -> Iterator[Metric]:
    """Yields the metric families of versions, given by their labels (model, version)."""
    for _, entry in versions:
        entry.stats.fold()
    yield from _counters(versions)
    yield from _gauges(versions)
    yield from _targets(versions)
    yield _run_times(versions)
    yield from _histograms(versions)
    yield from _buckets(versions)
    yield from _predictions(versions)
    info = InfoMetricFamily(
        "pixelserve_model",
        "Where and how a version computes (provider, engine, precision) and whether its evidence held (verified)",
        labels=_LABELS,
    )
    for labels, entry in versions:
        if entry.info:
            info.add_metric(labels, entry.info)
    yield info


def _counters(versions: _Versions) -> Iterator[Metric]:
    for name, text, value in _COUNTERS:
        yield _untyped(name, text, (({}, labels, value(entry.stats)) for labels, entry in versions))
    failures = (
        ({"reason": reason}, labels, count)
        for labels, entry in versions
        for reason, count in entry.stats.failure.items()
    )
    yield _untyped(
        "nv_inference_request_failure",
        "Accepted requests without a result: BACKEND (the run failed), CANCELED (the client left), REJECTED (the "
        "deadline passed)",
        failures,
    )
    for name, text, value in _OWN_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=_LABELS)
        for labels, entry in versions:
            counter.add_metric(labels, value(entry.stats))
        yield counter


def _untyped(name: str, text: str, samples: Iterable[tuple[dict[str, str], list[str], float]]) -> Metric:
    family = Metric(name, text, "unknown")
    for extra, labels, value in samples:
        family.add_sample(name, dict(zip(_LABELS, labels, strict=True)) | extra, value)
    return family


def _gauges(versions: _Versions) -> Iterator[Metric]:
    pending = GaugeMetricFamily("nv_inference_pending_request_count", "Requests in the queue now", labels=_LABELS)
    load = GaugeMetricFamily("nv_model_load_duration_secs", "Seconds that loading took", labels=_LABELS)
    limit = GaugeMetricFamily(
        "pixelserve_batch_limit",
        "Maximum rows merged into one run, by the times at load, config.pbtxt and the latency target; 0: requests are "
        "not merged",
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


# Name, help, and the value from the state of a latency target.
_TARGET_GAUGES: tuple[tuple[str, str, Callable[[TargetState], float]], ...] = (
    (
        "pixelserve_latency_target_seconds",
        "Seconds that 99 of 100 accepted requests are to take at most; only with a target, as the next three",
        lambda state: state.target_s,
    ),
    (
        "pixelserve_latency_target_margin_seconds",
        "Seconds before the target by which requests must be expected to end; grows when forecasts were too short",
        lambda state: state.margin_s,
    ),
    (
        "pixelserve_latency_target_queue_delay_seconds",
        "Seconds that the oldest request may wait for others",
        lambda state: state.queue_delay_s,
    ),
)


def _targets(versions: _Versions) -> Iterator[Metric]:
    states = [(labels, state) for labels, entry in versions if entry.target and (state := entry.target())]
    for name, text, value in _TARGET_GAUGES:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        for labels, state in states:
            family.add_metric(labels, value(state))
        yield family
    refused = CounterMetricFamily(
        "pixelserve_latency_target_refused",
        "Requests refused because they would have taken longer than the target",
        labels=_LABELS,
    )
    for labels, state in states:
        refused.add_metric(labels, state.refused)
    yield refused


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


# Name, help, and the histogram in a version's statistics.
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
