"""Constructs and wires the server, and defines the order in which its components start and stop."""

import time
from dataclasses import replace

import pixelserve

from . import factories, life, port_factories
from .access.exposure import check_exposure
from .api import classifier, open_inference
from .api.admission import Admission, FailureCounts
from .api.call import Handler
from .api.classify_job import FULL_PICTURES, PictureLimits
from .api.dispatch import CallGuard, Dispatcher
from .api.figures import Figures
from .api.health import HEALTH_SERVICE, WATCH, Health
from .api.log_settings import LogSettings
from .api.reflection import METHODS as REFLECTION_METHODS
from .api.reflection import Reflection
from .api.repository import RepositoryControl
from .api.repository_index import RepositoryIndex
from .api.stream import INFER_STREAM, InferStreams
from .api.streaming import StreamedMethod
from .api.trace_settings import TraceSettings
from .deadline import Deadline
from .engine.memory import freeze
from .engine.providers import check_runtime, requires_gpu
from .engine.regions import Regions
from .engine.timer import Timer
from .failures import FailureLog
from .first_load import load_models
from .life import ENDING_S, Component, StartGate
from .network import Network
from .observe.certificates import CertificateEvents
from .observe.gpus import Gpus
from .observe.logs import LevelName, Log, LogLevel
from .observe.metrics import Metrics
from .observe.models import ModelEvents
from .observe.port import MetricsServer
from .repository.catalogue import Catalogue
from .repository.loader import Loader
from .repository.manager import RepositoryManager
from .settings import MIB, Settings
from .supervised import Supervisor
from .transport import Services

# Time for decodes whose calls are over; then their threads end with the process.
_DECODING_S = 0.5


