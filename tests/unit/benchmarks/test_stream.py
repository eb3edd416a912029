"""Our load generator against grpcio's server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks.compare.bare import BareServicer
from benchmarks.compare.bodies import Images, Oracle, mnist_images, single_thread_session
from benchmarks.compare.connection import SAMPLE_EVERY
from benchmarks.compare.errors import LoadError
from benchmarks.compare.stream import StreamLoad
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc as pb_grpc

IN_FLIGHT = 8


class Recorder(BareServicer):
    """The bare server; it keeps its requests, and may corrupt its answers."""

    def __init__(self, spoil: Callable[[pb.ModelInferResponse, Any], None] = lambda *_: None) -> None:
        super().__init__(single_thread_session())
        self._spoil = spoil
        self.asked: list[tuple[str, bytes]] = []

    def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        self.asked.append((request.id, request.raw_input_contents[0]))
        response = super().ModelInfer(request, context)
        self._spoil(response, context)
        return response


@pytest.fixture(scope="module")
def images() -> Images:
    return mnist_images()[:50]


@pytest.fixture
def load_on(images: Images) -> Iterator[Callable[[Recorder], StreamLoad]]:
    """Starts a server with a servicer; returns the generator for it."""
    with ExitStack() as stack:

        def start(servicer: Recorder) -> StreamLoad:
            server = grpc.server(ThreadPoolExecutor(2))
            pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
            port = server.add_insecure_port("127.0.0.1:0")
            server.start()
            stack.callback(lambda: server.stop(None).wait())
            return StreamLoad(port, images, Oracle(), IN_FLIGHT)

        yield start


def test_every_distinct_request_has_an_id_and_pixels_of_its_own(load_on: Callable[[Recorder], StreamLoad]) -> None:
    recorder = Recorder()
    load = load_on(recorder)
    for _ in range(2):
        load.send(60, lambda _: None)
    assert len(recorder.asked) == 120
    ids, pixels = zip(*recorder.asked, strict=True)
    assert len(set(ids)) == len(set(pixels)) == len(recorder.asked)


@pytest.mark.slow
def test_a_fixed_body_is_the_same_every_time(load_on: Callable[[Recorder], StreamLoad]) -> None:
    recorder = Recorder()
    assert load_on(recorder).requests_per_s(distinct=False, seconds=0.5, warm_up_s=0) > 0
    assert len(set(recorder.asked)) == 1


@pytest.mark.slow
def test_more_requests_than_the_first_window_and_the_first_chunk_take(
    load_on: Callable[[Recorder], StreamLoad],
) -> None:
    recorder, told = Recorder(), list[int]()
    load_on(recorder).send(2 * SAMPLE_EVERY + 100, told.append)
    assert len(recorder.asked) == 2 * SAMPLE_EVERY + 100
    assert told == sorted(told)
    assert told


def test_every_request_has_its_times(load_on: Callable[[Recorder], StreamLoad]) -> None:
    recorder = Recorder()
    times = load_on(recorder).times(lambda: len(recorder.asked) < 60)
    assert times.shape == (len(recorder.asked), 2)
    assert len(times) >= 60
    assert (times[:, 1] >= times[:, 0]).all()
    assert (np.diff(times[:, 0]) >= 0).all()


def test_an_error_status_ends_the_measurement(load_on: Callable[[Recorder], StreamLoad]) -> None:
    def refuse(_: pb.ModelInferResponse, context: Any) -> None:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    with pytest.raises(LoadError, match="full"):
        load_on(Recorder(refuse)).send(60, lambda _: None)


def test_wrong_values_are_found(load_on: Callable[[Recorder], StreamLoad]) -> None:
    def spoil(response: pb.ModelInferResponse, _: Any) -> None:
        response.raw_output_contents[0] = np.full(10, 0.1, np.float32).tobytes()

    with pytest.raises(LoadError, match="wrong"):
        load_on(Recorder(spoil)).send(60, lambda _: None)


def test_another_id_is_found(load_on: Callable[[Recorder], StreamLoad]) -> None:
    def spoil(response: pb.ModelInferResponse, _: Any) -> None:
        response.id = "0" * 16

    with pytest.raises(LoadError, match="wrong"):
        load_on(Recorder(spoil)).send(60, lambda _: None)
