"""HTTP with unexpected failures, and with callers that leave at any moment."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve_server.access.authorizer import Authorizer
from pixelserve_server.api.admission import Admission, FailureCounts
from pixelserve_server.api.call import Call, Handler
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.rest.cross_site import AllowedHosts
from pixelserve_server.api.rest.routes import BodyLimits, Rest
from pixelserve_server.api.status import status_of
from pixelserve_server.errors import Cancelled

LIVE = "/inference.GRPCInferenceService/ServerLive"


class Server:
    """The HTTP API in front of one handler."""

    def __init__(self, handler: Handler, authorizer: Authorizer | None = None) -> None:
        self.logged: list[BaseException] = []
        self.admission = Admission(1000)
        self.failure_counts = FailureCounts()
        hosts = AllowedHosts("127.0.0.1", None)
        dispatcher = Dispatcher({LIVE: handler}, self.admission, CallGuard(self._log))
        limits = BodyLimits(1000, 1000, 1000, 1, 30)
        self.app = Rest(dispatcher, limits, hosts, "1.2", self._log, self.failure_counts, authorizer).app()

    def _log(self, error: BaseException) -> str:
        self.logged.append(error)
        return "some-id"

    def get(
        self, path: str = "/v2/health/live", leaves: Callable[[], Any] | None = None, query: bytes = b""
    ) -> tuple[int, bytes]:
        """Returns the status and the body of an answer, 0 for none; the caller leaves when `leaves` ends."""
        events: list[dict[str, Any]] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(event: Any) -> None:
            events.append(event)

        async def answered() -> None:
            request = asyncio.ensure_future(self.app(scope, receive, send))
            if leaves:
                await leaves()
                request.cancel()
            with suppress(asyncio.CancelledError):
                await request

        scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": query, "headers": []}
        asyncio.run(answered())
        if not events:
            return 0, b""
        return events[0]["status"], b"".join(event.get("body", b"") for event in events[1:])


def fails(_: bytes, __: Call) -> None:
    raise RuntimeError("a secret")


def babbles(_: bytes, call: Call) -> None:
    call.reply(b"\xff")


@pytest.mark.parametrize("handler", [fails, babbles])
def test_an_unexpected_failure_returns_only_an_id(handler: Handler) -> None:
    server = Server(handler)
    status, body = server.get()
    assert status == 500
    assert json.loads(body) == {"error": "internal error; the server's log has the details under some-id"}
    assert len(server.logged) == 1


def test_an_answer_from_the_handler_itself_is_an_answer() -> None:
    server = Server(lambda _, call: call.reply(pb.ServerLiveResponse(live=True).SerializeToString()))
    assert server.get() == (200, b'{"live":true}')
    assert server.admission.replies.total() == 1


def test_a_caller_who_leaves_is_cancelled_once_and_counted_until_it_is_answered() -> None:
    calls: list[Call] = []
    cancelled: list[Call] = []

    def waits(_: bytes, call: Call) -> None:
        calls.append(call)
        call.on_cancel(lambda: cancelled.append(call))

    async def leaves() -> None:
        while not calls:
            await asyncio.sleep(0)

    server = Server(waits)
    assert server.get(leaves=leaves) == (0, b"")
    (call,) = cancelled
    # The loop has ended, but the call may still be answered.
    call.fail(status_of(Cancelled("gone")))
    call.reply(b"")
    assert server.admission.replies.total() == 0
    assert server.admission.drain(0) == 0
    assert server.logged == []


def test_a_departure_callback_after_the_caller_has_left_is_called_at_once() -> None:
    calls: list[Call] = []
    heard: list[bool] = []

    async def leaves() -> None:
        while not calls:
            await asyncio.sleep(0)

    server = Server(lambda _, call: calls.append(call))
    assert server.get(leaves=leaves) == (0, b"")
    calls[0].on_cancel(lambda: heard.append(True))
    assert heard == [True]
    calls[0].fail(status_of(Cancelled("gone")))


def test_a_body_without_a_token_is_not_read() -> None:
    async def receive() -> Any:
        raise AssertionError

    async def send(event: Any) -> None:
        events.append(event)

    events: list[Any] = []
    server = Server(fails, Authorizer([]))
    for path in ("/v2/models/m/infer", "/v2/models/m/versions/1/infer", "/v2/repository/index"):
        scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "query_string": b"", "headers": []}
        asyncio.run(server.app(scope, receive, send))
        assert events[-2]["status"] == 401


def test_a_websocket_is_closed_at_once() -> None:
    async def send(event: Any) -> None:
        events.append(event)

    events: list[Any] = []
    asyncio.run(Server(fails).app({"type": "websocket", "path": "/v2", "headers": []}, None, send))
    assert events == [{"type": "websocket.close"}]


def test_an_inference_path_is_not_for_other_methods() -> None:
    status, body = Server(fails).get("/v2/models/m/versions/1/infer")
    assert status == 405
    assert "use POST" in json.loads(body)["error"]


def test_a_path_that_is_not_served_is_404_whatever_its_query() -> None:
    """The query is not UTF-8, which HTTP/2 permits."""
    server = Server(lambda message, call: None)
    status, body = server.get("/nowhere", query=b"a=\xf7\xff")
    assert (status, json.loads(body)["error"].split(";")[0]) == (404, "there is no /nowhere here")
    assert not server.logged
