"""Follows the files of TLS while the server runs: what connects after a change gets the new certificates."""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from ..errors import CertificateError
from ..failures import FailureLog
from ..supervised import Supervisor
from .certificates import CertificateFiles, Certificates, read_certificates

# A change must have rested for one interval, so that it holds within half a second. Looking costs three system calls,
# and unlike the system's events it notices changes on every file system, and of links anywhere on the way.
_INTERVAL_S = 0.25
# How often a set that was refused is tried again although no file has changed: it may become valid.
_RETRY_LOOKS = 20


Renew = Callable[[Certificates], object]
"""Gives the next connections of a port other certificates; changes nothing where it raises, whatever that is."""


class Events(Protocol):
    """Is told what becomes of the certificates."""

    def on_taken(
        self, subject: str, expires: Mapping[str, datetime], warnings: Iterable[str], *, renewed: bool
    ) -> None:
        """Tells of a set that connections get from now on."""

    def on_refused(self, reason: str) -> None:
        """Tells of files that cannot be used; what was taken before stays."""


class CertificateRenewal:
    """Gives ports new certificates when the files have changed and rested; keeps those that work where they do not."""

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
        """Stores what it is handed; `start` starts its thread.

        Args:
            files: what it follows.
            certificates: what was read of them, and is in use.
            ports: what gives each port a new set.
            events: is told what becomes of changes.
            log_failure: logs whatever should not happen.
            supervisor: watches over the thread; None: only its failures are logged.
            interval_s: seconds between looks at the files.
        """
        self._files = files
        self._certificates = certificates
        # What each uses: where one does not take a set, another need not take it again.
        self._in_use = dict.fromkeys(ports, certificates)
        self._events = events
        self._log_failure = log_failure
        self._interval_s = interval_s
        # Nothing yet: what changed between the reading and the first look is noticed too.
        self._signature: tuple[object, ...] = ()
        self._looks_until_tried = 0
        self._refused_because: str | None = None
        self._stop = threading.Event()
        self._thread = (supervisor or Supervisor(log_failure)).thread("certificates", self._follow)

    def start(self) -> None:
        """Tells what is in use, and starts looking."""
        found = self._certificates
        self._events.on_taken(found.subject, found.expires, found.warnings, renewed=False)
        self._thread.start()

    def close(self) -> None:
        """Stops looking, and waits until a change that is being made is done."""
        self._stop.set()
        self._thread.close()

    def _follow(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  the next change must be noticed all the same
                self._log_failure(error)

    def look(self) -> None:
        """Looks at the files once; takes what has rested since the last look."""
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
        except Exception as error:  # noqa: BLE001  whatever a transport's library says
            self._refuse(f"a port does not take it: {error}")
        else:
            # Files that were written again as they were are no event, unless they had been something else.
            if found != self._certificates or self._refused_because is not None:
                self._events.on_taken(found.subject, found.expires, found.warnings, renewed=True)
            self._certificates, self._refused_because = found, None

    def _check_validity(self, found: Certificates) -> None:
        """Raises CertificateError where a set that is not valid would take the place of one that is."""
        now = datetime.now(UTC)
        if self._certificates.is_valid(now) and not found.is_valid(now):
            problem = f"is valid from {found.starts:%Y-%m-%d %H:%M} to {found.expires['server']:%Y-%m-%d %H:%M} UTC"
            raise CertificateError(f"--tls-cert {self._files.cert}: {problem}, which is not now; the one in use is")

    def _refuse(self, reason: str) -> None:
        if reason != self._refused_because:
            self._events.on_refused(reason)
        self._refused_because = reason
        self._looks_until_tried = _RETRY_LOOKS
