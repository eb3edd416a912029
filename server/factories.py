"""Builds the server's larger parts from the settings; `app` wires them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pixelserve

from .access.authorizer import Authorizer, Metadata
from .access.tokens_file import TokensFile
from .api.admission import FailureCounts
from .api.call_observer import CallObserver
from .api.status import status_of
from .engine.measuring import WarmupBudget
from .engine.providers import DEFAULT_ENGINES, FLAGS, EngineChoice, SessionOptions, provider_at
from .engine.run import Observer
from .engine.timer import Timer
from .errors import MissingLibraryError, RequestError
from .failures import FailureLog
from .imaging.pool import MAX_WAITING, DecodePool
from .observe.access_log import AccessLog
from .observe.logs import Log
from .repository.config import Defaults
from .repository.core_watcher import CoreWatcher
from .repository.loader import Loader, Tuning
from .repository.manager import RepositoryManager
from .settings import MIB, Settings
from .supervised import Supervisor

if TYPE_CHECKING:
    from .observe.traces import Tracing
    from .repository.watcher import RepositoryWatcher


def session_options(settings: Settings) -> SessionOptions:
    """Returns the options of sessions."""
    fixed = settings.engine != "auto"
    return SessionOptions(
        engines=(EngineChoice(settings.engine),) if fixed else DEFAULT_ENGINES,
        device=settings.device,
        device_id=settings.device_id,
        require_gpu=settings.require_gpu,
        intra_op_threads=settings.intra_op_threads,
        flags={name: True for name in FLAGS if getattr(settings, name)},
        config=dict(option.split("=", 1) for option in settings.session_option),
    )


def loader(settings: Settings, observer: Callable[[str, int], Observer], log_failure: FailureLog) -> Loader:
    """Returns the loader of versions; `observer` and `log_failure` are those of `Loader`."""
    return Loader(
        session_options=session_options(settings),
        defaults=Defaults(settings.default_max_batch_size, settings.max_queue_size, settings.target_p99_ms / 1e3),
        tuning=Tuning(
            buckets=settings.batch_buckets,
            limit_batches=settings.limit_batches,
            shed_delay_s=settings.shed_delay_ms / 1e3,
            run_on_arrival=settings.run_on_arrival,
            warmup=WarmupBudget(settings.warmup_s, settings.warmup_mib * MIB),
        ),
        require_card=settings.require_card,
        uses_tuning=settings.engine == "auto",
        observer=observer,
        log_failure=log_failure,
    )


def decode_pool(settings: Settings, log_failure: FailureLog, timer: Timer, supervisor: Supervisor) -> DecodePool:
    """Returns the decoding thread pool."""
    return DecodePool(
        settings.decode_threads,
        MAX_WAITING,
        settings.max_decode_mib * MIB,
        log_failure,
        timer,
        supervisor=supervisor,
    )


def repository_watcher(
    settings: Settings, manager: RepositoryManager, log: Log, log_failure: FailureLog, supervisor: Supervisor
) -> "RepositoryWatcher | None":
    """Returns the watcher of the repository, or None unless the mode is poll."""
    if settings.model_control_mode != "poll":
        return None
    # Imported only if used: the other modes do not need its library.
    from .repository.watcher import RepositoryWatcher

    return RepositoryWatcher(
        settings.model_repository,
        manager,
        interval_s=settings.repository_poll_s,
        log_problem=lambda problem: log.error("repository cannot be read", reason=str(problem)),
        log_failure=log_failure,
        supervisor=supervisor,
    )


def core_watcher(
    settings: Settings, manager: RepositoryManager, log: Log, supervisor: Supervisor
) -> CoreWatcher | None:
    """Returns the watcher that loads models again if they may use more or fewer cores; None if threads are fixed."""
    if settings.intra_op_threads:
        return None

    def apply(before: int, now: int) -> None:
        log.warning(
            "usable cores changed", before=before, now=now, effect="models are loaded again with as many threads"
        )
        manager.reload(lambda loaded: not provider_at(loaded.provider).on_gpu)

    return CoreWatcher(apply, supervisor)


def tokens_file(settings: Settings, log: Log, log_failure: FailureLog, supervisor: Supervisor) -> TokensFile | None:
    """Returns the tokens, reloaded when their file changes; None if every call is allowed."""
    if settings.tokens is None:
        return None
    return TokensFile(settings.tokens, Authorizer(()), log, log_failure, supervisor)


def metrics_authorizer(
    authorizer: Authorizer | None, failure_counts: FailureCounts
) -> Callable[[Metadata], RequestError | None] | None:
    """Returns a function that checks and counts requests for the metrics, or None if they are public."""
    if authorizer is None:
        return None

    def authorize(metadata: Metadata) -> RequestError | None:
        try:
            authorizer.authorize_metrics(metadata)
        except RequestError as error:
            status = status_of(error)
            failure_counts.add_http(status.code.name, status.reason)
            return error
        return None

    return authorize


def call_observer(
    settings: Settings, tracing: "Tracing | None", log: Log, log_failure: FailureLog
) -> CallObserver | None:
    """Returns the observer that reports calls to the access log and traces, or None if both are off."""
    access_log = AccessLog(log, settings.access_log_per_s) if settings.access_log_per_s else None
    return CallObserver(access_log, tracing, log_failure) if access_log or tracing else None


def tracing(settings: Settings, log: Log) -> "Tracing | None":
    """Returns the tracing of calls, or None if the settings name no collector.

    Raises:
        MissingLibraryError: OpenTelemetry is not installed.
    """
    if settings.trace_endpoint is None:
        return None
    # Imported only if used: servers without tracing do not need it.
    try:
        from .observe.traces import Tracing, otlp_exporter
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"--trace-endpoint needs {error.name}, which is not installed; "
            "in PixelServe's clone run: pip install -e '.[otel]'"
        ) from error
    service = {"service.version": pixelserve.__version__}
    if settings.instance:
        service["service.instance.id"] = settings.instance
    return Tracing(otlp_exporter(settings.trace_endpoint), service, settings.trace_rate, log)
