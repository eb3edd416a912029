"""Follows the files of TLS while the server runs: new connections get changed certificates."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from ..errors import CertificateError
from ..failures import FailureLog
from ..supervised import PeriodicThread, Supervisor
from .certificates import CertificateFiles, Certificates, read_certificates

# A change must be stable for one interval, so it applies within half a second. A check costs three system calls and,
# unlike file events, notices changes on every file system and of links anywhere in the path.
_INTERVAL_S = 0.25
# How often a refused set is retried although no file changed: it may become valid.
_RETRY_LOOKS = 20


Renew = Callable[[Certificates], object]
"""Changes the certificates of a port's new connections; if it raises, nothing changed."""


class Events(Protocol):
    """Notified of changes of the certificates."""

    def on_taken(
        self, subject: str, expires: Mapping[str, datetime], warnings: Iterable[str], *, renewed: bool
    ) -> None:
        """New connections use a set from now on."""

    def on_refused(self, reason: str) -> None:
        """The files cannot be used; the previous set stays."""


class CertificateRenewal:
    """Gives ports new certificates after the files changed and are stable; keeps working ones if the new ones fail.

    Args:
        files: the files to follow.
        certificates: the set in use, read from them.
        ports: by port, a function that changes its certificates.
        events: notified of changes.
        log_failure: logs unexpected errors.
        supervisor: supervises the thread; None: only its failures are logged.
        interval_s: seconds between checks of the files.
    """

    def __init__(
        self,
        files: CertificateFiles,
        certificates: Certificates,
        ports: Iterable[Renew],
        events: Events,
        log_failure: FailureLog,
        supervisor: Supervisor | None = None,
        *,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._files = files
        self._certificates = certificates
        # The set of each port: if one port refuses a set, others need not take it again.
        self._in_use = dict.fromkeys(ports, certificates)
        self._events = events
        # None, so changes between the reading and the first check are noticed too.
        self._signature: tuple[object, ...] = ()
        self._looks_until_tried = 0
        self._refused_because: str | None = None
        self._thread = PeriodicThread(supervisor or Supervisor(log_failure), "certificates", self.look, interval_s)

    def start(self) -> None:
        """Reports the set in use, and starts checking."""
        found = self._certificates
        self._events.on_taken(found.subject, found.expires, found.warnings, renewed=False)
        self._thread.start()

    def close(self) -> None:
        """Stops checking, and waits for a running change."""
        self._thread.close()

    def look(self) -> None:
        """Checks the files once; applies a change that is stable since the last check."""
        signature = self._files.signature()
        if signature != self._signature:
            self._signature, self._looks_until_tried = signature, 1
        elif self._looks_until_tried:
            self._looks_until_tried -= 1
            if not self._looks_until_tried:
                self._take()

    def _take(self) -> None:
        try:
            found = read_certificates(self._files)
            self._check_validity(found)
            for renew, in_use in self._in_use.items():
                if found != in_use:
                    renew(found)
                    self._in_use[renew] = found
        except CertificateError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001  any error of a transport's library
            self._refuse(f"a port refused it: {error}")
        else:
            # Files rewritten with the same content are not reported, unless they differed in between.
            if found != self._certificates or self._refused_because is not None:
                self._events.on_taken(found.subject, found.expires, found.warnings, renewed=True)
            self._certificates, self._refused_because = found, None

    def _check_validity(self, found: Certificates) -> None:
        """Raises CertificateError if a set that is not valid now would replace a valid one."""
        now = datetime.now(UTC)
        if self._certificates.is_valid(now) and not found.is_valid(now):
            problem = f"is valid from {found.starts:%Y-%m-%d %H:%M} to {found.expires['server']:%Y-%m-%d %H:%M} UTC"
            raise CertificateError(f"--tls-cert {self._files.cert}: {problem}, which is not now; the one in use is")

    def _refuse(self, reason: str) -> None:
        if reason != self._refused_because:
            self._events.on_refused(reason)
        self._refused_because = reason
        self._looks_until_tried = _RETRY_LOOKS
