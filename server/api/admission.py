"""Admits calls, and counts unanswered calls and their bytes for the whole server, over all transports."""

import threading
import time
from collections import Counter
from collections.abc import Sequence

from ..errors import QueueFull, RequestError, Unavailable
from .call import Arrival, Call
from .status import CallStatus, status_of

STOPPING = "the server is stopping; send the request to another replica, or again in a moment"
"""The error of calls during a drain."""

# The method of HTTP requests without a known method.
_HTTP = "HTTP"


class FailureCounts:
    """Counts failed calls. Thread-safe."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, method: str, status: CallStatus) -> None:
        """Adds a call of a served method; other names are not counted, because clients could invent them."""
        self._add(method, status.code.name, status.reason)

    def add_http(self, code: str, reason: str) -> None:
        """Adds an HTTP request that did not become a call.

        Args:
            code: the status code's name, or the HTTP status if there is no such code.
            reason: the kind of failure, or empty.
        """
        self._add(_HTTP, code, reason)

    def _add(self, method: str, code: str, reason: str) -> None:
        with self._lock:
            self._counts[method, code, reason] += 1

    def read(self) -> dict[tuple[str, str, str], int]:
        """Returns the number of failed calls by method, status code and reason."""
        with self._lock:
            return dict(self._counts)


class Admission:
    """Counts calls and their bytes, and refuses new ones while draining. Thread-safe.

    Args:
        max_bytes: maximum unanswered request bytes in the whole server. A single request of any size is accepted
            if nothing else is in flight.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # With each call's counted bytes.
        self._open: dict[Call, int] = {}
        self._bytes = 0
        self.replies: Counter[str] = Counter()
        """Number of successful calls, by method."""
        self._is_draining = False
        # When a call was last refused because of a drain.
        self._refused_s = 0.0
        # A bare lock is cheaper to acquire than a condition.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    @property
    def unanswered(self) -> int:
        """Number of admitted, unanswered calls."""
        return len(self._open)

    @property
    def excess_bytes(self) -> int:
        """How far the bytes in flight exceed their maximum; negative: how much room is left."""
        return self._bytes - self._max_bytes

    @property
    def is_draining(self) -> bool:
        """Whether new calls are refused."""
        return self._is_draining

    def admit(self, call: Call, size_bytes: int) -> None:
        """Admits a call, and counts it until it is answered.

        Args:
            call: the transport's call.
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
            # With the lock held, because a drain may answer the call as soon as it is listed.
            self._open[call] = size_bytes

    def admit_all(self, arrivals: Sequence[Arrival]) -> list[tuple[Call, RequestError]]:
        """Admits calls in order, like `admit`; returns the refused ones with their errors."""
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
        """Counts more bytes of an admitted call, such as bytes outside its request.

        Does nothing if the call is already answered.

        Raises:
            QueueFull: too many bytes are unanswered.
        """
        with self._lock:
            own_bytes = self._open.get(call)
            if own_bytes is not None:
                self._take(size_bytes, self._bytes - own_bytes)
                self._open[call] = own_bytes + size_bytes

    def hold(self, size_bytes: int) -> None:
        """Counts bytes that a transport holds for no admitted call, such as an unsent answer."""
        with self._lock:
            self._bytes += size_bytes

    def hold_answer(self, call: Call, size_bytes: int) -> CallStatus | None:
        """Counts the bytes of a call's answer, until `release`.

        Returns:
            None, or the status to send instead, because too many bytes are unanswered; then nothing is counted.
        """
        try:
            with self._lock:
                self._take(size_bytes, self._bytes - self._open.get(call, 0))
        except QueueFull as error:
            return status_of(error)
        return None

    def hold_more(self, size_bytes: int, own_bytes: int) -> None:
        """Counts more bytes of an incomplete request.

        Args:
            size_bytes: number of new bytes.
            own_bytes: bytes already counted for it.

        Raises:
            QueueFull: too many bytes are unanswered.
        """
        with self._lock:
            self._take(size_bytes, self._bytes - own_bytes)

    def release(self, size_bytes: int) -> None:
        """Stops counting bytes that a transport held."""
        with self._lock:
            self._bytes -= size_bytes

    def _take(self, size_bytes: int, others_bytes: int) -> None:
        """Counts bytes; raises if there are too many and other calls hold some of them."""
        if others_bytes and self._bytes + size_bytes > self._max_bytes:
            raise QueueFull(
                f"{self._bytes:,} bytes of requests and answers are in flight, this one has {size_bytes:,}, and at "
                f"most {self._max_bytes:,} are accepted at once (--max-inflight-mib); retry later"
            )
        self._bytes += size_bytes

    def answered(self, call: Call, replied: bool = False) -> None:
        """A call's answer (a result if `replied`) reached its transport; ignored for calls that were not admitted."""
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
        """The results of calls of one method reached their transports."""
        with self._lock:
            for call in calls:
                self._bytes -= self._open.pop(call)
            self.replies[calls[0].method] += len(calls)
            if self._is_draining:
                self._changed.notify_all()

    def drain(self, grace_s: float) -> int:
        """Refuses new calls and waits for admitted ones; after `grace_s` seconds, fails the rest with UNAVAILABLE.

        Returns:
            Number of failed calls.
        """
        with self._changed:
            self._is_draining = True
            self._changed.wait_for(lambda: not self._open, grace_s)
            left = list(self._open)
        for call in left:
            call.fail(status_of(Unavailable(STOPPING)))
        return len(left)

    def linger(self, quiet_s: float, at_most_s: float) -> None:
        """Keeps refusing until no call has come for `quiet_s` seconds, but not longer than `at_most_s`.

        A transport that stops while a call arrives cancels or breaks it, while a running one still answers that the
        server is unavailable. This also gives the transport time to send its last answers.
        """
        start_s = time.monotonic()
        end_s = start_s + at_most_s
        while (now_s := time.monotonic()) < end_s:
            left_s = max(self._refused_s, start_s) + quiet_s - now_s
            if left_s <= 0:
                return
            time.sleep(min(left_s, end_s - now_s))
