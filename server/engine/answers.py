"""The one way from the engine to its callers.

Promises: every request that is given to it is answered, whatever the caller or an observer raises; it raises nothing.
"""

from collections.abc import Sequence

from ..errors import InternalError, RequestError
from ..failures import FailureLog, guarded
from .request import ComputedBatch, Request
from .run import GuardedObserver


class Answers:
    """Answers requests. Any thread may use it."""

    def __init__(self, name: str, observer: GuardedObserver, log_failure: FailureLog) -> None:
        """Takes what error messages call the version, and who is told of requests that are dropped."""
        self._name = name
        self._observer = observer
        self._log_failure = log_failure

    def succeed(self, requests: Sequence[Request], batch: ComputedBatch) -> None:
        """Gives the requests of a run their rows of it."""
        try:
            requests[0].succeed_all(requests, batch, self._log_failure)
        except BaseException as error:  # noqa: BLE001  one caller must not strand the others
            request_id = self._log_failure(error)
            # Those that have their answer get no other.
            self.fail(
                requests,
                InternalError(
                    f"{self._name}: its answers cannot be sent; the server's log has the details under {request_id}"
                ),
            )
        if batch.listener is not None:
            guarded(batch.listener.on_answered, self._log_failure)()

    def fail(self, requests: Sequence[Request], error: RequestError) -> None:
        """Tells requests that there will be no result."""
        for request in requests:
            try:
                request.fail(error)
            except BaseException as failure:  # noqa: BLE001  a caller that cannot be told must not strand the others
                self._log_failure(failure)

    def drop(self, request: Request, error: RequestError, waited_ns: int) -> None:
        """Tells a request that it will not run, after it has waited for so long."""
        self.fail((request,), error)
        self._observer.on_dropped(error, waited_ns)
