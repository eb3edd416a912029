"""Constructs the server's parts, wires them, and runs their life: start, serve, drain, stop."""

import gc
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pixelserve

from . import parts
from .access.exposure import check_exposure
from .api import classifier, open_inference
from .api.admission import Admission, FailureCounts
from .api.call import Handler
from .api.classify_job import PictureLimits
from .api.dispatch import Dispatcher, Guard
from .api.health import HEALTH_SERVICE, WATCH, Health
from .api.log_settings import LogSettings
from .api.reflection import METHODS as REFLECTION_METHODS
from .api.reflection import Reflection
from .api.repository import RepositoryControl
from .api.repository_index import RepositoryIndex
from .api.stream import INFER_STREAM, InferStreams
from .api.streaming import StreamedMethod
from .api.trace_settings import TraceSettings
from .engine.regions import Regions
from .engine.session import check_runtime
from .engine.timer import Timer
from .errors import RepositoryError
from .failures import FailureLog
from .imaging.pool import DecodePool
from .observe.capture import stderr_in_log
from .observe.certificates import CertificateEvents
from .observe.gpus import Gpus
from .observe.logs import LevelName, Log, LogLevel, configure_logs
from .observe.metrics import Metrics
from .observe.models import ModelEvents
from .observe.port import MetricsServer
from .repository.catalogue import Catalogue
from .repository.loader import Loader
from .repository.manager import RepositoryManager
from .repository.temporary import remove_abandoned
from .settings import MIB, Settings
from .signals import stop_signal
from .supervised import Supervisor
from .transport import Services

if TYPE_CHECKING:
    from .repository.watcher import RepositoryWatcher

UNFINISHED = 13
"""Exit code of a server whose grace ran out before every accepted request was answered (docs/cli.md)."""

# What a transport gets to send answers that it already has.
_FLUSH_S = 5.0
# What a picture that is being decoded for nobody gets to finish; then its thread ends with the process.
_DECODING_S = 0.5
# Before connections are told to go, calls are kept until none has come for this long, and no longer than this.
_HOLD_QUIET_S = 0.05
_HOLD_S = 0.2
# What the network threads get to send that news before answers follow.
_NEWS_S = 0.02
# How long a server that told its connections to go still takes calls.
_STAY_S = 0.2
# A stopping server that has refused nobody for this long has probably been left by its clients.
_QUIET_S = 0.1
_SERVICE_LINK = (
    "it holds the address of a Kubernetes Service; to silence this, rename the Service or set enableServiceLinks: "
    "false in the pod; to set the port, use the flag"
)


