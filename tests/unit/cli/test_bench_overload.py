"""`pixelserve bench --overload`: raw HTTP/2, the two loops, and the evaluation of their measurements."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hpack
import pytest

from pixelserve.bench import http2
from pixelserve.bench.errors import BenchError
from pixelserve.bench.flood import Flood, Outcome, percentile
from pixelserve.bench.http2 import RESET, Connection, header_block, status_in
from pixelserve.bench.overload import Level, OverloadReport, recovered_s
from pixelserve.bench.probe import Probe

OK, DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 0, 1, 3, 4, 6, 7, 8


@pytest.mark.parametrize("huffman", [False, True])
@pytest.mark.parametrize("code", range(17))
def test_a_status_is_found_however_it_is_encoded(code: int, huffman: bool) -> None:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-message", "x" * 300)]
    block = encoder.encode([*fields, ("grpc-status", str(code)), ("a", "b")], huffman=huffman)
    assert status_in(block) == code
    assert status_in(encoder.encode(fields, huffman=huffman)) is None


@pytest.mark.parametrize("block", [b"\x10\x0bgrpc-status", b"\x10\x0bgrpc-status\x0217", b"\x00\xff", b"\x10"])
def test_a_block_that_cannot_be_read_is_an_error_that_shows_it(block: bytes) -> None:
    with pytest.raises(BenchError, match="headers cannot be read"):
        status_in(block)


def test_what_we_send_is_what_any_decoder_reads() -> None:
    fields = [(":path", "/a/b"), ("authorization", "Bearer " + "t" * 5000), ("grpc-timeout", "200m")]
    decoder = hpack.Decoder()
    decoder.max_header_list_size = 1 << 20
    for _ in range(2):
        assert decoder.decode(header_block(fields)) == fields


class Peer:
    """The other side of a connection, frame by frame."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self._data = b""
        assert self._read(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    def _read(self, size: int) -> bytes:
        while len(self._data) < size:
            received = self.socket.recv(1 << 16)
            assert received, "closed"
            self._data += received
        data, self._data = self._data[:size], self._data[size:]
        return data

    def frame(self) -> tuple[int, int, int, bytes]:
        head, flags, stream = struct.unpack(">IBI", self._read(9))
        return head & 0xFF, flags, stream, self._read(head >> 8)

    def request(self) -> tuple[int, bytes]:
        """Returns the next request's stream, and its message."""
        kind, _, stream, _ = self.frame()
        while kind != HEADERS:
            kind, _, stream, _ = self.frame()
        message, flags = b"", 0
        while not flags & 1:
            kind, flags, its, part = self.frame()
            assert (kind, its) == (DATA, stream)
            message += part
        return stream, message

    def answer(self, stream: int, code: int) -> None:
        block = header_block([("grpc-status", str(code))])
        self.socket.sendall(http2.frame(DATA, 0, stream, b"answer") + http2.frame(HEADERS, 5, stream, block))


@contextmanager
def connected(bodies: list[bytes], serve: Callable[[Peer], None]) -> Iterator[Connection]:
    """Connects to a peer that runs `serve` on a thread."""
    failures: list[BaseException] = []

    def run() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(20)
            try:
                serve(Peer(accepted))
            except Exception as error:  # noqa: BLE001  told below
                failures.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        connection = Connection("127.0.0.1", listener.getsockname()[1], "/a/b", bodies)
        try:
            yield connection
        finally:
            connection.close()
            thread.join(20)
    assert not failures


def test_requests_are_sent_in_turn_and_their_ends_are_reported() -> None:
    got: list[tuple[int, bytes]] = []

    def serve(peer: Peer) -> None:
        for code in (0, 8, 4):
            stream, message = peer.request()
            got.append((stream, message))
            peer.answer(stream, code)
        stream, _ = peer.request()
        peer.socket.sendall(http2.frame(RST, 0, stream, struct.pack(">I", 7)))

    large = bytes(20_000)
    with connected([b"one", large], serve) as connection:
        ended = answers(connection, 4)
    assert ended == [0, 8, 4, RESET]
    framed = [b"\0" + struct.pack(">I", len(body)) + body for body in (b"one", large, b"one")]
    assert got == [(1, framed[0]), (3, framed[1]), (5, framed[2])]


def answers(connection: Connection, count: int) -> list[int]:
    """Sends requests one after the other; returns their statuses."""
    found: list[int] = []
    connection.socket.setblocking(True)
    for number in range(count):
        connection.send(0.0)
        while connection.has_output:
            connection.write()
        while len(found) <= number:
            connection.read(lambda _, status: found.append(status))
    return found


def test_no_more_is_sent_than_the_peer_allows_and_what_waits_follows() -> None:
    def serve(peer: Peer) -> None:
        peer.socket.sendall(http2.frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 1)))
        peer.socket.sendall(http2.frame(PING, 0, 0, b"12345678"))
        first, _ = peer.request()
        peer.answer(first, 0)
        second, _ = peer.request()
        assert second == 3
        peer.answer(second, 0)

    with connected([b"x"], serve) as connection:
        connection.socket.setblocking(True)
        while connection._most_streams != 1:
            connection.write()
            connection.read(lambda *_: None)
        found: list[float] = []
        for due_s in (1.0, 2.0, 3.0):
            connection.send(due_s)
        assert connection.unanswered == 3
        assert connection.forget_waiting() == 2
        connection.send(4.0)
        while len(found) < 2:
            if connection.has_output:
                connection.write()
            connection.read(lambda due_s, _: found.append(due_s))
    assert found == [1.0, 4.0]


