"""The ASGI application of the gRPC port: from a request's path to what carries its call."""

import asyncio
from typing import Any

import grpc

from ...api.status import Status
from ...failures import FailureLog
from .. import Services
from .handover import Answers, Arrivals
from .patience import Patience
from .streams import StreamedCalls
from .unary import Receive, Send, UnaryCalls, end_with

_NOT_GRPC = b"this is the gRPC port; the HTTP API has a port of its own (--http-port)\n"
_NOT_GRPC_HEADERS = [(b"content-type", b"text/plain; charset=utf-8")]


class GrpcApp:
    """Carries every call of the gRPC port. Belongs to the loop on which it is made."""

    def __init__(
        self, services: Services, *, max_message_bytes: int, unread_answer_s: float, log_failure: FailureLog
    ) -> None:
        loop = asyncio.get_running_loop()
        answers = Answers(loop)
        arrivals = Arrivals(loop, services.dispatcher)
        # By the bytes of their paths, which are not decoded: another spelling is another path.
        self._unary_methods = {name.encode(): name for name in services.dispatcher.methods}
        self._streamed_methods = {name.encode(): method for name, method in services.streamed.items()}
        patience = Patience(loop, unread_answer_s)
        self._unary = UnaryCalls(loop, services, answers, arrivals, patience, max_message_bytes)
        self._streams = StreamedCalls(services, answers, arrivals, patience, max_message_bytes)
        self._log_failure = log_failure

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Carries one call; raises nothing but CancelledError, when its caller has left."""
        try:
            await self._carry(scope, receive, send)
        except Exception as error:  # noqa: BLE001  an unexpected error must cost its caller only
            request_id = self._log_failure(error)
            message = f"internal error; the server's log has the details under {request_id}"
            try:
                await end_with(send, Status(grpc.StatusCode.INTERNAL, message))
            except (OSError, RuntimeError):
                # It has left, or has an answer in part, which the front breaks off.
                return

    async def _carry(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = b"" if scope["query_string"] else scope["raw_path"]
        if not _is_grpc(scope["headers"]):
            await send({"type": "http.response.start", "status": 415, "headers": _NOT_GRPC_HEADERS})
            await send({"type": "http.response.body", "body": _NOT_GRPC})
        elif (name := self._unary_methods.get(path)) is not None:
            await self._unary.carry(name, scope, receive, send)
        elif (method := self._streamed_methods.get(path)) is not None:
            await self._streams.carry(method, scope, receive, send)
        else:
            await end_with(
                send, Status(grpc.StatusCode.UNIMPLEMENTED, f"this server has no method {scope['path'][:200]}")
            )


def _is_grpc(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(key == b"content-type" and value.startswith(b"application/grpc") for key, value in headers)
