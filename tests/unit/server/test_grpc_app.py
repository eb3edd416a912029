"""The application of the gRPC port: a caller who has left causes no failure, whatever was wrong with the call."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.failures import FailureLog
from pixelserve_server.transport import Services
from pixelserve_server.transport.h2corn.app import GrpcApp

STREAM, UNARY = "/test.Service/Stream", "/test.Service/Unary"


def scope(path: str, *headers: tuple[bytes, bytes], trailers: bool = True) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/grpc"), *headers],
        "extensions": {"http.response.trailers": {}} if trailers else {},
        "client": ("127.0.0.1", 1),
    }


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(scope(STREAM, (b"grpc-timeout", b"5x")), id="a stream with a wrong time-out"),
        pytest.param(scope(UNARY, (b"grpc-timeout", b"5x")), id="a call with a wrong time-out"),
        pytest.param(scope("/test.Service/None"), id="an unknown method"),
        pytest.param(scope(UNARY, trailers=False), id="no te: trailers"),
    ],
)
def test_a_refused_caller_who_has_left_is_no_failure(call: dict[str, Any]) -> None:
    failures: list[str] = []
    log = FailureLog(SimpleNamespace(error=lambda event, **fields: failures.append(event)))

    async def send(event: dict[str, Any]) -> None:
        raise OSError("the stream is closed")

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def carry() -> None:
        admission = Admission(1 << 20)
        streamed: Any = {STREAM: None}
        services = Services(
            Dispatcher({UNARY: lambda message, call: None}, admission, CallGuard(log)), admission, streamed
        )
        app = GrpcApp(services, max_message_bytes=1 << 20, unread_answer_s=10, log_failure=log)
        await app(call, receive, send)

    asyncio.run(carry())
    assert not failures
