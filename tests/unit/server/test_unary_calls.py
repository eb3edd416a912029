"""Reading unary calls from ASGI's events, in every permitted form."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pixelserve_server.api.admission import Admission
from pixelserve_server.transport.h2corn.app import GrpcApp

METHOD = "/inference.GRPCInferenceService/ModelInfer"
MESSAGE = b"a message"
BODY = b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE
LEFT = {"type": "http.disconnect"}


def body(data: bytes = b"", **fields: Any) -> dict[str, Any]:
    """Returns an event with a part of a request."""
    return {"type": "http.request", "body": data, **fields}


WHOLE = {
    "the end is an event without fields": [body(BODY, more_body=True), {"type": "http.request"}],
    "the end says that it is one": [body(BODY, more_body=True), body(more_body=False)],
    "all is one event": [body(BODY, more_body=False)],
    "all is one event that leaves out what is default": [body(BODY)],
}
IN_PARTS = {
    "the prefix comes first": [body(BODY[:5], more_body=True), body(BODY[5:])],
    "three parts": [body(BODY[:3], more_body=True), body(BODY[3:8], more_body=True), body(BODY[8:])],
    "an empty part": [body(BODY, more_body=True), body(more_body=True), body()],
}


SCOPE = {
    "type": "http",
    "method": "POST",
    "query_string": b"",
    "raw_path": METHOD.encode(),
    "headers": [(b"content-type", b"application/grpc")],
    "extensions": {"http.response.trailers": {}},
}


class Dispatcher:
    """Answers every call with its message; keeps the requests."""

    methods = (METHOD,)

    def __init__(self) -> None:
        self.checked = 0
        self.messages: list[bytes] = []
        self.groups: list[int] = []
        """Number of calls dispatched together."""

    def check_caller(self, method: str, metadata: Any) -> None:
        self.checked += 1

    def handle_all(self, arrivals: Any) -> None:
        self.groups.append(len(arrivals))
        for _, message, call in arrivals:
            self.messages.append(message)
            call.reply(message)


def carried(events: list[dict[str, Any]]) -> tuple[Dispatcher, list[dict[str, Any]]]:
    """Runs one call whose request arrives as `events`; returns its dispatcher and the events sent."""
    dispatcher, sent = Dispatcher(), []

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    async def carry() -> None:
        await app_of(dispatcher)(SCOPE, receive, send)

    asyncio.run(carry())
    return dispatcher, sent


def app_of(dispatcher: Dispatcher) -> GrpcApp:
    services: Any = SimpleNamespace(dispatcher=dispatcher, admission=Admission(1000), streamed={})
    return GrpcApp(services, max_message_bytes=1000, unread_answer_s=1, log_failure=lambda error: str(error))


def test_a_lone_call_is_dispatched_without_a_turn_of_the_loop_and_others_together() -> None:
    dispatcher = Dispatcher()

    async def receive() -> dict[str, Any]:
        return body(BODY)

    async def send(event: dict[str, Any]) -> None:
        pass

    async def carry() -> None:
        app = app_of(dispatcher)
        with pytest.raises(StopIteration):
            # It never waits: the answer is there when it asks.
            app(SCOPE, receive, send).send(None)
        await asyncio.gather(*[app(SCOPE, receive, send) for _ in range(3)])

    asyncio.run(carry())
    assert dispatcher.groups == [1, 3]


@pytest.mark.parametrize("name", WHOLE)
def test_a_request_that_comes_at_once_is_neither_counted_nor_checked_before_it_is_handled(name: str) -> None:
    dispatcher, sent = carried(list(WHOLE[name]))
    assert dispatcher.messages == [MESSAGE]
    assert sent[-1]["headers"] == [(b"grpc-status", b"0")]
    # Its room and its token are looked at when it is admitted; doing so twice cost 2 µs a call.
    assert not dispatcher.checked


@pytest.mark.parametrize("name", IN_PARTS)
def test_a_request_that_comes_in_parts_is_put_together(name: str) -> None:
    dispatcher, sent = carried(list(IN_PARTS[name]))
    assert dispatcher.messages == [MESSAGE]
    assert sent[-1]["headers"] == [(b"grpc-status", b"0")]
    assert dispatcher.checked == 1


@pytest.mark.parametrize("events", [[LEFT], [body(BODY, more_body=True), LEFT], [body(BODY[:7], more_body=True), LEFT]])
def test_a_caller_that_leaves_before_its_request_ends_is_not_handled(events: list[dict[str, Any]]) -> None:
    dispatcher, sent = carried(list(events))
    assert dispatcher.messages == sent == []
