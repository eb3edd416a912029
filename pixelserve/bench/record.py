"""Records the requests of a measurement."""

import threading
from collections import Counter

from .latency import Latencies

OK = "OK"


class Record:
    """Collects results. Thread-safe. Requests with an intended start before `from_s` are warm-up and ignored."""

    def __init__(self, from_s: float) -> None:
        """`from_s` is a time of the timeline's clock."""
        self.from_s = from_s
        self.last_s = from_s
        self.answered = Latencies()
        self.late = Latencies()
        self.by_status: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, status: str, intended_s: float, sent_s: float, done_s: float) -> None:
        """Counts a request that ended.

        Args:
            status: name of its gRPC status.
            intended_s: its intended start. Latency counts from here: a delay of the generator or the connection
                is time that a user would have waited.
            sent_s: its actual start.
            done_s: when it ended.
        """
        if intended_s < self.from_s:
            return
        with self._lock:
            self.by_status[status] += 1
            self.last_s = max(self.last_s, done_s)
            self.late.add(sent_s - intended_s)
            if status == OK:
                self.answered.add(done_s - intended_s)

    @property
    def total(self) -> int:
        """Number of ended requests."""
        return self.by_status.total()

    @property
    def errors(self) -> dict[str, int]:
        """Number of requests by status other than OK, the most frequent first."""
        return {status: count for status, count in self.by_status.most_common() if status != OK}

    def percentile_with_failures_s(self, percent: float) -> float:
        """Returns a percentile in seconds over all requests; failed ones count as longest."""
        return self.answered.percentile_s(percent, of=self.total)
