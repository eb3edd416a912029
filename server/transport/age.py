"""Limits the age of connections, so clients reconnect and reach newer servers.

A Kubernetes Service picks a server per connection, and gRPC clients keep connections as long as they last: a new server
would get no calls from existing clients.
"""

import random
import threading
from collections.abc import Callable

from ..failures import FailureLog
from ..supervised import Supervisor

# gRPC's own servers use the same jitter. Without it, clients of servers started together would reconnect at once.
_JITTER = 0.1
# How long HTTP/1.1 clients are asked to close their connections before idle ones are closed.
_ASKING_S = 5.0
# The share of a short age.
_ASKING_SHARE = 0.5


class ConnectionAge:
    """Replaces connections periodically, on its own thread.

    Args:
        age_s: seconds between replacements, varied by a tenth; no connection becomes older.
        replace: replaces the connections; calls its argument between asking and closing.
        log_failure: logs a failed replacement; the next one is tried anyway.
        supervisor: supervises the thread.
    """

    def __init__(
        self,
        age_s: float,
        replace: Callable[[Callable[[], object]], object],
        log_failure: FailureLog,
        supervisor: Supervisor,
    ) -> None:
        self._age_s = age_s
        self._asking_s = min(_ASKING_S, _ASKING_SHARE * age_s)
        self._replace = replace
        self._log_failure = log_failure
        self._stop = threading.Event()
        self._thread = supervisor.thread("connection age", self._run)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stops, and waits for a running replacement, which then ends at once."""
        self._stop.set()
        self._thread.close()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s() - self._asking_s):
            try:
                self._replace(self._ask)
            except Exception as error:  # noqa: BLE001  connections only become older
                self._log_failure(error)

    def _interval_s(self) -> float:
        return self._age_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  not a secret

    def _ask(self) -> None:
        self._stop.wait(self._asking_s)
