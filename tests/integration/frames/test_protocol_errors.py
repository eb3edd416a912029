"""h2spec's cases: a violation of HTTP/2 affects only the client's own stream or connection."""

from typing import Any

import pytest
from attacks import GOOD
from protocol_errors import CASES, CONNECTION, IGNORED, STREAM, Case
from raw_http2 import PREFACE, frame

pytestmark = pytest.mark.slow

WAIT_S = 20
PING = 6
FORGIVEN_BY_GRPCIO = {
    *(
        "4.1 undefined flags",
        "4.2 HEADERS above the largest frame",
        "6.1 DATA on no stream",
        "6.1 padding longer than DATA",
        "6.2 HEADERS on no stream",
    ),
    *("6.4 RST_STREAM on no stream", "6.6 PUSH_PROMISE from a client", "6.7 PING on a stream"),
    *("6.8 GOAWAY on a stream", "6.9.1 a window above 2 GiB", "6.9.1 a stream's window above 2 GiB"),
    *("5.1 DATA on an idle stream", "5.1 RST_STREAM on an idle stream", "5.1 WINDOW_UPDATE on an idle stream"),
    *("5.1 DATA after the end", "5.1 HEADERS after the end", "5.1 DATA after a reset", "5.1 HEADERS after a reset"),
    *("5.1 DATA on a closed stream", "5.1 HEADERS on a closed stream", "5.1.1 a stream of an even number"),
    *("5.1.1 a stream of a lower number", "8.2.2 a header of the connection", "8.3 a pseudo-header of an answer"),
    *("8.3 a pseudo-header behind the others", "8.3.1 :method twice", "8.3.1 :scheme twice", "8.3.1 :path twice"),
    *("8.1 a pseudo-header in trailers", "8.1.1 a content-length that lies", "H5.2 Huffman with an end of string"),
}
"""Its reaction to these is free (and it allows larger frames). The test is about other clients being unaffected."""


def _is_alive(connection: Any) -> bool:
    """Returns whether a ping is answered; False once the connection has ended."""
    before = connection.frames["PingFrame"]
    connection.send(frame(PING, 0, 0, b"are you?"))
    assert connection.wait(lambda: connection.has_ended or connection.frames["PingFrame"] > before, WAIT_S)
    return not connection.has_ended


def _how_it_ends(target: Any, case: Case) -> str:
    """Sends a case; returns what ended."""
    greets = not case.name.startswith("3.4")
    with target.connect(greets=greets) as connection:
        connection.send(case.sent if greets else PREFACE.replace(b"SM", b"MS"))
        if case.waits_for:
            connection.answer(case.waits_for)
            connection.send(case.then)
        if not _is_alive(connection):
            return CONNECTION
        # Python may refuse a stream after the server has answered the ping.
        is_refused = case.ends == STREAM and connection.wait(
            lambda: any(_is_refused(each) for each in connection.answers.values()), WAIT_S
        )
        return STREAM if is_refused else IGNORED


def _is_refused(answer: Any) -> bool:
    return answer.reset is not None or answer.status not in (None, 0) or answer.headers.get(":status", "200") != "200"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_rule_of_http2_costs_its_sender_only(target: Any, case: Case) -> None:
    """Timeline: 1. another client's call waits for its message; 2. a rule is broken; 3. the call is answered."""
    with target.connect() as other:
        waiting = other.call(GOOD, ends=False)
        if target.transport == "grpcio" and case.name in FORGIVEN_BY_GRPCIO:
            with target.connect() as connection:
                connection.send(case.sent, case.then)
                _is_alive(connection)
        else:
            # What may cost the stream may cost the connection.
            assert _how_it_ends(target, case) in {case.ends, CONNECTION if case.ends == STREAM else case.ends}
        other.finish(waiting)
        assert other.answer(waiting).status == 0
