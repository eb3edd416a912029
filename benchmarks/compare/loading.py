"""Measures a server's start and the load of a larger model: seconds, and memory held afterwards."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip.inference_pb2_grpc import GRPCInferenceServiceStub

from . import networks, ours
from .bodies import MODEL
from .errors import ServerError
from .figures import COMMITTED, EFFICIENTNET, MOBILENET, OURS, Kind, Measurement, Round, Values
from .process import Server
from .repositories import copy_model
from .setup import Setup

NETWORKS: Mapping[str, Callable[[Path], None]] = {
    MOBILENET: networks.write_mobilenet_v2,
    EFFICIENTNET: networks.write_efficientnet_b0,
}
LOAD_TIMEOUT_S = 120.0
START_LIMIT_S = 2.0
LOAD_LIMIT_S = 1.5
# A model's memory: its weights, original and rearranged for kernels, and a run of one picture.
_TIMES_FILE, _MORE_MB = 2.5, 60.0
_MB = 1e6


def rounds(setup: Setup, count: int, say: Callable[[str], None]) -> list[Round]:
    """Starts a server with the committed models, and loads each of NETWORKS into a fresh one, `count` times.

    Raises:
        ServerError: a server did not start, or refused a model.
    """
    found: list[Round] = []
    with _repository() as place:
        for number in range(count):
            say(f"loading, {number + 1} of {count}")
            results = _measured(COMMITTED, {"load_s": _start_s(setup)}, {"load_s": START_LIMIT_S})
            for name in NETWORKS:
                limits = {"load_s": LOAD_LIMIT_S, "grown_mb": grown_limit_mb(_file(place, name).stat().st_size)}
                results |= _measured(name, _load(setup, place, name), limits)
            found.append(results)
    return found


def grown_limit_mb(file_bytes: int) -> float:
    """Returns the megabytes by which a server may grow for a model file of this size."""
    return _TIMES_FILE * file_bytes / _MB + _MORE_MB


def _measured(name: str, values: Values, limits: Values) -> dict[Measurement, Values]:
    return {Measurement(Kind.LOADED, name): values, Measurement(Kind.LIMIT, name): limits}


@contextmanager
def _repository() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        copy_model(Path(place), MODEL)
        for name, write in NETWORKS.items():
            write(_file(Path(place), name))
        yield Path(place)


def _file(place: Path, name: str) -> Path:
    return place / name / "1" / "model.onnx"


def _start_s(setup: Setup) -> float:
    start_s = time.perf_counter()
    with ours.serve(OURS, setup.cores, setup.transport):
        return time.perf_counter() - start_s


def _load(setup: Setup, place: Path, name: str) -> Values:
    options = ["--model-control-mode", "explicit", "--load-models", MODEL]
    with ours.serve(OURS, setup.cores, setup.transport, repository=place, options=options) as server:
        before_mb = _resident_mb(server)
        load_s = _asked_to_load(server, name)
        return {"load_s": load_s, "grown_mb": _resident_mb(server) - before_mb}


def _asked_to_load(server: Server, name: str) -> float:
    start_s = time.perf_counter()
    with grpc.insecure_channel(server.address) as channel:
        try:
            request = pb.RepositoryModelLoadRequest(model_name=name)
            GRPCInferenceServiceStub(channel).RepositoryModelLoad(request, timeout=LOAD_TIMEOUT_S)
        except grpc.RpcError as error:
            raise ServerError(f"the server refused to load {name}: {error}") from error
    return time.perf_counter() - start_s


def _resident_mb(server: Server) -> float:
    return server.resident_kib() * 1024 / _MB
