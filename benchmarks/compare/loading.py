"""Measures a server's start and the load of a larger model: seconds, and memory held afterwards."""

import compileall
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip.inference_pb2_grpc import GRPCInferenceServiceStub

from . import networks, ours
from .bodies import MODEL, ROOT
from .errors import ServerError
from .figures import COMMITTED, EFFICIENTNET, MOBILENET, ONE_COMMITTED, OURS, Kind, Measurement, Round, Values
from .process import Server
from .repositories import copy_model
from .setup import Setup

NETWORKS: Mapping[str, Callable[[Path], None]] = {
    MOBILENET: networks.write_mobilenet_v2,
    EFFICIENTNET: networks.write_efficientnet_b0,
}
LOAD_TIMEOUT_S = 120.0
ONE_MODEL = ("--model-control-mode", "explicit", "--load-models", MODEL)
STARTS: Mapping[str, tuple[Sequence[str], Values]] = {
    ONE_COMMITTED: (ONE_MODEL, {"load_s": 0.5, "resident_mb": 110.0}),
    COMMITTED: ((), {"load_s": 1.0, "resident_mb": 170.0}),
}
"""The options of each measured start, and its limits."""
LOAD_LIMIT_S = 1.5
# A model's memory: its weights, original and rearranged for kernels, and a run of one picture.
_TIMES_FILE, _MORE_MB = 2.5, 60.0
_MB = 1e6


def rounds(setup: Setup, count: int, say: Callable[[str], None]) -> list[Round]:
    """Starts servers with the committed models, and loads each of NETWORKS into a fresh one, `count` times.

    Raises:
        ServerError: a server did not start, or refused a model.
    """
    found: list[Round] = []
    # As installed packages are; otherwise the first start compiles, and where Python writes no bytecode each does.
    for folder in ("pixelserve", "server"):
        compileall.compile_dir(ROOT / folder, quiet=2)
    with _repository() as place:
        for number in range(count):
            say(f"loading, {number + 1} of {count}")
            results: dict[Measurement, Values] = {}
            for name, (options, limits) in STARTS.items():
                results |= _measured(name, _start(setup, options), limits)
            for name in NETWORKS:
                of_network = {"load_s": LOAD_LIMIT_S, "grown_mb": grown_limit_mb(_file(place, name).stat().st_size)}
                results |= _measured(name, _load(setup, place, name), of_network)
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


def _start(setup: Setup, options: Sequence[str]) -> Values:
    start_s = time.perf_counter()
    with ours.serve(OURS, setup.cores, setup.transport, options=options) as server:
        return {"load_s": time.perf_counter() - start_s, "resident_mb": _resident_mb(server)}


def _load(setup: Setup, place: Path, name: str) -> Values:
    with ours.serve(OURS, setup.cores, setup.transport, repository=place, options=ONE_MODEL) as server:
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
