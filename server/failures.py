"""What must not raise, made unable to: the log of failures, and observers."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec

P = ParamSpec("P")


class FailureLog:
    """Logs what should not happen. May be called from any thread, and raises nothing, whatever the log does.

    It is called in the last `except` of threads that must live on, before the caller of what failed is answered.
    """

    def __init__(self, log: Any | None) -> None:
        """Takes the log: an object whose `error` takes an event and fields, as structlog's; None: there is none."""
        self._log = log

    def __call__(self, error: BaseException) -> str:
        """Logs an exception with its traceback; returns the id under which it did, for the caller of what failed."""
        request_id = uuid.uuid4().hex[:12]
        with suppress(Exception):
            if self._log is not None:
                self._log.error("unexpected failure", request_id=request_id, exc_info=error)
        return request_id


def guarded(function: Callable[P, object], log_failure: FailureLog) -> Callable[P, None]:
    """Returns a function that does the same and logs what it raises."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  logging it is the point of this function
            log_failure(error)

    return call
