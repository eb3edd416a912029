"""Which calls are taken at all, and which are still unanswered: the whole server's own count, whatever carries them."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

from ..errors import QueueFull, RequestError, Unavailable
from .call import Arrival, Call
from .status import Status, status_of

STOPPING = "the server is stopping; send the request to another replica, or again in a moment"
"""What is said to whoever comes during a drain."""

# What stands for a method where an HTTP request named none, or was not understood.
_HTTP = "HTTP"


class FailureCounts:
    """Counts the calls that failed, whoever's fault it was. May be called from any thread."""

    def __init__(self) -> None:
        """Starts at zero."""
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, method: str, status: Status) -> None:
        """Adds a call of a method that we serve, so that no client can invent names."""
        self._add(method, status.code.name, status.reason)

    def add_http(self, code: str, reason: str) -> None:
        """Adds an HTTP request that became no call.

        Args:
            code: the status code's name, or HTTP's number where there is no such code for it.
            reason: what went wrong; empty: the number says it.
        """
        self._add(_HTTP, code, reason)

    def _add(self, method: str, code: str, reason: str) -> None:
        with self._lock:
            self._counts[method, code, reason] += 1

    def read(self) -> dict[tuple[str, str, str], int]:
        """Returns how many calls failed, by method, status code and reason."""
        with self._lock:
            return dict(self._counts)


class Admission:
    """Counts calls and their bytes, and refuses new ones while draining. Every method may be called from any thread."""

    def __init__(self, max_bytes: int) -> None:
        """Starts out open.

        Args:
            max_bytes: most request bytes that may be unanswered at once, in the whole server. A single request is taken
                whatever its size when nothing else is there.
        """
        self._max_bytes = max_bytes
        # With the bytes that are counted of each.
        self._open: dict[Call, int] = {}
        self._bytes = 0
        self.replies: Counter[str] = Counter()
        """How many calls were answered with a result, by method."""
        self._is_draining = False
        # When a call was last refused because of draining.
        self._refused_s = 0.0
        # A bare lock is cheaper to take than a condition.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    @property
    def unanswered(self) -> int:
        """How many calls were taken and are not answered."""
        return len(self._open)

    @property
    def is_draining(self) -> bool:
        """Whether new calls are refused."""
        return self._is_draining

    def admit(self, call: Call, size_bytes: int) -> None:
        """Takes a call, and counts it until it is answered.

        Args:
            call: the transport's.
            size_bytes: size of its request.

        Raises:
            Unavailable: the server is draining.
            QueueFull: too many bytes are unanswered.
        """
        with self._lock:
            if self._is_draining:
                self._refused_s = time.monotonic()
                raise Unavailable(STOPPING)
            self._take(size_bytes, self._bytes)
            # With the lock held, since a drain may answer the call as soon as it is listed.
            self._open[call] = size_bytes

    def admit_all(self, arrivals: Sequence[Arrival]) -> list[tuple[Call, RequestError]]:
        """Takes calls in their order, each as `admit` would; returns those that are refused, and why."""
        total_bytes = 0
        for _, message, _ in arrivals:
            total_bytes += len(message)
        with self._lock:
            if not self._is_draining and self._bytes + total_bytes <= self._max_bytes:
                self._bytes += total_bytes
                for _, message, call in arrivals:
                    self._open[call] = len(message)
                return []
        refused: list[tuple[Call, RequestError]] = []
        for _, message, call in arrivals:
            try:
                self.admit(call, len(message))
            except RequestError as error:
                refused.append((call, error))
        return refused

    def add(self, call: Call, size_bytes: int) -> None:
        """Counts more bytes of a call that was taken, such as came by another way than its request.

        Once the call is answered, nothing is counted of it.

        Raises:
            QueueFull: too many bytes are unanswered.
        """
        with self._lock:
            own_bytes = self._open.get(call)
            if own_bytes is not None:
                self._take(size_bytes, self._bytes - own_bytes)
                self._open[call] = own_bytes + size_bytes

    def hold(self, size_bytes: int) -> None:
        """Counts bytes that a transport holds for no call that was taken, such as an answer that is not sent yet."""
        with self._lock:
            self._bytes += size_bytes

    def hold_answer(self, call: Call, size_bytes: int) -> None:
        """Counts the bytes of a call's answer, until `release`.

        Raises:
            QueueFull: too many bytes are unanswered.
        """
        with self._lock:
            self._take(size_bytes, self._bytes - self._open.get(call, 0))

    def hold_more(self, size_bytes: int, own_bytes: int) -> None:
        """Counts more bytes of a request that is not whole yet.

        Args:
            size_bytes: how many have come.
            own_bytes: how many are counted of it already.

        Raises:
            QueueFull: too many bytes are unanswered.
        """
        with self._lock:
            self._take(size_bytes, self._bytes - own_bytes)

    def release(self, size_bytes: int) -> None:
        """Counts bytes no more that a transport held."""
        with self._lock:
            self._bytes -= size_bytes

    def _take(self, size_bytes: int, others_bytes: int) -> None:
        """Counts bytes, or raises where there are too many besides those of other calls, of which there may be none."""
        if others_bytes and self._bytes + size_bytes > self._max_bytes:
            raise QueueFull(
                f"{self._bytes:,} bytes of requests and answers are in flight, this one has {size_bytes:,}, and at "
                f"most {self._max_bytes:,} are taken at once (--max-inflight-mib); retry later"
            )
        self._bytes += size_bytes

    def answered(self, call: Call, replied: bool = False) -> None:
        """Tells that a call's answer, a result if `replied`, is with its transport; ignores one not taken."""
        with self._lock:
            size_bytes = self._open.pop(call, None)
            if size_bytes is None:
                return
            self._bytes -= size_bytes
            if replied:
                self.replies[call.method] += 1
            if self._is_draining:
                self._changed.notify_all()

    def replied(self, calls: Sequence[Call]) -> None:
        """Tells that the results of calls of one method are with their transports."""
        with self._lock:
            for call in calls:
                self._bytes -= self._open.pop(call)
            self.replies[calls[0].method] += len(calls)
            if self._is_draining:
                self._changed.notify_all()

    def drain(self, grace_s: float) -> int:
        """Refuses new calls and waits for the taken ones; what is left after `grace_s` seconds is told UNAVAILABLE.

        Returns:
            How many were left.
        """
        with self._changed:
            self._is_draining = True
            self._changed.wait_for(lambda: not self._open, grace_s)
            left = list(self._open)
        for call in left:
            call.fail(status_of(Unavailable(STOPPING)))
        return len(left)

    def linger(self, quiet_s: float, at_most_s: float) -> None:
        """Goes on refusing until no call has come for `quiet_s` seconds, but no longer than `at_most_s`.

        A transport that is stopped while a call arrives ends it as cancelled or broken, where this server can still say
        that it is unavailable. It also gives the transport the time to send its last answers.
        """
        start_s = time.monotonic()
        end_s = start_s + at_most_s
        while (now_s := time.monotonic()) < end_s:
            left_s = max(self._refused_s, start_s) + quiet_s - now_s
            if left_s <= 0:
                return
            time.sleep(min(left_s, end_s - now_s))