class Application:
    """One server: one process, one repository, a port each for gRPC, HTTP and metrics."""

    def __init__(self, settings: Settings, log: Log, log_level: LogLevel) -> None:
        """Builds the parts; nothing listens and nothing is loaded yet.

        Args:
            settings: the server's.
            log: where it says what happens.
            log_level: what of that is shown.

        Raises:
            StartupError: the transport that the settings ask for is not installed, or the certificates cannot be used.
        """
        settings = parts.with_connections_that_fit(settings, log)
        self._settings = settings
        self._log = log
        self._log_failure = FailureLog(log)
        self._threads = Supervisor(self._log_failure, self._on_threads)
        self._log_level = log_level
        self._is_complete = False
        self._is_draining = False
        self._metrics = Metrics(
            requires_gpu=settings.require_gpu or settings.device == "cuda",
            gpus=None if settings.device == "cpu" else Gpus(),
        )
        self._tokens = parts.tokens_file(settings, log, self._log_failure, self._threads)
        self._authorizer = self._tokens.authorizer if self._tokens else None
        self._failure_counts = FailureCounts()
        certificates = parts.certificates(settings)
        self._metrics_server = MetricsServer(
            self._metrics,
            lambda: self.is_ready,
            self._log_failure,
            self._threads,
            authorize=parts.metrics_door(self._authorizer, self._failure_counts),
            tls=parts.metrics_tls(settings, certificates),
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
        self._watcher = self._repository_watcher()
        self._control = RepositoryControl(self._manager, settings.model_control_mode, self._log_failure)
        self._pool = DecodePool(
            settings.decode_threads,
            settings.decode_queue_size,
            settings.max_decode_mib * MIB,
            self._log_failure,
            self._timer,
        )
        self._admission = Admission(settings.max_inflight_mib * MIB)
        self._metrics.watch_calls(lambda: dict(self._admission.replies), self._failure_counts.read)
        if self._tokens is not None:
            self._metrics.watch_tokens(self._tokens)
        self._guard = Guard(self._log_failure)
        self._index = RepositoryIndex(self._catalogue, self._manager.changed, self._guard)
        self._tracing = parts.tracing(settings, log)
        self._dispatcher = Dispatcher(
            self._all_handlers(),
            self._admission,
            self._guard,
            self._failure_counts,
            parts.call_watch(settings, self._tracing, log, self._log_failure),
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
        self._transport = parts.transport(settings, certificates, self._log_failure, self._threads)
        self._http = parts.http_port(settings, certificates, self._log_failure, self._threads)
        self._renewal = parts.renewal(
            settings,
            certificates,
            self._transport,
            self._http,
            self._metrics_server,
            CertificateEvents(self._metrics, log),
            self._log_failure,
            self._threads,
        )

    @property
    def is_ready(self) -> bool:
        """Whether every model is loaded, the server is not draining, and no thread of it has failed just now."""
        return self._is_complete and not self._is_draining and not self._threads.down

    def start(self) -> None:
        """Takes the ports, loads the models and starts serving.

        Raises:
            StartupError: a port is taken, the device is not there, the file of tokens is wrong, or other machines would
                reach the server without TLS and tokens.
            RepositoryError: a model cannot be served, and `exit_on_error` is on.
        """
        settings = self._settings
        if warning := check_exposure(settings):
            self._log.warning("insecure", reason=warning)
        if self._tokens is not None:
            self._tokens.load()
        check_runtime(settings.device, require_gpu=settings.require_gpu)
        self._timer.start()
        # Ports first: one in use should not cost the time of loading models.
        grpc_address = self._transport.bind(settings.host, settings.grpc_port)
        http_address = self._http.bind(settings.host, settings.http_port) if self._http else None
        metrics_address = self._metrics_server.bind(settings.host, settings.metrics_port)
        self._load()
        self._health.report(
            {name: self._catalogue.is_ready(name) for name in self._catalogue.names()}, server=self.is_ready
        )
        self._transport.start(self._services())
        if self._http:
            application = parts.rest(
                settings, self._dispatcher, self._log_failure, self._failure_counts, self._authorizer
            )
            self._http.start(application)
        for follower in (self._watcher, self._tokens, self._renewal):
            if follower is not None:
                follower.start()
        _settle_memory()
        self._log.info(
            "serving",
            grpc=grpc_address,
            http=f"{_scheme(settings.tls_cert is not None)}://{http_address}" if http_address else None,
            metrics=f"{_scheme(settings.metrics_tls)}://{metrics_address}/metrics",
            models=[f"{loaded.name}/{loaded.version}" for loaded in self._catalogue.all_ready()],
            ready=self.is_ready,
            transport=self._transport.name,
            tls=("mutual" if settings.tls_client_ca else "on") if settings.tls_cert else "off",
        )

    def drain_and_stop(self) -> bool:
        """Ends in the order that loses nothing; returns whether all accepted requests were answered in time."""
        settings = self._settings
        self._log.info("draining", settle_s=settings.drain_settle_s, grace_s=settings.grace_s)
        # Balancers first, or they would go on sending to a server that refuses.
        self._is_draining = True
        self._health.not_serving()
        self._end_renewal()
        time.sleep(settings.drain_settle_s)
        self._tell_to_go()
        # Refuse new calls and finish the accepted ones, which needs decoders and batchers alive.
        unfinished = self._admission.drain(settings.grace_s)
        # Every call is answered, so what is still decoded is for nobody.
        self._pool.stop(time.monotonic())
        # Their answers are there; idle ones would last as long as their clients like.
        self._streams.end(_FLUSH_S)
        self._admission.linger(_QUIET_S, _FLUSH_S)
        # Watchers have been told; left open, their calls would last as long as the transport waits.
        self._health.end_watches()
        # Every answer is with the transport, which needs a moment to send it.
        self._transport.stop(_FLUSH_S)
        if self._http:
            self._http.stop(_FLUSH_S)
        self._let_go()
        self._log.info("stopped", answered=self._admission.replies.total(), unfinished=unfinished)
        return not unfinished

    def _tell_to_go(self) -> None:
        """Tells every connection to go before anything is refused: a client that retries nothing then loses no call.

        A call that crosses this news is lost to such a client. So calls are kept for a moment: clients that wait for
        their answers before they send more have nothing on its way then, and get the news before the answers.
        """
        # Without an answered call, there are no clients to wait for.
        hold_s = _HOLD_S if self._admission.replies else 0
        held = self._dispatcher.hold(self._settings.max_queue_size // 2)
        kept = held.wait_until_quiet(_HOLD_QUIET_S, hold_s)
        try:
            self._transport.retire(self._settings.grace_s + 2 * _FLUSH_S)
            if self._http:
                self._http.retire()
        except Exception as error:  # noqa: BLE001  it must not keep a server from ending
            self._log_failure(error)
        time.sleep(_NEWS_S)
        self._dispatcher.release(held)
        if kept:
            # Their clients connect again, and are served here unless a balancer sends them elsewhere.
            time.sleep(_STAY_S)

    def abandon(self) -> None:
        """Lets go of what a failed start has taken."""
        self._end_renewal()
        self._transport.stop(0)
        if self._http:
            self._http.stop(0)
        self._let_go()

    def _end_renewal(self) -> None:
        """Takes no more certificates, which ports that are ending could not."""
        if self._renewal is not None:
            self._renewal.close()

    def _services(self) -> Services:
        reflection = Reflection((open_inference.SERVICE, classifier.SERVICE, HEALTH_SERVICE))
        streamed: dict[str, StreamedMethod] = {INFER_STREAM: self._streams, WATCH: self._health}
        return Services(self._dispatcher, self._admission, streamed | dict.fromkeys(REFLECTION_METHODS, reflection))

    def _let_go(self) -> None:
        for follower in (self._watcher, self._tokens):
            if follower is not None:
                follower.close()
        self._control.close()
        self._index.close()
        self._pool.stop(time.monotonic() + _DECODING_S)
        # A run that never ends must not keep the process alive.
        self._catalogue.drain(_FLUSH_S)
        self._manager.close()
        self._timer.close()
        if self._tracing is not None:
            self._tracing.close(_FLUSH_S)
        # Last, so that the final scrape sees the last request.
        self._metrics_server.close()

    def _all_handlers(self) -> dict[str, Handler]:
        settings = self._settings
        limits = PictureLimits(
            settings.max_images, settings.max_image_pixels, settings.max_request_pixels, settings.max_decode_mib * MIB
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
            **self._control.handlers(),
        }

    def _on_log_level(self, before: LevelName, after: LevelName) -> None:
        self._log.warning("log level changed", before=before, after=after)

    def _on_trace_settings(self, level: str, rate: int) -> None:
        self._log.warning("trace settings changed", trace_level=level, trace_rate=rate)

    def _load(self) -> None:
        settings = self._settings
        if removed := remove_abandoned():
            self._log.info("temporary files removed", folders=removed, reason="the servers that made them have ended")
        names = [name.strip() for name in (settings.load_models or "").split(",") if name.strip()]
        if settings.model_control_mode != "explicit" or "*" in names:
            failed = self._manager.load_all(stop_on_error=settings.exit_on_error)
        else:
            self._announce()
            failed = self._manager.load_all(names, stop_on_error=settings.exit_on_error)
        if failed and settings.exit_on_error:
            raise failed[0]
        self._is_complete = not failed

    def _on_threads(self) -> None:
        """Says so when a thread has failed, or has started again."""
        self._log.warning("threads", down=list(self._threads.down), ready=self.is_ready)
        # Before everything is loaded and after the end it serves nothing anyway.
        self._health.report({}, server=self.is_ready)

    def _announce(self) -> None:
        """Has clients see what they may load; there may be nothing yet."""
        try:
            self._manager.announce()
        except RepositoryError:
            if not self._settings.model_repository.is_dir():
                raise

    def _repository_watcher(self) -> "RepositoryWatcher | None":
        settings = self._settings
        if settings.model_control_mode != "poll":
            return None
        from .repository.watcher import RepositoryWatcher

        return RepositoryWatcher(
            settings.model_repository,
            self._manager,
            interval_s=settings.repository_poll_s,
            log_problem=lambda problem: self._log.error("repository cannot be read", reason=str(problem)),
            log_failure=self._log_failure,
            supervisor=self._threads,
        )

    def _loader(self) -> Loader:
        return replace(
            parts.loader(self._settings, self._metrics.observer, self._log_failure),
            timer=self._timer,
            supervisor=self._threads,
            on_broken=lambda model: self._health.report_model(model, serving=self._catalogue.is_ready(model)),
            on_progress=self._events.on_progress,
            on_other_output=self._events.on_other_output,
            on_unmerged=self._events.on_unmerged,
        )


def _scheme(is_encrypted: bool) -> str:
    return "https" if is_encrypted else "http"


def _settle_memory() -> None:
    """Takes what lives as long as the server out of the garbage collector's sight.

    A full collection looks at every object that may ever become garbage: with all modules and models among them it took
    30 ms, in which nobody was answered.
    """
    gc.collect()
    gc.freeze()


def run(settings: Settings, *, service_links: Iterable[str] = ()) -> int:
    """Runs a server until SIGTERM or SIGINT; returns the process's exit code.

    0: everything accepted was answered. UNFINISHED: `grace_s` ran out first, and the rest was told UNAVAILABLE.

    Args:
        settings: the server's.
        service_links: environment variables that were ignored because Kubernetes set them; for the log.

    Raises:
        StartupError, RepositoryError: the server could not start; nothing is left running.
    """
    log_level = LogLevel(settings.log_level)
    with (
        stderr_in_log(lambda descriptor: configure_logs(log_level, settings.log_format, descriptor)) as log,
        stop_signal() as wait_for_stop,
    ):
        for name in service_links:
            log.warning("environment variable ignored", variable=name, reason=_SERVICE_LINK)
        application = Application(settings, log, log_level)
        try:
            application.start()
        except BaseException:
            application.abandon()
            raise
        wait_for_stop()
        return 0 if application.drain_and_stop() else UNFINISHED
