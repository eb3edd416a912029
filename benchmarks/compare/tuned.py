"""Measures a server tuned by `pixelserve autotune` against one with its defaults, in requests of 8 images."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np

from pixelserve.card import GOLDEN_FILE
from pixelserve.golden import read_golden
from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip.inference_pb2_grpc import GRPCInferenceServiceStub
from pixelserve.precisions import this_processor

from . import ours
from .bodies import ROOT, grpc_message, probabilities
from .cores import Cores
from .errors import ServerError
from .figures import CONNECTIONS, OURS, Figure, Kind, Measurement, Round, Values
from .load import grpc_target, h2load
from .process import Server
from .setup import Setup

IMAGES = 8
IN_FLIGHT = 32
FLOORS = {"mnist-cnn": 1.1, "mnist": 1.25, "fashion-mnist": 1.6, "cifar10": 1.6}
"""By model, for processors that compute bfloat16."""
TUNED, DEFAULT = f"{OURS}, tuned", f"{OURS} with its defaults"
_TUNE_TIMEOUT_S = 900.0
_TIMEOUT_S = 30.0


def figures() -> list[Figure]:
    """Returns the figures, with floors only on processors that compute bfloat16; elsewhere another engine may win."""
    has_floor = "bfloat16" in this_processor().precisions
    return [
        Figure(
            "tuned",
            f"images/s of {model} by {IMAGES} per request, tuned",
            "images_per_s",
            Measurement(Kind.TUNED, model, IN_FLIGHT, IMAGES, CONNECTIONS),
            Measurement(Kind.UNTUNED, model, IN_FLIGHT, IMAGES, CONNECTIONS),
            floor if has_floor else None,
            against_name="default engine",
        )
        for model, floor in FLOORS.items()
    ]


def rounds(setup: Setup, count: int, say: Callable[[str], None]) -> list[Round]:
    """Tunes every committed model on the server's core, then measures both servers `count` times in turn.

    Raises:
        ServerError: a model could not be tuned, or a server gave other labels than the golden samples.
        LoadError: requests failed.
    """
    found: list[Round] = []
    with _repository() as place:
        for model in FLOORS:
            say(f"tuning {model}")
            _tune(setup.cores, place, model)
        with ExitStack() as stack:
            servers = {
                kind: stack.enter_context(
                    ours.serve(name, setup.cores, setup.transport, repository=place, options=options)
                )
                for kind, name, options in ((Kind.TUNED, TUNED, ["--engine", "auto"]), (Kind.UNTUNED, DEFAULT, []))
            }
            for number in range(count):
                say(f"tuned, {number + 1} of {count}")
                results: dict[Measurement, Values] = {}
                for figure in figures():
                    for wanted in figure.in_turn(number):
                        results[wanted] = _measure(setup, servers[wanted.kind], wanted)
                found.append(results)
    return found


@contextmanager
def _repository() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        for model in FLOORS:
            shutil.copytree(ROOT / "models" / model, Path(place) / model, ignore=shutil.ignore_patterns("tuning.json"))
        yield Path(place)


def _tune(cores: Cores, place: Path, model: str) -> None:
    command = [*cores.pin_server(), sys.executable, "-m", "pixelserve", "autotune", model]
    done = _run([*command, "--model-repository", str(place), "--json"])
    if done.returncode:
        raise ServerError(f"{model} could not be tuned: {done.stderr.strip()}")


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=_TUNE_TIMEOUT_S, check=False)


def _measure(setup: Setup, server: Server, wanted: Measurement) -> Values:
    request, classes = _request(wanted.server)
    with grpc.insecure_channel(server.address) as channel:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=_TIMEOUT_S)
    if not (probabilities(answer).argmax(axis=1) == classes).all():
        raise ServerError(f"{server.name} gave other labels for {wanted.server} than its golden samples have")
    target = grpc_target(server.port, grpc_message(request.SerializeToString()))
    load = h2load(
        target,
        wanted.in_flight,
        connections=wanted.connections,
        seconds=setup.seconds,
        warm_up_s=setup.warm_up_s,
        cores=setup.cores,
    )
    return {"images_per_s": load.requests_per_s * wanted.images}


def _request(model: str) -> tuple[pb.ModelInferRequest, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """Returns a request of a model's first golden samples, and the class of each."""
    golden = read_golden(ROOT / "models" / model / "1" / GOLDEN_FILE)
    ((name, inputs),), (outputs,) = golden.inputs.items(), golden.outputs.values()
    images = np.ascontiguousarray(inputs[:IMAGES])
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[images.tobytes()])
    request.inputs.add(name=name, datatype="UINT8", shape=images.shape)
    return request, np.asarray(outputs[:IMAGES]).argmax(axis=1)
