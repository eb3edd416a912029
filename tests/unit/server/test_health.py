"""grpc.health.v1 on its own server, with the serving state set by an application."""

import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.compare import frames
from pixelserve_server.api.admission import Admission
from pixelserve_server.api.dispatch import CallGuard, Dispatcher
from pixelserve_server.api.health import HEALTH_SERVICE, WATCH, Health
from pixelserve_server.deadline import Deadline
from pixelserve_server.failures import FailureLog
from pixelserve_server.supervised import Supervisor
from pixelserve_server.transport import Services
from pixelserve_server.transport.grpcio import GrpcioTransport

STATUS = health_pb2.HealthCheckResponse
SERVICE = "inference.GRPCInferenceService"
TIMEOUT_S = 20


@dataclass
class Bench:
    """A health service and a client of it."""

    health: Health
    stub: Any
    port: int
    """Where the service listens."""

    def check(self, service: str) -> int:
        return self.stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S).status

    def watch(self, service: str = "") -> Any:
        return self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)


MAX_WATCHES = 8


def fail(error: BaseException) -> str:
    raise AssertionError("something failed") from error


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Serves health on a free loopback port, with one thread for all other calls."""
    health, admission = Health(MAX_WATCHES), Admission(1 << 20)
    transport = GrpcioTransport(
        max_calls=1,
        max_streamed=MAX_WATCHES,
        max_message_bytes=1 << 20,
        max_streams=100,
        supervisor=Supervisor(FailureLog(None)),
    )
    port = int(transport.bind("127.0.0.1", 0).rpartition(":")[2])
    dispatcher = Dispatcher({}, admission, CallGuard(fail), probes=health.handlers())
    transport.start(Services(dispatcher, admission, {WATCH: health}))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Bench(health, health_pb2_grpc.HealthStub(channel), port)
    transport.stop(Deadline.after(0))


def test_until_told_otherwise_nothing_serves(bench: Bench) -> None:
    assert (bench.check(""), bench.check(SERVICE)) == (STATUS.NOT_SERVING, STATUS.NOT_SERVING)


@pytest.mark.parametrize("server", [True, False])
def test_models_serve_whether_or_not_the_server_as_a_whole_does(bench: Bench, server: bool) -> None:
    bench.health.report({"digits": True}, server=server)
    whole = STATUS.SERVING if server else STATUS.NOT_SERVING
    assert [bench.check(service) for service in ("digits", "", SERVICE)] == [STATUS.SERVING, whole, whole]


def test_not_serving_is_for_good(bench: Bench) -> None:
    bench.health.report({"digits": True}, server=True)
    bench.health.not_serving()
    bench.health.report({"digits": True}, server=True)
    assert [bench.check(service) for service in ("digits", "", SERVICE)] == [STATUS.NOT_SERVING] * 3


def test_a_watcher_sees_every_change_and_the_end(bench: Bench) -> None:
    watch = bench.watch()
    assert next(watch).status == STATUS.NOT_SERVING
    bench.health.report({}, server=True)
    assert next(watch).status == STATUS.SERVING
    bench.health.not_serving()
    bench.health.end_watches()
    assert [each.status for each in watch] == [STATUS.NOT_SERVING]
    assert watch.code() is grpc.StatusCode.OK


def test_watchers_hold_no_thread_of_the_server(bench: Bench) -> None:
    """The server has one thread; were it a watcher's, the check would never be answered."""
    watches = [bench.watch() for _ in range(5)]
    assert [next(watch).status for watch in watches] == [STATUS.NOT_SERVING] * 5
    assert bench.check("") == STATUS.NOT_SERVING


def test_a_watch_that_starts_after_the_end_gets_one_message_and_ends(bench: Bench) -> None:
    bench.health.end_watches()
    assert [each.status for each in bench.watch()] == [STATUS.NOT_SERVING]