class Application:
    """One server: one process, one repository, and one port each for gRPC, HTTP and metrics."""

    def __init__(self, settings: Settings, log: Log, log_level: LogLevel) -> None:
        """Builds the parts; does not listen or load models.

        Args:
            settings: the server's settings.
            log: the server's log.
            log_level: the log's level, which can change at run time.

        Raises:
            StartupError: the configured transport is not installed, or the certificates are unusable.
        """
        settings = port_factories.with_connections_that_fit(settings, log)
        self._settings = settings
        self._log = log
        self._log_failure = FailureLog(log)
        self._threads = Supervisor(self._log_failure, self._on_threads)
        self._log_level = log_level
        self._is_complete = False
        self._is_serving = False
        self._is_draining = False
        self._metrics = Metrics(
            requires_gpu=requires_gpu(factories.session_options(settings)),
            gpus=None if settings.device == "cpu" else Gpus(),
        )
        self._tokens = factories.tokens_file(settings, log, self._log_failure, self._threads)
        self._authorizer = self._tokens.authorizer if self._tokens else None
        self._failure_counts = FailureCounts()
        certificates = port_factories.certificates(settings)
        self._metrics_server = MetricsServer(
            self._metrics,
            lambda: self.is_ready,
            self._log_failure,
            self._threads,
            authorize=factories.metrics_authorizer(self._authorizer, self._failure_counts),
            tls=port_factories.metrics_tls(settings, certificates),
        )
        self._health = Health()
        self._timer = Timer(self._log_failure, self._threads)
        self._catalogue = Catalogue()
        self._events = ModelEvents(
            self._metrics, self._health, log, self._catalogue.is_ready, drift_window=settings.drift_window
        )
        self._manager = RepositoryManager(
            settings.model_repository,
            self._catalogue,
            self._loader(),
            self._events,
            drain_s=settings.grace_s,
            max_load_files_bytes=settings.max_load_files_mib * MIB,
        )
        self._watcher = factories.repository_watcher(settings, self._manager, log, self._log_failure, self._threads)
        self._core_watcher = factories.core_watcher(settings, self._manager, log, self._threads)
        self._control = RepositoryControl(self._manager, settings.model_control_mode, self._log_failure)
        self._pool = factories.decode_pool(settings, self._log_failure, self._timer, self._threads)
        self._admission = Admission(settings.max_inflight_mib * MIB)
        self._metrics.register_calls(lambda: dict(self._admission.replies), self._failure_counts.read)
        if self._tokens is not None:
            self._metrics.register_tokens(self._tokens)
        self._guard = CallGuard(self._log_failure)
        self._index = RepositoryIndex(self._catalogue, self._manager.changed, self._guard)
        self._tracing = factories.tracing(settings, log)
        self._dispatcher = Dispatcher(
            self._all_handlers(),
            self._admission,
            self._guard,
            self._failure_counts,
            factories.call_observer(settings, self._tracing, log, self._log_failure),
            self._authorizer,
            probes=self._health.handlers(),
            triton_status_codes=settings.triton_status_codes,
        )
        self._streams = InferStreams(
            self._dispatcher,
            self._admission,
            self._failure_counts,
            self._authorizer,
            max_streams=settings.max_infer_streams,
            window=settings.stream_window,
        )
        self._transport = port_factories.transport(settings, certificates, self._log_failure, self._threads)
        self._http = port_factories.http_port(settings, certificates, self._log_failure, self._threads)
        self._preemption = port_factories.preemption(self._transport, self._http, log, self._threads)
        self._network = Network(
            self._transport,
            self._http,
            self._dispatcher,
            self._admission,
            self._streams,
            self._health,
            self._log_failure,
            hold=settings.max_queue_size // 2,
        )
        self._age = port_factories.connection_age(settings, self._network, self._log_failure, self._threads)
        self._renewal = port_factories.renewal(
            settings,
            certificates,
            self._transport,
            self._http,
            self._metrics_server,
            CertificateEvents(self._metrics, log),
            self._log_failure,
            self._threads,
        )
        self._wire()

    @property
    def is_ready(self) -> bool:
        """Whether every model is loaded, the server is not draining, and no supervised thread is down."""
        return self._is_complete and not self._is_draining and not self._threads.down

    def start(self, gate: StartGate) -> None:
        """Opens the ports, loads the models and, if the gate opens, serves.

        Raises:
            StartupError: a port is taken, the device is missing, the tokens file is invalid, or other machines could
                reach the server without TLS and tokens.
            RepositoryError: a model cannot be served, and `exit_on_error` is on.
        """
        settings = self._settings
        if warning := check_exposure(settings):
            self._log.warning("insecure", reason=warning)
        check_runtime(settings.device, require_gpu=settings.require_gpu, engine=settings.engine)
        life.start(self._loading)
        if not gate.open():
            # A signal came first, and no call was accepted.
            return
        self._is_serving = True
        life.start(self._serving)
        freeze()
        http_address = self._addresses["http"]
        self._log.info(
            "serving",
            grpc=self._addresses["grpc"],
            http=f"{_scheme(settings.tls_cert is not None)}://{http_address}" if http_address else None,
            metrics=f"{_scheme(settings.metrics_tls)}://{self._addresses['metrics']}/metrics",
            models=[f"{loaded.name}/{loaded.version}" for loaded in self._catalogue.all_ready()],
            ready=self.is_ready,
            transport=self._transport.name,
            tls=("mutual" if settings.tls_client_ca else "on") if settings.tls_cert else "off",
        )

    def stop(self, deadline: Deadline) -> list[str]:
        """Stops without losing accepted calls; returns the names of components that are still running."""
        stuck = life.stop(self._serving, deadline, self._log_failure)
        # Every call is over, so no remaining work has a caller.
        return stuck + life.stop(self._loading, deadline.within(ENDING_S), self._log_failure)

    def _wire(self) -> None:
        """Lists the components in start order; they stop in reverse order."""
        tokens, tracing, watcher, renewal = self._tokens, self._tracing, self._watcher, self._renewal
        age, core_watcher, preemption = self._age, self._core_watcher, self._preemption
        self._loading = [
            # Token revocations apply as long as calls are answered.
            *([Component("tokens", lambda _: tokens.close(), self._start_tokens)] if tokens else []),
            # Queued requests can expire until the last model is unloaded.
            Component("timer", lambda _: self._timer.close(), self._timer.start),
            # Before the models: a port in use fails before they are loaded. The metrics port answers during start-up,
            # and the last scrape includes the last request.
            Component("ports", lambda _: self._metrics_server.close(), self._bind),
            # Exports the last run's spans too.
            *([Component("traces", lambda deadline: tracing.close(deadline.left_s() / 2))] if tracing else []),
            # After the calls, which need models and decoders.
            Component("models", self._manager.stop, self._load),
            Component("index", lambda _: self._index.close()),
            Component("pictures", lambda deadline: self._pool.stop(deadline.within(_DECODING_S).at_s)),
        ]
        self._serving = [
            *([Component("preemption", lambda _: preemption.close(), preemption.start)] if preemption else []),
            Component("calls", self._stop_calls, self._start_calls),
            # No loads and no certificate renewals while ports close.
            *([Component("repository watcher", watcher.stop, watcher.start)] if watcher else []),
            *([Component("cores", lambda _: core_watcher.close(), core_watcher.start)] if core_watcher else []),
            *([Component("connection age", lambda _: age.close(), age.start)] if age else []),
            *([Component("certificates", lambda _: renewal.close(), renewal.start)] if renewal else []),
            # First, or load balancers would keep sending to a server that refuses.
            Component("health", self._settle, self._report),
        ]

    @property
    def unfinished(self) -> int:
        """Number of accepted calls that were unanswered, or whose answers were unsent, when the server stopped."""
        known = self._network.unfinished
        # If the network did not stop, the number is unknown, but not 0.
        return max(self._admission.unanswered, 1) if known is None else known

    def log_end(self, stuck: list[str]) -> None:
        """Logs how the server stopped; `stuck` names the components that are still running."""
        fields = {"stuck": stuck} if stuck else {}
        self._log.info("stopped", answered=self._admission.replies.total(), unfinished=self.unfinished, **fields)

    def _bind(self) -> None:
        settings = self._settings
        grpc_address = self._transport.bind(settings.host, settings.grpc_port)
        self._grpc_port = int(grpc_address.rpartition(":")[2])
        self._addresses = {
            "grpc": grpc_address,
            "http": self._http.bind(settings.host, settings.http_port) if self._http else None,
            "metrics": self._metrics_server.bind(settings.host, settings.metrics_port),
        }

    def _start_calls(self) -> None:
        self._network.start(
            self._services(),
            lambda: port_factories.rest(
                self._settings, self._dispatcher, self._log_failure, self._failure_counts, self._authorizer
            ),
        )

    def _stop_calls(self, deadline: Deadline) -> None:
        self._network.stop(deadline.earlier(ENDING_S))

    def _start_tokens(self) -> None:
        if self._tokens is not None:
            self._tokens.load()
            self._tokens.start()

    def _report(self) -> None:
        self._health.report(
            {name: self._catalogue.is_ready(name) for name in self._catalogue.names()}, server=self.is_ready
        )

    def _settle(self, _: Deadline) -> None:
        settings = self._settings
        if not self._is_serving:
            return
        self._log.info("draining", settle_s=settings.drain_settle_s, grace_s=settings.grace_s)
        self._is_draining = True
        self._health.not_serving()
        self._network.ask_to_close()
        time.sleep(settings.drain_settle_s)

    def _services(self) -> Services:
        reflection = Reflection((open_inference.SERVICE, classifier.SERVICE, HEALTH_SERVICE))
        streamed: dict[str, StreamedMethod] = {INFER_STREAM: self._streams, WATCH: self._health}
        return Services(self._dispatcher, self._admission, streamed | dict.fromkeys(REFLECTION_METHODS, reflection))

    def _all_handlers(self) -> dict[str, Handler]:
        settings = self._settings
        limits = PictureLimits(
            settings.max_images,
            settings.max_image_pixels,
            FULL_PICTURES * settings.max_image_pixels,
            settings.max_decode_mib * MIB,
        )
        return {
            **open_inference.OpenInference(
                self._catalogue,
                self,
                pixelserve.__version__,
                self._metrics.statistics,
                LogSettings(self._log_level, settings.log_format, self._on_log_level),
                TraceSettings(self._catalogue, self._tracing, self._on_trace_settings),
                Regions(max_read_bytes=settings.max_inflight_mib * MIB),
                shared_memory=settings.system_shared_memory,
            ).handlers(),
            f"/{open_inference.SERVICE}/RepositoryIndex": self._index,
            **classifier.Classifier(self._catalogue, self._pool, limits, self._guard).handlers(),
            f"/{classifier.SERVICE}/Figures": Figures(
                self._catalogue,
                self._metrics.statistics,
                lambda: self.is_ready,
                lambda: self._grpc_port,
            ),
            **self._control.handlers(),
        }

    def _on_log_level(self, before: LevelName, after: LevelName) -> None:
        self._log.warning("log level changed", before=before, after=after)

    def _on_trace_settings(self, level: str, rate: int) -> None:
        self._log.warning("trace settings changed", trace_level=level, trace_rate=rate)

    def _load(self) -> None:
        self._is_complete = load_models(self._settings, self._manager, self._log)

    def _on_threads(self) -> None:
        """Updates readiness when a thread fails or restarts."""
        self._log.warning("threads", down=list(self._threads.down), ready=self.is_ready)
        # Before everything is loaded and after the stop it is not ready anyway.
        self._health.report({}, server=self.is_ready)

    def _loader(self) -> Loader:
        return replace(
            factories.loader(self._settings, self._metrics.observer, self._log_failure),
            timer=self._timer,
            supervisor=self._threads,
            on_broken=lambda model: self._health.report_model(model, serving=self._catalogue.is_ready(model)),
            on_progress=self._events.on_progress,
            on_other_output=self._events.on_other_output,
            on_unmerged=self._events.on_unmerged,
            on_untuned=self._events.on_untuned,
        )


def _scheme(is_encrypted: bool) -> str:
    return "https" if is_encrypted else "http"
