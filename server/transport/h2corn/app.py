"""The ASGI application of the gRPC port: routes calls by path."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from ...api.codes import StatusCode
from ...api.handover import Answers, Arrivals
from ...api.status import CallStatus
from ...failures import FailureLog
from .. import Services
from .loop import PortLoop
from .patience import Patience
from .streams import StreamedCalls
from .unary import Receive, Send, UnaryCalls, end_with

_GRPC = b"application/grpc"
_NOT_GRPC = b"this is the gRPC port; the HTTP API has a port of its own (--http-port)\n"
_NOT_POST = b"gRPC calls are POST requests\n"
# Without it, h2corn sends no trailers, and so no status.
_NO_TRAILERS = CallStatus(StatusCode.INTERNAL, "the call lacks the header te: trailers, which gRPC prescribes")


class GrpcApp:
    """Handles every call of the gRPC port. Belongs to the loop on which it is created."""

    def __init__(
        self, services: Services, *, max_message_bytes: int, unread_answer_s: float, log_failure: FailureLog
    ) -> None:
        loop = asyncio.get_running_loop()
        answers = Answers(loop)
        behind_s = loop.behind_s if isinstance(loop, PortLoop) else lambda: 0.0
        self._arrivals = arrivals = Arrivals(loop, services.dispatcher, behind_s)
        # By the undecoded bytes of their paths: another spelling is another path.
        self._unary_methods = {name.encode(): name for name in services.dispatcher.methods}
        self._streamed_methods = {name.encode(): method for name, method in services.streamed.items()}
        patience = Patience(loop, unread_answer_s)
        self._unary = UnaryCalls(loop, services, answers, arrivals, patience, max_message_bytes)
        self._streams = StreamedCalls(services, answers, arrivals, patience, max_message_bytes)
        self._patience = patience
        self._log_failure = log_failure

    @property
    def reading(self) -> int:
        """Number of unary calls with incomplete requests. Streams end when the server tells them to."""
        return self._unary.reading

    @property
    def sending(self) -> int:
        """Number of unsent answers; small ones count until h2corn takes them."""
        return len(self._patience.sending)

    def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Returns the coroutine that handles a call."""
        if scope["type"] != "http":
            return _no_web_socket(send)
        headers = dict(scope["headers"])
        path = b"" if scope["query_string"] else scope["raw_path"]
        kind = headers.get(b"content-type", b"")
        if kind != _GRPC and not _is_grpc(kind):
            return _refuse(send, 415, _NOT_GRPC)
        if scope["method"] != "POST":
            return _refuse(send, 405, _NOT_POST)
        if "http.response.trailers" not in scope["extensions"]:
            return end_with(send, _NO_TRAILERS)
        name = self._unary_methods.get(path)
        if name is not None:
            # Called for all requests that came together, before any of them is carried.
            self._arrivals.expect()
            return self._unary.carry(name, scope, headers, receive, send)
        method = self._streamed_methods.get(path)
        if method is not None:
            return self._guarded(self._streams.carry(method, scope, headers, receive, send), send)
        message = f"this server has no method {scope['path'][:200]}"
        return end_with(send, CallStatus(StatusCode.UNIMPLEMENTED, message))

    async def _guarded(self, carrying: Coroutine[Any, Any, None], send: Send) -> None:
        try:
            await carrying
        except Exception as error:  # noqa: BLE001  an unexpected error must affect only its caller
            request_id = self._log_failure(error)
            message = f"internal error; the server's log has the details under {request_id}"
            # The caller left, or has part of an answer, which h2corn aborts.
            with suppress(OSError, RuntimeError):
                await end_with(send, CallStatus(StatusCode.INTERNAL, message))


def _is_grpc(kind: bytes) -> bool:
    """Returns whether a content type is gRPC's, in any spelling; gRPC-Web's is not."""
    media = kind.partition(b";")[0].strip().lower()
    return media == _GRPC or media.startswith(_GRPC + b"+")


async def _refuse(send: Send, status: int, sentence: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *([(b"allow", b"POST")] if status == 405 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence})


async def _no_web_socket(send: Send) -> None:
    await send({"type": "websocket.close"})