def test_watchers_that_have_left_do_not_disturb_the_end(bench: Bench) -> None:
    gone, there = bench.watch(), bench.watch()
    assert (next(gone).status, next(there).status) == (STATUS.NOT_SERVING, STATUS.NOT_SERVING)
    gone.cancel()
    bench.health.end_watches()
    assert list(there) == []


def test_a_model_that_is_not_ready_is_known_and_not_serving(bench: Bench) -> None:
    bench.health.report({"digits": True, "broken": False}, server=False)
    assert (bench.check("digits"), bench.check("broken")) == (STATUS.SERVING, STATUS.NOT_SERVING)


def test_an_unknown_service_can_be_watched_until_it_is_known(bench: Bench) -> None:
    watch = bench.watch("digits")
    assert next(watch).status == STATUS.SERVICE_UNKNOWN
    bench.health.report_model("digits", serving=True)
    assert next(watch).status == STATUS.SERVING


def test_a_watcher_hears_nothing_of_other_services_and_nothing_twice(bench: Bench) -> None:
    watch = bench.watch("digits")
    assert next(watch).status == STATUS.SERVICE_UNKNOWN
    bench.health.report({"letters": True}, server=True)
    bench.health.report_model("digits", serving=False)
    assert next(watch).status == STATUS.NOT_SERVING
    bench.health.report_model("digits", serving=False)
    bench.health.end_watches()
    assert list(watch) == []


def is_taken(watch: Any) -> bool:
    try:
        return bool(next(watch))
    except grpc.RpcError:
        return False


def test_a_watch_beyond_the_limit_is_refused_until_another_ends(bench: Bench, eventually: Callable[..., None]) -> None:
    watches = [bench.watch() for _ in range(MAX_WATCHES)]
    assert [next(watch).status for watch in watches] == [STATUS.NOT_SERVING] * MAX_WATCHES
    with pytest.raises(grpc.RpcError) as refused:
        next(bench.watch())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "8 health watches are open" in refused.value.details()
    watches[0].cancel()
    # The server may not have heard at once that it has left.
    eventually(lambda: is_taken(bench.watch()))


def test_watchers_that_come_and_go_disturb_no_call(bench: Bench) -> None:
    """Timeline, several times: 1. watches are opened and have their first status; 2. all are cancelled while others
    still open. A sender that holds a lock which a leaving watcher needs would stop the server here."""

    def churn() -> None:
        for _ in range(100):
            watches = [bench.watch() for _ in range(2)]
            assert [next(watch).status for watch in watches] == [STATUS.NOT_SERVING] * 2
            for watch in watches:
                watch.cancel()
            bench.health.report_model("digits", serving=True)

    with ThreadPoolExecutor(2) as crowd:
        for each in [crowd.submit(churn) for _ in range(2)]:
            each.result(TIMEOUT_S)
    assert bench.check("digits") == STATUS.SERVING


def test_a_watcher_that_does_not_read_holds_up_no_other(bench: Bench) -> None:
    """Timeline: 1. watchers open that leave the server no room to send; 2. another one sees every change."""
    block = frames.header_block("localhost", f"/{HEALTH_SERVICE}/Watch")
    with socket.create_connection(("127.0.0.1", bench.port)) as deaf:
        deaf.sendall(
            frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0, struct.pack(">HI", frames.INITIAL_WINDOW_SIZE, 0))
        )
        for stream in (1, 3, 5):
            deaf.sendall(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block))
            deaf.sendall(frames.frame(frames.DATA, frames.END_STREAM, stream, bytes(5)))
        reader = frames.FrameReader()
        begun: set[int] = set()
        while len(begun) < 3:
            begun |= {each.stream for each in reader.feed(deaf.recv(65536)) if each.kind == frames.HEADERS}
        watch = bench.watch()
        assert next(watch).status == STATUS.NOT_SERVING
        bench.health.report({}, server=True)
        assert next(watch).status == STATUS.SERVING
