"""Runs the measurements: servers, rounds, memory and curve."""

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict

import grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc

from . import alone, bare, bodies, neighbour, ours, over_http, peer, tls
from .errors import ServerError
from .figures import (
    BARE,
    EARLY_REQUESTS,
    LEVELS,
    MANY_MODELS,
    ONE_MODEL,
    OURS,
    OURS_GRPCIO,
    OURS_TLS,
    OURS_TWO_CORES,
    SWEEPS,
    TRITON,
    Figure,
    Kind,
    Measurement,
    Values,
    order,
)
from .load import Load, Target, grpc_target, h2load, send
from .ours import Transport
from .process import Server
from .setup import Setup
from .stream import StreamLoad

CHECK_TIMEOUT_S = 20.0
SETTLE_S = 0.2
"""A run is counted after its requests are answered; that counting is part of a request's CPU time."""
CHECK_ID = "checked by a real client"
Say = Callable[[str], None]
"""Receives the name of the next measurement."""


@contextmanager
def servers(
    names: Collection[str], setup: Setup, triton: peer.Installation | None, models: int = 1
) -> Iterator[dict[str, Server]]:
    """Runs the servers with these names until the block ends; `models` is the number of "many" models."""
    cores, transport = setup.cores, setup.transport
    makers: dict[str, Callable[[], AbstractContextManager[Server]]] = {
        OURS: lambda: ours.serve(OURS, cores, transport),
        OURS_GRPCIO: lambda: ours.serve(OURS_GRPCIO, cores, Transport.GRPCIO),
        OURS_TLS: lambda: tls.serve(OURS_TLS, cores, transport),
        OURS_TWO_CORES: lambda: ours.serve(OURS_TWO_CORES, cores, transport, on_cores=2),
        BARE: lambda: bare.serve(BARE, cores),
        ONE_MODEL: lambda: ours.serve_copies(ONE_MODEL, cores, transport, 1),
        MANY_MODELS: lambda: ours.serve_copies(MANY_MODELS, cores, transport, models),
    }
    if triton is not None:
        makers[TRITON] = lambda: peer.serve(TRITON, cores, triton)
    with ExitStack() as stack:
        yield {name: stack.enter_context(make()) for name, make in makers.items() if name in names}


