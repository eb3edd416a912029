"""The seam between transports and the API: a method's name, the request's bytes, and a call to answer."""

from collections.abc import Callable
from typing import Protocol

from .status import Status


class Call(Protocol):
    """One unary call, as its transport shows it. Exactly one of `reply` and `fail` is called, once, from any thread."""

    @property
    def deadline_s(self) -> float | None:
        """`time.monotonic()` by which the caller wants the answer; None: it did not say."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Has `callback` called, from any thread, when the caller leaves before it was answered."""

    def reply(self, message: bytes) -> None:
        """Answers OK with a serialized message. A caller that has left is no error."""

    def fail(self, status: Status) -> None:
        """Answers with a status other than OK. A caller that has left is no error."""


Handler = Callable[[bytes, Call], None]
"""Handles one method: takes the serialized request, and answers the call now or later.

It may raise a RequestError instead of answering; it must not block.
"""
