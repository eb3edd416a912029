"""A server's drain: calls in flight are answered, connections get GOAWAY, and refusal comes last."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from busy_clients import Clients, http_client
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pixelserve.oip import inference_pb2 as pb

pytestmark = pytest.mark.slow

TIMEOUT_S = 60
METHOD = "/inference.GRPCInferenceService/ModelInfer"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def doubler(tmp_path: Path, model_writer: Callable[..., Path]) -> Path:
    model_writer(tmp_path / "models" / "doubler" / "1" / "model.onnx")
    return tmp_path / "models"


def test_a_stopping_server_answers_what_it_accepted_and_tells_watchers(
    tmp_path: Path, serve: Any, write_patient_model: Any, make_request: Any, eventually: Any
) -> None:
    """Timeline: 1. a call and a request of a stream wait for three seconds, another stream is idle, a watcher sees
    SERVING; 2. SIGTERM; 3. the watcher sees NOT_SERVING; 4. new calls get UNAVAILABLE; 5. both requests are answered;
    6. the streams end with UNAVAILABLE and the watch well; 7. exit code 0."""
    write_patient_model(tmp_path / "patient", rows=8, delay_s=3)
    served = serve(tmp_path)
    channel = served.channel()
    stub = served.stub()
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert next(watch).status == SERVING
    never = threading.Event()

    def held_open(*requests: pb.ModelInferRequest) -> Iterator[pb.ModelInferRequest]:
        yield from requests
        never.wait(TIMEOUT_S)

    accepted = stub.ModelInfer.future(make_request("patient", id="call"), timeout=TIMEOUT_S)
    streamed = stub.ModelStreamInfer(held_open(make_request("patient", id="stream")), timeout=TIMEOUT_S)
    idle = stub.ModelStreamInfer(held_open(make_request("none", id="idle")), timeout=TIMEOUT_S)
    assert next(idle).infer_response.id == "idle"
    eventually(lambda: served.pending("patient") == 2)
    served.process.process.send_signal(signal.SIGTERM)
    assert next(watch).status == NOT_SERVING

    def is_refused() -> bool:
        call = stub.ServerLive.future(pb.ServerLiveRequest(), timeout=TIMEOUT_S)
        return bool(call.code() is grpc.StatusCode.UNAVAILABLE)

    eventually(is_refused)
    assert not accepted.done()
    assert accepted.result().id == "call"
    assert next(streamed).infer_response.id == "stream"
    for stream in (streamed, idle):
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the server is stopping" in caught.value.details()
    assert list(watch) == []
    assert watch.code() is grpc.StatusCode.OK
    never.set()
    assert served.process.process.wait(TIMEOUT_S) == 0


def test_calls_that_outlast_the_grace_get_an_error(
    tmp_path: Path, serve: Any, write_patient_model: Any, make_request: Any, eventually: Any
) -> None:
    write_patient_model(tmp_path / "patient", rows=8)
    served = serve(tmp_path, "--grace-s", "0.2")
    waiting = served.stub().ModelInfer.future(make_request("patient"), timeout=TIMEOUT_S)
    eventually(lambda: served.pending("patient") == 1)
    assert served.process.stop() == 13
    error = waiting.exception(TIMEOUT_S)
    assert (error.code(), "the server is stopping" in error.details()) == (grpc.StatusCode.UNAVAILABLE, True)


def test_clients_that_always_have_calls_in_flight_are_answered_or_told_unavailable(
    serve: Any, doubler: Path, make_request: Any
) -> None:
    """Timeline: 1. 64 calls of a client that retries nothing are always in flight on one connection; 2. SIGTERM; 3.
    each worker continues until it gets UNAVAILABLE, and none gets anything else; 4. exit code 0."""
    served = serve(doubler)
    counts = asyncio.run(until_refused(served, make_request().SerializeToString()))
    assert counts.keys() == {"OK", "UNAVAILABLE"}, counts
    assert served.process.process.wait(TIMEOUT_S) == 0
    served.process.stop()
    (stopped,) = [event for event in served.process.events() if event["event"] == "stopped"]
    assert (stopped["answered"], stopped["unfinished"]) == (counts["OK"], 0)


async def until_refused(served: Any, message: bytes) -> Counter[str]:
    counts: Counter[str] = Counter()
    async with served.aio_channel(enable_retries=0) as channel:
        infer = channel.unary_unary(METHOD)

        async def work() -> None:
            code = grpc.StatusCode.OK
            while code is grpc.StatusCode.OK:
                call = infer(message, timeout=TIMEOUT_S)
                code = await call.code()
                counts[code.name] += 1
                if counts["OK"] == 500:
                    served.process.process.send_signal(signal.SIGTERM)

        await asyncio.gather(*(work() for _ in range(64)))
    return counts


def test_a_client_without_retries_loses_nothing_while_one_replica_replaces_another(
    serve: Any, forward: Any, doubler: Path, make_request: Any
) -> None:
    """Timeline: 1. eight workers of a client that retries nothing use one connection, through a forwarder;
    2. new connections go to another server, and the first gets SIGTERM; 3. it ends with 0; 4. the workers have had an
    answer for every call."""
    old, new = serve(doubler), serve(doubler)
    forwarder = forward(old.process.grpc)
    channel = old.channel(address=forwarder.address, enable_retries=0)
    message, has_ended, counts = make_request().SerializeToString(), threading.Event(), Counter[str]()
    enough = threading.Semaphore(0)

    def work() -> None:
        infer = channel.unary_unary(METHOD)
        while not has_ended.is_set():
            call = infer.future(message, timeout=TIMEOUT_S)
            counts[call.code().name] += 1
            enough.release()

    def wait_for(calls: int) -> None:
        for _ in range(calls):
            assert enough.acquire(timeout=TIMEOUT_S)

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(8)]
        wait_for(200)
        forwarder.targets = (new.process.grpc,)
        assert old.process.stop() == 0
        while enough.acquire(blocking=False):
            pass
        wait_for(200)
        has_ended.set()
        for worker in workers:
            worker.result(TIMEOUT_S)
    assert counts.keys() == {"OK"}, counts


@pytest.mark.parametrize("transport", ["h2corn"], indirect=True)
@pytest.mark.parametrize("security", ["plain", "tls"], indirect=True)
def test_http_clients_lose_nothing_while_one_replica_replaces_another(
    serve: Any, forward: Any, doubler: Path, eventually: Any
) -> None:
    """Timeline: 1. eight clients that retry nothing have connections to a server, through a forwarder; 2. new
    connections go to another, and the first gets SIGTERM; 3. its answers close their connections while it settles;
    4. every request was answered."""
    old, new = (serve(doubler, "--drain-settle-s", "2") for _ in range(2))
    first, second = (urlsplit(server.process.http).netloc for server in (old, new))
    service = forward(first)
    with Clients() as clients:
        for _ in range(8):
            clients.add(http_client(clients, old, service.address))
        eventually(lambda: clients.outcomes["HTTP 200"] > 200, timeout_s=TIMEOUT_S)
        service.targets = (second,)
        assert old.process.stop() == 0
        eventually(lambda: service.open_to(second) == 8, timeout_s=TIMEOUT_S)
    assert clients.outcomes.keys() == {"HTTP 200"}, clients.outcomes