class Measurer:
    """Measures running servers, one after the other."""

    def __init__(self, setup: Setup, running: Mapping[str, Server]) -> None:
        """Loads the images, and the model for the expected answers."""
        self._setup, self._servers = setup, running
        self._images, self._oracle = bodies.mnist_images(), bodies.Oracle()

    def round(self, figures: Sequence[Figure], number: int, say: Say) -> dict[Measurement, Values]:
        """Runs the measurements of these figures once."""
        return {wanted: self._tell_and_measure(wanted, say) for wanted in order(figures, number)}

    def curve(self, say: Say) -> dict[str, list[Values]]:
        """Measures ours and, if running, Triton at each of LEVELS, SWEEPS times; returns the medians by server."""
        names = [name for name in (OURS, TRITON) if name in self._servers]
        wanted = [Measurement(Kind.H2LOAD, name, in_flight) for in_flight in LEVELS for name in names]
        sweeps = [{each: self._tell_and_measure(each, say) for each in wanted} for _ in range(SWEEPS)]
        return {
            name: [_medians([sweep[each] for sweep in sweeps], each) for each in wanted if each.server == name]
            for name in names
        }

    def memory(self, figure: Figure, say: Say) -> dict[Measurement, Values]:
        """Sends requests to our server, which must be fresh; returns its resident memory early and at the end."""
        server, goal = self._servers[OURS], figure.ours.requests
        generator = self._generator(figure.ours)
        found: dict[Measurement, Values] = {}
        for wanted, count in ((figure.against, EARLY_REQUESTS), (figure.ours, max(0, goal - EARLY_REQUESTS))):
            so_far = goal - count if wanted is figure.ours else 0

            def progress(answered: int, before: int = so_far) -> None:
                say(f"memory: {before + answered:,} of {goal:,} requests")

            progress(0)
            generator.send(count, progress)
            found[wanted] = {"resident_mib": server.resident_kib() / 1024}
        return found

    def send(self, wanted: Measurement, requests: int) -> None:
        """Sends `requests` requests with one body by h2load, and waits for the answers.

        Raises:
            LoadError: requests failed.
        """
        target, cores = self._target(wanted), self._setup.cores
        send(target, wanted.in_flight, connections=wanted.connections, requests=requests, cores=cores)

    def _tell_and_measure(self, wanted: Measurement, say: Say) -> Values:
        say(str(wanted))
        return self._measure(wanted)

    def _measure(self, wanted: Measurement) -> Values:
        setup = self._setup
        if wanted.kind == Kind.ALONE:
            return {"images_per_s": alone.images_per_s(setup.cores, setup.seconds, setup.warm_up_s)}
        self.check(wanted)
        if wanted.kind in (Kind.H2LOAD, Kind.HTTP):
            return _values(self._h2load(wanted), wanted.images)
        if wanted.kind == Kind.SPENT:
            return {"cpu_us": self._spent_us(wanted)}
        if wanted.kind == Kind.BESIDE:
            with neighbour.busy(setup.cores):
                return _values(self._h2load(wanted), wanted.images)
        rate = self._generator(wanted).requests_per_s(
            distinct=wanted.kind == Kind.DISTINCT,
            on_one_call=wanted.kind == Kind.ONE_CALL,
            seconds=setup.seconds,
            warm_up_s=setup.warm_up_s,
        )
        return {"requests_per_s": rate}

    def _h2load(self, wanted: Measurement) -> Load:
        setup, target = self._setup, self._target(wanted)
        return h2load(
            target,
            wanted.in_flight,
            connections=wanted.connections,
            seconds=setup.seconds,
            warm_up_s=setup.warm_up_s,
            cores=setup.cores,
        )

    def _spent_us(self, wanted: Measurement) -> float:
        """Returns the CPU time per request, in microseconds."""
        self.send(wanted, wanted.requests // 10)
        time.sleep(SETTLE_S)
        before_s = self._servers[wanted.server].cpu_s()
        self.send(wanted, wanted.requests)
        time.sleep(SETTLE_S)
        return (self._servers[wanted.server].cpu_s() - before_s) / wanted.requests * 1e6

    def _target(self, wanted: Measurement) -> Target:
        server, images = self._servers[wanted.server], self._images[: wanted.images]
        if wanted.kind == Kind.HTTP:
            return over_http.target(ours.http_port(server), images)
        message = bodies.grpc_message(bodies.infer_request(images).SerializeToString())
        return grpc_target(server.port, message, tls=server.ca is not None)

    def _generator(self, wanted: Measurement) -> StreamLoad:
        return StreamLoad(self._servers[wanted.server].port, self._images, self._oracle, wanted.in_flight)

    def check(self, wanted: Measurement) -> None:
        """Checks with a real client that the answers are correct, which h2load cannot see.

        Raises:
            ServerError: they are wrong.
        """
        server, images = self._servers[wanted.server], self._images[: wanted.images]
        if wanted.kind == Kind.HTTP:
            response = over_http.ask(ours.http_port(server), images, CHECK_ID)
        else:
            response = self._ask(server, images)
        if not self._oracle.is_right(response, images, CHECK_ID):
            raise ServerError(f"{server.name} gave a wrong answer to {wanted.images} images")

    def _ask(self, server: Server, images: bodies.Images) -> pb.ModelInferResponse:
        with _channel(server) as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                response: pb.ModelInferResponse = stub.ModelInfer(
                    bodies.infer_request(images, CHECK_ID), timeout=CHECK_TIMEOUT_S
                )
            except grpc.RpcError as error:
                raise ServerError(f"{server.name} refused a valid request: {error}") from error
        return response


def _channel(server: Server) -> grpc.Channel:
    if server.ca is None:
        return grpc.insecure_channel(server.address)
    return grpc.secure_channel(server.address, grpc.ssl_channel_credentials(server.ca.read_bytes()))


def _medians(found: Sequence[Values], wanted: Measurement) -> Values:
    medians = {name: statistics.median(values[name] for values in found) for name in found[0]}
    return {"in_flight": wanted.in_flight, **medians}


def _values(load: Load, images: int) -> Values:
    return {**asdict(load), "images_per_s": load.requests_per_s * images}
