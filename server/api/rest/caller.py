"""From the event loop to the dispatcher and back: a call that a coroutine waits for."""

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from ..dispatch import Dispatcher
from ..handover import Answers, Arrivals, LoopCall
from ..status import Status
from .status import HttpError, http_error

Scope = MutableMapping[str, Any]
"""What an ASGI server says of a request."""


def metadata(scope: Mapping[str, Any]) -> Iterator[tuple[str, str | bytes]]:
    """Yields a request's headers, as `Call.metadata` says."""
    for name, value in scope["headers"]:
        yield name.decode("latin-1"), value.decode("latin-1")


class _HttpCall(LoopCall):
    """One HTTP request's call."""

    via = "http"

    def metadata(self) -> Iterator[tuple[str, str | bytes]]:
        return metadata(self._scope)


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
