"""Constructs the server's parts, wires them, and runs their life: start, serve, drain, stop."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pixelserve

from .api.dispatch import Dispatcher
from .api.health import HEALTH_SERVICE, Health
from .api.open_inference import SERVICE, OpenInference
from .engine.session import check_runtime, runtime_version
from .errors import RepositoryError
from .observe.logs import Log, configure_logs
from .observe.metrics import Metrics, MetricsServer
from .repository.catalogue import Catalogue
from .repository.config import Defaults
from .repository.loader import LoadedVersion, Loader
from .settings import MIB, Settings
from .transport.grpcio import GrpcioTransport


class Application:
    """One server: one process, one repository, one gRPC port."""

    def __init__(self, settings: Settings, log: Log) -> None:
        """Builds the parts; nothing listens and nothing is loaded yet."""
        self._settings = settings
        self._log = log
        self._is_complete = False
        self._is_draining = False
        self._metrics = Metrics()
        self._metrics_server = MetricsServer(self._metrics, lambda: self.is_ready)
        self._health = Health()
        self._catalogue = Catalogue(settings.model_repository, self._loader())
        self._transport = GrpcioTransport(
            threads=settings.grpc_threads, max_message_bytes=settings.max_message_mib * MIB
        )

    @property
    def is_ready(self) -> bool:
        """Whether every model is loaded and the server is not draining."""
        return self._is_complete and not self._is_draining

    def start(self) -> None:
        """Takes the ports, loads the models and starts serving.

        Raises:
            StartupError: a port is taken, or the device is not there.
            RepositoryError: a model cannot be served, and `exit_on_error` is on.
        """
        settings = self._settings
        check_runtime(settings.device)
        # Ports first: one in use should not cost the time of loading models.
        grpc_address = self._transport.bind(settings.host, settings.grpc_port)
        metrics_address = self._metrics_server.bind(settings.host, settings.metrics_port)
        self._load()
        open_inference = OpenInference(self._catalogue, self, pixelserve.__version__)
        self._transport.add(Dispatcher(open_inference.handlers(), self._log_call_failure), (SERVICE, HEALTH_SERVICE))
        self._health.register(self._transport.server)
        self._health.serving({loaded.name for loaded in self._catalogue.all_ready()}, server=self.is_ready)
        self._transport.start()
        self._log.info(
            "serving",
            grpc=grpc_address,
            metrics=f"http://{metrics_address}/metrics",
            models=[f"{loaded.name}/{loaded.version}" for loaded in self._catalogue.all_ready()],
            ready=self.is_ready,
        )

    def drain_and_stop(self) -> bool:
        """Ends in the order that loses nothing; returns whether all accepted requests were answered in time."""
        settings = self._settings
        self._log.info("draining", settle_s=settings.drain_settle_s, grace_s=settings.grace_s)
        # Balancers first, or they would go on sending to a server that refuses.
        self._is_draining = True
        self._health.not_serving()
        time.sleep(settings.drain_settle_s)
        # Watchers have been told; left open, their calls would last as long as the grace does.
        self._health.end_watches()
        # Refuse new calls and finish the accepted ones, which needs the batchers alive.
        finished = self._transport.stop(settings.grace_s)
        # Nothing is left to submit to them.
        self._catalogue.drain()
        self._close()
        self._log.info("stopped", finished=finished)
        return finished

    def abandon(self) -> None:
        """Lets go of what a failed start has taken."""
        self._transport.stop(0)
        self._catalogue.drain()
        self._close()

    def _close(self) -> None:
        # Last, so that the final scrape sees the last request.
        self._metrics_server.close()
        self._health.close()

    def _load(self) -> None:
        failed: list[str] = []

        def on_failed(model: str, error: RepositoryError) -> None:
            if self._settings.exit_on_error:
                raise error
            self._log.error("model failed to load", model=model, reason=str(error))
            failed.append(model)

        self._catalogue.load_all(on_loaded=self._on_loaded, on_failed=on_failed)
        self._is_complete = not failed

    def _loader(self) -> Loader:
        settings = self._settings
        return Loader(
            device=settings.device,
            intra_op_threads=settings.intra_op_threads,
            defaults=Defaults(settings.default_max_batch_size, settings.max_queue_size),
            require_card=settings.require_card,
            observer=self._metrics.observer,
            log_failure=lambda error: self._log.error("session failed", exc_info=error),
        )

    def _on_loaded(self, loaded: LoadedVersion) -> None:
        verified = loaded.evidence.verified
        self._metrics.loaded(
            loaded.name, loaded.version, provider=loaded.provider, verified=verified, load_s=loaded.load_s
        )
        self._metrics.watch_queue(loaded.name, loaded.version, lambda: loaded.batcher.waiting)
        emit = self._log.info if verified else self._log.warning
        emit(
            "model loaded",
            model=loaded.name,
            version=loaded.version,
            provider=loaded.provider,
            runtime=runtime_version(),
            evidence=loaded.evidence.summary,
            load_s=round(loaded.load_s, 3),
        )

    def _log_call_failure(self, error: BaseException, request_id: str) -> None:
        self._log.error("call failed", request_id=request_id, exc_info=error)


def run(settings: Settings) -> int:
    """Runs a server until SIGTERM or SIGINT; returns the process's exit code.

    0: everything accepted was answered. 1: `grace_s` ran out first.

    Raises:
        StartupError, RepositoryError: the server could not start; nothing is left running.
    """
    log = configure_logs(settings.log_level, settings.log_format)
    application = Application(settings, log)
    with _stop_signal() as stop:
        try:
            application.start()
        except BaseException:
            application.abandon()
            raise
        stop.wait()
        return 0 if application.drain_and_stop() else 1


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Gives an event that the first SIGTERM or SIGINT sets; a second one ends the process at once."""
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            # Back to the default action, which ends the process with the signal's own status.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    old: dict[signal.Signals, Any] = {each: signal.signal(each, on_signal) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
