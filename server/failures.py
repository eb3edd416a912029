"""Code that must not raise: the failure log, and guards around observers."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec

P = ParamSpec("P")


class FailureLog:
    """Logs unexpected errors. Thread-safe; raises nothing, whatever the log does.

    Called in the last `except` of threads that must continue, before the failed call is answered.
    """

    def __init__(self, log: Any | None) -> None:
        """`log` has structlog's `error(event, **fields)`; None: nothing is logged."""
        self._log = log

    def __call__(self, error: BaseException) -> str:
        """Logs an exception with its traceback; returns the id of the log entry, for the answer."""
        request_id = uuid.uuid4().hex[:12]
        with suppress(Exception):
            if self._log is not None:
                self._log.error("unexpected failure", request_id=request_id, exc_info=error)
        return request_id


def guarded(function: Callable[P, object], log_failure: FailureLog) -> Callable[P, None]:
    """Wraps a function to log its exceptions instead of raising them."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  logging it is the point of this function
            log_failure(error)

    return call
