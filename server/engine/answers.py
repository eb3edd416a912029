"""Answers the engine's callers.

Promises: every request is answered, whatever the caller or an observer raises; nothing raises.
"""

from collections.abc import Sequence

from ..errors import InternalError, RequestError
from ..failures import FailureLog, guarded
from .request import ComputedBatch, Request
from .run import SafeObserver


class Answers:
    """Answers requests. Thread-safe."""

    def __init__(self, name: str, observer: SafeObserver, log_failure: FailureLog) -> None:
        """`name` is the version in error messages; `observer` is notified of dropped requests."""
        self._name = name
        self._observer = observer
        self._log_failure = log_failure

    def succeed(self, requests: Sequence[Request], batch: ComputedBatch) -> None:
        """Answers the requests of a run with their rows."""
        try:
            requests[0].succeed_all(requests, batch, self._log_failure)
        except BaseException as error:  # noqa: BLE001  one caller must not strand the others
            request_id = self._log_failure(error)
            # Requests that already have an answer ignore this.
            self.fail(
                requests,
                InternalError(
                    f"{self._name}: its answers cannot be sent; the server's log has the details under {request_id}"
                ),
            )
        if batch.listener is not None:
            guarded(batch.listener.on_answered, self._log_failure)()

    def fail(self, requests: Sequence[Request], error: RequestError) -> None:
        """Answers requests with an error."""
        for request in requests:
            try:
                request.fail(error)
            except BaseException as failure:  # noqa: BLE001  one failing caller must not strand the others
                self._log_failure(failure)

    def drop(self, request: Request, error: RequestError, waited_ns: int) -> None:
        """Answers a request that was dropped after `waited_ns`."""
        self.fail((request,), error)
        self._observer.on_dropped(error, waited_ns)
