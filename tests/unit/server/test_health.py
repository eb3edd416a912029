"""grpc.health.v1 behind a server of its own, where an application tells it what serves."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pixelserve_server.api.health import Health

STATUS = health_pb2.HealthCheckResponse
SERVICE = "inference.GRPCInferenceService"
TIMEOUT_S = 20


@dataclass
class Bench:
    """A health service and a client of it."""

    health: Health
    stub: Any

    def check(self, service: str) -> int:
        return self.stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S).status

    def watch(self, service: str = "") -> Any:
        return self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Serves health on a free loopback port."""
    health = Health()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        health.register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Bench(health, health_pb2_grpc.HealthStub(channel))
        server.stop(0).wait()
    health.close()


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


def test_a_watch_that_begins_after_the_end_is_told_once_and_ends(bench: Bench) -> None:
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