def test_a_peer_that_leaves_or_tells_us_to_is_an_error() -> None:
    with connected([b"x"], lambda peer: None) as connection:
        connection.socket.setblocking(True)
        connection.write()
        with pytest.raises(BenchError, match=r"closed|broke"):
            connection.read(lambda *_: None)

    def say_goodbye(peer: Peer) -> None:
        peer.socket.sendall(http2.frame(GOAWAY, 0, 0, bytes(8) + b"enough"))

    with connected([b"x"], say_goodbye) as connection:
        connection.socket.setblocking(True)
        connection.write()
        with pytest.raises(BenchError, match="enough"):
            connection.read(lambda *_: None)


def test_a_request_that_is_larger_than_a_calls_window_is_an_error() -> None:
    with connected([bytes(70_000)], lambda peer: None) as connection:
        connection.socket.setblocking(True)
        connection.write()
        connection._window = 1 << 20
        with pytest.raises(BenchError, match="70,005 bytes"):
            connection.send(0.0)


class Answering:
    """A connection whose server takes a while for each request, on a clock that waiting moves."""

    socket = None
    has_output = False

    def __init__(self, takes_s: float) -> None:
        self.now_s, self._takes_s, self._open = 0.0, takes_s, list[float]()
        self.sent_s: list[float] = []

    @property
    def unanswered(self) -> int:
        return len(self._open)

    def send(self, due_s: float) -> None:
        self._open.append(due_s)
        self.sent_s.append(due_s)

    def forget_waiting(self) -> int:
        return 0

    def turn(self, wait_s: float, ended: Callable[[float, int], None]) -> None:
        self.now_s += wait_s
        ready = [due_s for due_s in self._open if due_s + self._takes_s <= self.now_s]
        self._open = [due_s for due_s in self._open if due_s + self._takes_s > self.now_s]
        for due_s in ready:
            ended(due_s, OK)


def flood(takes_s: float) -> tuple[Flood, Answering]:
    server: Any = Answering(takes_s)
    made = Flood([server], lambda: server.now_s)
    made._turn = server.turn  # type: ignore[method-assign]
    return made, server


def test_the_open_loop_sends_at_its_rate_whatever_becomes_of_it() -> None:
    made, server = flood(takes_s=3.0)
    outcome = made.opened(100, 2.0)
    assert server.sent_s == pytest.approx([number / 100 for number in range(200)])
    assert (outcome.codes, outcome.unanswered) == ({OK: 200}, 0)
    # Latency counts from when a request was to start.
    assert 3.0 <= outcome.accepted_s(50) < 3.1


def test_the_open_loop_says_how_many_were_never_answered() -> None:
    made, _ = flood(takes_s=100.0)
    assert made.opened(100, 1.0).unanswered == 100


