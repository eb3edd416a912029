"""Sends calls from the event loop to the dispatcher and awaits their answers."""

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from ..dispatch import Dispatcher
from ..handover import Answers, Arrivals, LoopCall
from ..status import CallStatus
from .status import HttpError, http_error

Scope = MutableMapping[str, Any]
"""ASGI's description of a request."""


def metadata(scope: Mapping[str, Any]) -> Iterator[tuple[str, str | bytes]]:
    """Yields a request's headers in the form of `Call.metadata`."""
    for name, value in scope["headers"]:
        yield name.decode("latin-1"), value.decode("latin-1")


class _HttpCall(LoopCall):
    """One HTTP request's call."""

    via = "http"

    def metadata(self) -> Iterator[tuple[str, str | bytes]]:
        return metadata(self._scope)


class HttpInvoker:
    """Calls gRPC methods. Belongs to the event loop's thread."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        # Belongs to the loop, which does not exist yet.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answers: Answers
        self._arrivals: Arrivals

    async def __call__(self, method: str, message: bytes, scope: Scope) -> bytes:
        """Calls a method with a serialized request and returns the serialized response.

        Cancelled if the caller leaves; queued work is then not computed.

        Args:
            method: full name, such as `/inference.GRPCInferenceService/ModelInfer`.
            message: the serialized request.
            scope: the HTTP request.

        Raises:
            HttpError: the method is not served, or the answer is a status other than OK.
        """
        if not self._dispatcher.serves(method):
            name = method.rpartition("/")[2]
            raise HttpError(501, f"this server does not serve {name}; see the extensions in GET /v2")
        loop = self._loop or self._begin()
        call = _HttpCall(loop, self._answers, scope)
        self._arrivals.add(method, message, call)
        try:
            answer = await call.answer
        except asyncio.CancelledError:
            call.leave()
            raise
        if isinstance(answer, CallStatus):
            # Not kept in a variable, which would keep all of this alive until garbage collection.
            raise http_error(answer, is_of_call=True)
        return answer

    def _begin(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.get_running_loop()
        self._answers = Answers(loop)
        self._arrivals = Arrivals(loop, self._dispatcher)
        return loop
