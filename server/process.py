"""The server process, from its log to its exit code."""

from collections.abc import Iterable

from .app import Application
from .life import Life
from .observe.capture import stderr_in_log
from .observe.logs import LogLevel, configure_logs
from .repository.single import as_repository
from .settings import Settings
from .signals import stop_signal

_SERVICE_LINK = (
    "it holds the address of a Kubernetes Service; to silence this, rename the Service or set enableServiceLinks: "
    "false in the pod; to set the port, use the flag"
)


def run(settings: Settings, *, service_links: Iterable[str] = ()) -> int:
    """Runs a server until SIGTERM or SIGINT; returns the process's exit code.

    0: all accepted calls were answered and their answers sent. UNFINISHED: `grace_s` passed first, and the rest failed
    with UNAVAILABLE. If something hangs, the process exits here with the same code.

    Args:
        settings: the server's settings.
        service_links: environment variables ignored because Kubernetes set them; logged.

    Raises:
        StartupError, RepositoryError: the server could not start; nothing is left running.
    """
    log_level = LogLevel(settings.log_level)
    with (
        stderr_in_log(
            lambda descriptor: configure_logs(log_level, settings.log_format, descriptor, instance=settings.instance)
        ) as log,
        stop_signal() as signal,
        as_repository(settings.model_repository, settings.model_name) as repository,
    ):
        settings = settings.model_copy(update={"model_repository": repository})
        for name in service_links:
            log.warning("environment variable ignored", variable=name, reason=_SERVICE_LINK)
        life = Life(
            lambda: Application(settings, log, log_level),
            settings.drain_settle_s + settings.grace_s,
            on_stopped_while_starting=lambda: log.info("stopped while starting"),
        )
        return life.run(signal)
