"""Our load generator on one ModelStreamInfer call, against grpcio's server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from benchmarks.compare.bare import BareServicer
from benchmarks.compare.bodies import Images, Oracle, mnist_images, single_thread_session
from benchmarks.compare.errors import LoadError
from benchmarks.compare.frames import DEFAULT_WINDOW
from benchmarks.compare.infer_stream import InferStreamConnection
from benchmarks.compare.stream import StreamLoad
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc as pb_grpc

IN_FLIGHT = 8
Spoil = Callable[[pb.ModelStreamInferResponse], None]


class Streamer(BareServicer):
    """The bare server with streams; it counts calls and requests, and may corrupt or end its answers."""

    def __init__(self, spoil: Spoil = lambda _: None, ends_after: int = 10**9) -> None:
        super().__init__(single_thread_session())
        self._spoil, self._ends_after = spoil, ends_after
        self.calls, self.bodies = 0, list[bytes]()

    def ModelStreamInfer(  # noqa: N802
        self, requests: Iterator[pb.ModelInferRequest], context: Any
    ) -> Iterator[pb.ModelStreamInferResponse]:
        self.calls += 1
        for _, request in zip(range(self._ends_after), requests, strict=False):
            self.bodies.append(request.SerializeToString())
            response = pb.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))
            self._spoil(response)
            yield response


@pytest.fixture(scope="module")
def images() -> Images:
    return mnist_images()[:5]


@pytest.fixture
def port_of() -> Iterator[Callable[[Streamer], int]]:
    """Starts a server with a servicer; returns its port."""
    with ExitStack() as stack:

        def start(servicer: Streamer) -> int:
            server = grpc.server(ThreadPoolExecutor(2))
            pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            stack.callback(lambda: server.stop(None).wait())
            return port

        yield start


def send(port: int, images: Images, requests: int) -> InferStreamConnection:
    """Sends a number of requests on one call, and waits for the answers."""
    with InferStreamConnection(port, images) as connection:
        connection.run(IN_FLIGHT, lambda answered: answered < requests, requests)
    return connection


def test_all_requests_go_on_one_call_and_each_is_answered(port_of: Callable[[Streamer], int], images: Images) -> None:
    streamer = Streamer()
    connection = send(port_of(streamer), images, 60)
    assert (streamer.calls, len(streamer.bodies), len(set(streamer.bodies))) == (1, 60, 1)
    assert (connection.sent, connection.answered) == (60, 60)


@pytest.mark.slow
def test_more_than_the_first_window_takes(port_of: Callable[[Streamer], int], images: Images) -> None:
    streamer = Streamer()
    count = 4 * DEFAULT_WINDOW // 784
    assert send(port_of(streamer), images, count).answered == count
    assert sum(map(len, streamer.bodies)) > 4 * DEFAULT_WINDOW


@pytest.mark.slow
def test_it_measures_a_rate(port_of: Callable[[Streamer], int], images: Images) -> None:
    streamer = Streamer()
    load = StreamLoad(port_of(streamer), images, Oracle(), IN_FLIGHT)
    assert load.requests_per_s(distinct=False, seconds=0.3, warm_up_s=0, on_one_call=True) > 0
    assert streamer.calls == 1


def test_an_error_in_the_message_ends_the_measurement(port_of: Callable[[Streamer], int], images: Images) -> None:
    def refuse(response: pb.ModelStreamInferResponse) -> None:
        response.ClearField("infer_response")
        response.error_message = "RESOURCE_EXHAUSTED: full"

    with pytest.raises(LoadError, match="full"):
        send(port_of(Streamer(refuse)), images, 60)


def test_a_stream_that_ends_early_ends_the_measurement(port_of: Callable[[Streamer], int], images: Images) -> None:
    with pytest.raises(LoadError, match="ended the stream"):
        send(port_of(Streamer(ends_after=20)), images, 60)


def test_wrong_values_are_found(port_of: Callable[[Streamer], int], images: Images) -> None:
    def spoil(response: pb.ModelStreamInferResponse) -> None:
        response.infer_response.raw_output_contents[0] = bytes(40)

    load = StreamLoad(port_of(Streamer(spoil)), images, Oracle(), IN_FLIGHT)
    with pytest.raises(LoadError, match="wrong"):
        load.requests_per_s(distinct=False, seconds=0.1, warm_up_s=0, on_one_call=True)
