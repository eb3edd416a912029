"""The server's own metrics, and all families of /metrics. Those of versions are in `version_metrics`."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..access.tokens_file import TokensFile
from ..engine.curve import LatencyCurve
from ..engine.target import TargetState
from .gpus import Gpu, Gpus
from .predictions import Predictions
from .statistics import VersionStats
from .version_metrics import Version, of_versions


class Metrics(Collector):
    """All metrics, collected when /metrics is read.

    Args:
        requires_gpu: whether the server requires a GPU.
        gpus: the machine's GPUs; None: not reported.
    """

    def __init__(self, *, requires_gpu: bool = False, gpus: Gpus | None = None) -> None:
        self._gpus = gpus
        self._requires_gpu = requires_gpu
        self._versions: dict[tuple[str, str], Version] = {}
        self._loaded: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._failed_unix_s: dict[str, float] = {}
        self._replies: Callable[[], Mapping[str, int]] = dict
        self._failures: Callable[[], Mapping[tuple[str, str, str], int]] = dict
        self._certificate_ends_unix_s: Mapping[str, float] = {}
        # Empty without TLS. With TLS from the start, because Prometheus sees no increase in a counter that starts at 1.
        self._certificate_reloads: dict[str, int] = {}
        self._is_certificate_current = True
        self._tokens: TokensFile | None = None
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def observer(self, model: str, version: int) -> VersionStats:
        """Returns the observer of a version about to be loaded; a replacement continues its predecessor's counts."""
        return self._versions.setdefault((model, str(version)), Version(VersionStats())).stats

    def unloaded(self, model: str, version: int) -> None:
        """Removes an unloaded version and its figures."""
        self._versions.pop((model, str(version)), None)

    def loaded(
        self,
        model: str,
        version: int,
        *,
        provider: str,
        engine: str,
        precision: str,
        verified: bool,
        load_s: float,
        batch_limit: Callable[[], int],
        row_state: Callable[[], str],
        queue_limit: int,
        curve: LatencyCurve,
        predictions: Predictions | None = None,
        target: Callable[[], TargetState | None] = lambda: None,
    ) -> None:
        """Adds a version that is ready.

        Args:
            model: its model's name.
            version: its number.
            provider: its execution provider's name.
            engine: what computes it, joined by + if small and large batches differ.
            precision: what that computes in, joined likewise.
            verified: whether its evidence was verified.
            load_s: loading time in seconds.
            batch_limit: returns the maximum rows merged into a run; 0: requests are not merged.
            row_state: returns the state of its row proof (see `pixelserve.rows.RowProof`).
            queue_limit: maximum waiting requests per priority.
            curve: run time by batch size.
            predictions: its predictions; None: it is not a classifier.
            target: returns the state of its latency target, if it has one.
        """
        self._loaded[model] += 1
        entry = self._versions[model, str(version)]
        entry.load_s = load_s
        entry.batch_limit, entry.row_state = batch_limit, row_state
        entry.queue_limit = queue_limit
        entry.curve, entry.target = curve, target
        entry.stats.predictions = predictions
        entry.info = {
            "provider": provider,
            "engine": engine,
            "precision": precision,
            "verified": str(verified).lower(),
        }

    def load_failed(self, model: str, version: int) -> None:
        """Counts a failed load of a version, or of the model as a whole (0)."""
        entry = self._versions.get((model, str(version)))
        # A version that never served would leave zeros; if a predecessor serves, its counts continue.
        if entry is not None and not entry.info:
            del self._versions[model, str(version)]
        self._failed[model] += 1
        self._failed_unix_s[model] = time.time()

    def certificates_taken(self, ends_unix_s: Mapping[str, float], *, renewed: bool) -> None:
        """Records that new connections use these certificates.

        Args:
            ends_unix_s: expiry of each file's first certificate, by file: server, client_ca.
            renewed: whether they replace others.
        """
        self._certificate_ends_unix_s = ends_unix_s
        reloads = self._certificate_reloads or {"renewed": 0, "failed": 0}
        self._certificate_reloads = {**reloads, "renewed": reloads["renewed"] + renewed}
        self._is_certificate_current = True

    def certificates_refused(self) -> None:
        """Counts a change of the certificate files to unusable ones."""
        self._certificate_reloads = {**self._certificate_reloads, "failed": self._certificate_reloads["failed"] + 1}
        self._is_certificate_current = False

    def register_calls(
        self,
        replies: Callable[[], Mapping[str, int]],
        failures: Callable[[], Mapping[tuple[str, str, str], int]],
    ) -> None:
        """Registers the counts of answered calls.

        Args:
            replies: successful calls, by full method name.
            failures: failed calls, by full method name, status code and reason.
        """
        self._replies, self._failures = replies, failures

    def register_tokens(self, tokens: TokensFile) -> None:
        """Registers the tokens file."""
        self._tokens = tokens

    def statistics(self, model: str, version: int) -> VersionStats:
        """Returns a loaded version's statistics."""
        entry = self._versions.get((model, str(version)))
        # It may have been unloaded since the look-up.
        return VersionStats() if entry is None else entry.stats

    def register_queue(self, model: str, version: int, waiting: Callable[[], int]) -> None:
        """Registers the number of requests waiting for a version."""
        self._versions[model, str(version)].waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """Yields every metric family."""
        versions = [([model, version], entry) for (model, version), entry in list(self._versions.items())]
        yield from of_versions(versions)
        yield self._calls()
        yield from self._loads()
        yield from self._certificates()
        yield from _tokens(self._tokens)
        yield from _gpus(self._gpus.read() if self._gpus else [])
        yield GaugeMetricFamily("pixelserve_gpu_required", "1 if the settings require a GPU", int(self._requires_gpu))
        yield GaugeMetricFamily("pixelserve_threads", "Python threads of the process", threading.active_count())

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
        # Prometheus sees no increase in a counter that starts at 1.
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
    """Returns a method's name without its service; our methods' names are unique."""
    return method.rpartition("/")[2]