def test_the_closed_loop_keeps_as_many_in_flight_and_counts_what_ended_in_time() -> None:
    made, server = flood(takes_s=0.1)
    outcome = made.closed(4, 2.0)
    assert outcome.rate_per_s() == pytest.approx(40, rel=0.1)
    assert server.unanswered == 0


def test_goodput_is_what_was_answered_in_time() -> None:
    outcome = Outcome(2.0)
    for latency_s, status in ((0.1, 0), (0.2, 0), (0.3, 0), (0.001, 8), (0.004, 8), (0.2, 4)):
        outcome.add(status, latency_s)
    assert (outcome.rate_per_s(0.2), outcome.rate_per_s()) == (1.0, 1.5)
    assert (outcome.accepted_s(50), outcome.accepted_s(99), outcome.refused_s(50)) == (0.2, 0.3, 0.001)
    assert percentile([], 50) != percentile([], 50)


def test_a_client_has_recovered_once_its_median_is_within_twice_that_before() -> None:
    def probes(latencies_s: list[float]) -> list[Probe]:
        return [Probe(10.0 + number / 10, latency_s, 0) for number, latency_s in enumerate(latencies_s)]

    assert recovered_s(probes([0.5] * 4 + [0.002] * 20), [0.001] * 9, 10.0) == pytest.approx(0.4)
    assert recovered_s(probes([0.002] * 11), [0.001] * 9, 10.0) == 0.0
    # A single fast answer is not a recovery.
    assert recovered_s(probes([0.002] + [0.5] * 30), [0.001] * 9, 10.0) is None
    assert recovered_s(probes([0.002] * 30), [], 10.0) is None


def report(**changes: Any) -> OverloadReport:
    outcome = Outcome(1.0, {0: [0.1] * 90, 8: [0.002] * 10}, 3)
    level = Level(2, 103.0, outcome)
    fields = {"beside_s": [0.03, 0.05], "run_s": 0.02, "batch": 16, "recovered_s": 0.25, **changes}
    return OverloadReport("m", 0.2, 8, 100.0, level, [level], [0.01], beside_codes={"OK": 2}, **fields)


def test_the_report_has_everything_for_people_and_for_programs() -> None:
    found = report().as_json()
    assert json.loads(json.dumps(found)) == found
    assert found["levels"][1] == {
        "times_capacity": 2,
        "offered_per_s": 103.0,
        "goodput": 0.9,
        "accepted_ms": {"p50": 100.0, "p99": 100.0},
        "refused_ms": {"p50": 2.0, "p99": 2.0},
        "codes": {"OK": 90, "RESOURCE_EXHAUSTED": 10},
        "unanswered": 3,
    }
    assert found["polite"]["beside_512_ms"] == {"p50": 30.0, "p99": 50.0}
    assert (found["polite"]["run_ms"], found["recovered_ms"]) == (20.0, 250.0)
    text = "\n".join(report().lines())
    assert "beside 512 in flight: p50 30.0 ms, p99 50.0 ms, 1.5 and 2.5 runs of 16 images (20.0 ms)" in text
    assert "250 ms" in text
    assert "not within the measurement" in "\n".join(report(recovered_s=None).lines())


def test_what_there_is_none_of_is_null_and_a_dash() -> None:
    empty = report(beside_s=[], run_s=0.0)
    assert empty.as_json()["polite"]["beside_512_ms"] == {"p50": None, "p99": None}
    nothing = Level(1, 0.0, Outcome(1.0))
    text = "\n".join(OverloadReport("m", 0.2, 8, 1.0, nothing, [nothing], [], [], {}, 0.0, 0, None).lines())
    assert "–, –" in text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(["--deadline-ms", "100"], "need --overload", id="a deadline without it"),
        pytest.param(["--connections", "2"], "need --overload", id="connections without it"),
        pytest.param(["--overload", "--rate", "5"], "--overload sets its own load", id="a rate with it"),
        pytest.param(["--overload", "--assert-p99-ms", "5"], "--overload sets its own load", id="a limit with it"),
    ],
)
def test_options_that_do_not_go_together_are_refused(ask: Callable[..., Any], args: list[str], said: str) -> None:
    ran = ask("bench", "--model", "digits", *args)
    assert ran.code == 2
    assert said in " ".join(ran.err.replace("│", " ").split())
