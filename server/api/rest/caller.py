"""From the event loop to the dispatcher and back: a call that a coroutine waits for."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.types import Receive

from ..call import Call
from ..dispatch import Dispatcher
from ..status import Status
from .status import CallerLeft, HttpError, http_error


class _HttpCall(Call):
    """One HTTP request's call. Whoever answers it may do so on any thread."""

    via = "http"

    def __init__(self, loop: asyncio.AbstractEventLoop, headers: Mapping[str, str]) -> None:
        # A model that is computed on the loop's thread would hold up every other HTTP request.
        super().__init__(None, may_compute=False)
        self.answer: asyncio.Future[bytes | Status] = loop.create_future()
        self._loop = loop
        self._headers = headers
        self._unclaimed = threading.Lock()
        self._callback: Callable[[], None] | None = None
        self._has_left = False

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        return self._headers.items()

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
        return self._unclaimed.acquire(blocking=False)

    def send(self, message: bytes) -> None:
        self._deliver(message)

    def send_status(self, status: Status) -> None:
        self._deliver(status)

    def _deliver(self, answer: bytes | Status) -> None:
        # The request knows its call: without this the two would wait for the garbage collector.
        self._callback = None
        try:
            self._loop.call_soon_threadsafe(self._settle, answer)
        except RuntimeError:
            # The loop has ended, and with it whoever waited.
            return

    def _settle(self, answer: bytes | Status) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Caller:
    """Calls the methods that gRPC's clients call. Belongs to the event loop's thread."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Stores what it is handed."""
        self._dispatcher = dispatcher

    async def __call__(self, method: str, message: bytes, request: Request) -> bytes:
        """Has a method handle a serialized request and returns the serialized response.

        Args:
            method: full name, such as `/inference.GRPCInferenceService/ModelInfer`.
            message: the serialized request.
            request: the HTTP request, its body having been read.

        Raises:
            HttpError: the method is not served, or the answer is a status other than OK.
            CallerLeft: the connection was closed; what had not started will not be computed.
        """
        if not self._dispatcher.serves(method):
            name = method.rpartition("/")[2]
            raise HttpError(501, f"this server does not serve {name}; the extensions in GET /v2 say what it serves")
        call = _HttpCall(asyncio.get_running_loop(), request.headers)
        self._dispatcher.handle(method, message, call)
        answer = await _answer_of(call, request.receive)
        if isinstance(answer, Status):
            error = http_error(answer)
            error.is_of_call = True
            raise error
        return answer


async def _answer_of(call: _HttpCall, receive: Receive) -> bytes | Status:
    closed = asyncio.ensure_future(_closed(receive))
    try:
        waited_for: set[asyncio.Future[Any]] = {call.answer, closed}
        await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
    finally:
        closed.cancel()
        # Also where a server that stops cancels whoever waits here.
        if not call.answer.done():
            call.leave()
    if not call.answer.done():
        raise CallerLeft
    return call.answer.result()


async def _closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
