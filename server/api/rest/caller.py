"""From the event loop to the dispatcher and back: a call that a coroutine waits for."""

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from ..call import Call
from ..dispatch import Dispatcher
from ..handover import Answers, Arrivals
from ..status import Status
from .status import HttpError, http_error

Scope = MutableMapping[str, Any]
"""What an ASGI server says of a request."""


def metadata(scope: Scope) -> Iterator[tuple[str, str | bytes]]:
    """Yields a request's headers, as `Call.metadata` says."""
    for name, value in scope["headers"]:
        yield name.decode("latin-1"), value.decode("latin-1")


class _HttpCall(Call):
    """One HTTP request's call. Whoever answers it may do so on any thread."""

    via = "http"
    deadline_s: float | None = None
    may_compute = False
    _callback: Callable[[], None] | None = None
    _has_left = False

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: Answers, scope: Scope) -> None:
        # Nothing is inherited, and what most calls never change is the class's: this is done for every call.
        self.answer: asyncio.Future[bytes | Status] = loop.create_future()
        self._answers = answers
        self._scope = scope
        self._claims = [None]

    @property
    def peer(self) -> str:
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    def metadata(self) -> Iterator[tuple[str, str | bytes]]:
        return metadata(self._scope)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        # The caller may have left before anybody wanted to know.
        if self._has_left:
            callback()

    def leave(self) -> None:
        self._has_left = True
        # It stays unanswered: whoever works on it will answer it, if only to be done with it. The callback is taken
        # first, since an answer may remove it at any moment.
        callback = self._callback
        if callback is not None:
            callback()

    def claim(self) -> bool:
        # The request knows its call: without this the two would wait for the garbage collector.
        self._callback = None
        try:
            # One operation of the interpreter, so it needs no lock.
            self._claims.pop()
        except IndexError:
            return False
        return True

    def send(self, message: bytes) -> None:
        self._answers.put(self, message)

    def post(self, message: bytes) -> None:
        self._answers.post(self, message)

    def flush(self) -> None:
        self._answers.flush()

    def send_status(self, status: Status) -> None:
        self._answers.put(self, status)

    def deliver(self, answer: bytes | Status) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Caller:
    """Calls the methods that gRPC's clients call. Belongs to the event loop's thread."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Stores what it is handed."""
        self._dispatcher = dispatcher
        # Of the loop, which is not there yet.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answers: Answers
        self._arrivals: Arrivals

    async def __call__(self, method: str, message: bytes, scope: Scope) -> bytes:
        """Has a method handle a serialized request and returns the serialized response.

        Cancelled where the caller leaves; what had not started will not be computed.

        Args:
            method: full name, such as `/inference.GRPCInferenceService/ModelInfer`.
            message: the serialized request.
            scope: the HTTP request.

        Raises:
            HttpError: the method is not served, or the answer is a status other than OK.
        """
        if not self._dispatcher.serves(method):
            name = method.rpartition("/")[2]
            raise HttpError(501, f"this server does not serve {name}; the extensions in GET /v2 say what it serves")
        loop = self._loop or self._begin()
        call = _HttpCall(loop, self._answers, scope)
        self._arrivals.add(method, message, call)
        try:
            answer = await call.answer
        except asyncio.CancelledError:
            call.leave()
            raise
        if isinstance(answer, Status):
            # Not kept in a variable, which would hold all of this until the garbage collector comes.
            raise http_error(answer, is_of_call=True)
        return answer

    def _begin(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.get_running_loop()
        self._answers = Answers(loop)
        self._arrivals = Arrivals(loop, self._dispatcher)
        return loop
