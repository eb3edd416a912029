"""The age of connections: they are replaced by new ones once in a while, which reach servers that came later.

A Kubernetes Service picks a server when a connection begins, and gRPC's clients keep theirs for as long as it lasts: a
new server would get no calls from clients that were there before it.
"""

import random
import threading
from collections.abc import Callable

from ..failures import FailureLog
from ..supervised import Supervisor

# As much as gRPC's own servers vary it. Servers that started together would else have all clients connect at once.
_JITTER = 0.1
# For so long HTTP/1.1 clients are asked to close their connections, before those that are idle are closed.
_ASKING_S = 5.0
# Of the age, if it is short.
_ASKING_SHARE = 0.5


class ConnectionAge:
    """Has connections replaced again and again, on a thread of its own."""

    def __init__(
        self,
        age_s: float,
        replace: Callable[[Callable[[], object]], object],
        log_failure: FailureLog,
        supervisor: Supervisor,
    ) -> None:
        """Starts nothing yet.

        Args:
            age_s: seconds from one replacement to the next, varied by a tenth: no connection becomes older.
            replace: replaces the connections; calls what it is given between asking and closing.
            log_failure: logs a replacement that failed; the next is tried all the same.
            supervisor: watches over the thread.
        """
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
        """Stops, and waits until a replacement that has begun is done, which it then is at once."""
        self._stop.set()
        self._thread.close()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s() - self._asking_s):
            try:
                self._replace(self._ask)
            except Exception as error:  # noqa: BLE001  connections become older, and nothing is lost
                self._log_failure(error)

    def _interval_s(self) -> float:
        return self._age_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  no secret depends on it

    def _ask(self) -> None:
        self._stop.wait(self._asking_s)
