"""Follows the number of CPU cores that this process may use.

A container's limit can change while it runs: Kubernetes resizes pods in place, and its CPU manager moves pods to other
cores. Two model threads on one core wait for each other; on more cores, a single one leaves the others idle.
"""

from collections.abc import Callable

from ..engine.cores import usable_cores
from ..supervised import PeriodicThread, Supervisor

# A change must be stable for one interval. A look reads a few small files, which takes less than 0.1 ms.
_INTERVAL_S = 1.0


class CoreWatcher:
    """Calls a function when the number of usable cores has changed, on its own thread.

    Args:
        apply: called with the earlier number and the new one; if it raises, again at the next look.
        supervisor: supervises the thread.
        cores: returns the number.
        interval_s: seconds between looks.
    """

    def __init__(
        self,
        apply: Callable[[int, int], object],
        supervisor: Supervisor,
        *,
        cores: Callable[[], int] = usable_cores,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._apply = apply
        self._cores = cores
        # What the models that are loaded next will use.
        self._applied = self._seen = cores()
        self._thread = PeriodicThread(supervisor, "cores", self.look, interval_s)

    def start(self) -> None:
        """Starts looking."""
        self._thread.start()

    def close(self) -> None:
        """Stops looking."""
        self._thread.close()

    def look(self) -> None:
        """Looks once; applies a change that is stable since the last look."""
        now = self._cores()
        if now != self._seen:
            self._seen = now
        elif now != self._applied:
            self._apply(self._applied, now)
            self._applied = now
