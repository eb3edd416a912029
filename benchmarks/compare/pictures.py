"""Compares Classify's pictures per second with a bare loop that decodes and preprocesses the same files.

The loop, `python -m benchmarks.compare.pictures FOLDER NAME SECONDS WARM_UP_SECONDS`, has its own process on the
server's core, and calls the same code (pixelserve.imaging). The two take turns, so neither slows the other.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from onnx import TensorProto, helper, save
from PIL import Image

from pixelserve.imaging.declaration import Input, parse
from pixelserve.imaging.decode import decode_file
from pixelserve.imaging.prepare import prepare
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve.v1.classifier_pb2_grpc import ClassifierStub

from . import ours
from .bodies import ROOT, mnist_images
from .errors import LoadError
from .figures import DIGITS, JPEGS, OURS, PHOTOS, Kind, Measurement, Round, Values
from .measure import SETTLE_S, Say
from .photos import jpeg, photo, png
from .process import Server
from .setup import Setup

IN_FLIGHT = 8
_SIDE = 224
_MAX_PIXELS = 50_000_000
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Sort:
    """A kind of pictures, and its model."""

    model: str
    """The model's name."""
    line: str
    """The model's picture declaration."""
    dims: tuple[int, int, int]
    """The model's input, uint8 [height, width, channels]."""
    each: int
    """Pictures per request."""
    files: Callable[[], list[bytes]]
    """Makes the files."""


def _digits() -> list[bytes]:
    return [png(Image.fromarray(image[:, :, 0])) for image in mnist_images()[:512]]


def _jpegs() -> list[bytes]:
    return [jpeg(photo(_SIDE, _SIDE, seed)) for seed in range(128)]


def _photos() -> list[bytes]:
    return [jpeg(photo(4000, 3000, seed)) for seed in range(3)]


SORTS = {
    DIGITS: Sort("digits", "mnist", (28, 28, 1), 32, _digits),
    JPEGS: Sort("jpegs", "imagenet", (_SIDE, _SIDE, 3), 32, _jpegs),
    PHOTOS: Sort("photos", "imagenet", (_SIDE, _SIDE, 3), 1, _photos),
}


def rounds(setup: Setup, count: int, say: Say) -> list[Round]:
    """Measures each kind of pictures `count` times, with the server and with the loop.

    Raises:
        ServerError: the server did not start.
        LoadError: a picture was not classified, or the loop failed.
    """
    found: list[Round] = []
    with _place() as place, ours.serve(OURS, setup.cores, setup.transport, repository=place / "models") as server:
        for number in range(count):
            results: dict[Measurement, Values] = {}
            for name in SORTS:
                say(f"{name}, {number + 1} of {count}")
                for kind in (Kind.CLASSIFIED, Kind.PREPARED)[:: 1 if number % 2 else -1]:
                    values = _classified if kind == Kind.CLASSIFIED else _looped
                    results[Measurement(kind, name)] = values(setup, server, place, name)
            found.append(results)
    return found


@contextmanager
def _place() -> Iterator[Path]:
    """Yields a folder with the model repository and a folder per kind of pictures."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as folder:
        place = Path(folder)
        for name, sort in SORTS.items():
            _write_model(place / "models" / sort.model, sort)
            (place / name).mkdir()
            for number, data in enumerate(sort.files()):
                (place / name / f"{number:04}").write_bytes(data)
        yield place


def _write_model(folder: Path, sort: Sort) -> None:
    """Writes a model with negligible cost: other figures measure the model's time."""
    (folder / "1").mkdir(parents=True)
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["pixels", "from", "to", "axes"], ["corner"]),
            helper.make_node("Cast", ["corner"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["numbers", "shape"], ["scores"]),
        ],
        "corner",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", *sort.dims])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 4 * sort.dims[2]])],
        [
            helper.make_tensor(name, TensorProto.INT64, [2], values)
            for name, values in (("from", [0, 0]), ("to", [2, 2]), ("axes", [1, 2]), ("shape", [-1, 4 * sort.dims[2]]))
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "1/model.onnx")
    parameters = "".join(
        f' parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in (("picture", sort.line), ("output_kind", "scores"))
    )
    (folder / "config.pbtxt").write_text(f"max_batch_size: 64 dynamic_batching {{ }}{parameters}")


def _classified(setup: Setup, server: Server, place: Path, name: str) -> Values:
    """Keeps IN_FLIGHT requests in flight; returns pictures per second, and the server's CPU time per picture."""
    sort, files = SORTS[name], _read(place / name)
    count = max(1, len(files) // sort.each)
    requests = [
        pb.ClassifyRequest(
            model=sort.model,
            images=[pb.Image(encoded=files[(at * sort.each + more) % len(files)]) for more in range(sort.each)],
        )
        for at in range(count)
    ]
    with grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        load = _Load(lambda number: stub.Classify.future(requests[number % count], timeout=_TIMEOUT_S))
        load.run(setup.warm_up_s)
        before_s, start_s = server.cpu_s(), time.perf_counter()
        answered = load.run(setup.seconds) * sort.each
        elapsed_s = time.perf_counter() - start_s
        cpu_s = server.cpu_s() - before_s
        load.end()
    time.sleep(SETTLE_S)
    return {"images_per_s": answered / elapsed_s, "cpu_us": cpu_s / answered * 1e6}


class _Load:
    """Keeps a constant number of requests in flight."""

    def __init__(self, send: Callable[[int], "grpc.Future[pb.ClassifyResponse]"]) -> None:
        self._send, self._sent = send, 0
        self._waiting: deque[grpc.Future[pb.ClassifyResponse]] = deque()

    def run(self, seconds: float) -> int:
        """Sends for `seconds`; returns the number of answered requests.

        Raises:
            LoadError: a request or a picture failed.
        """
        answered, end_s = 0, time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            while len(self._waiting) < IN_FLIGHT:
                self._waiting.append(self._send(self._sent))
                self._sent += 1
            _check(self._waiting.popleft())
            answered += 1
        return answered

    def end(self) -> None:
        """Waits until every request is answered."""
        for future in self._waiting:
            future.result()


def _check(future: "grpc.Future[pb.ClassifyResponse]") -> None:
    try:
        results = future.result().results
    except grpc.RpcError as error:
        raise LoadError(f"a request of pictures failed: {error}") from error
    if failed := [result.error for result in results if not result.classes]:
        raise LoadError(f"a picture was not classified: {failed[0]}")


def _looped(setup: Setup, server: Server, place: Path, name: str) -> Values:
    """Runs the loop on the server's core while the server is idle."""
    command = [*setup.cores.pin_server(), sys.executable, "-m", "benchmarks.compare.pictures", str(place / name), name]
    command += [str(setup.seconds), str(setup.warm_up_s)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"the loop over {name} beside {server.name} failed:\n{done.stderr}")
    values: Values = json.loads(done.stdout)
    return values


def _read(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def _measure(files: list[bytes], sort: Sort, seconds: float) -> Values:
    spec = parse(sort.line, Input(sort.dims, "uint8"))
    done, start_s, before_s = 0, time.perf_counter(), time.process_time()
    while (elapsed_s := time.perf_counter() - start_s) < seconds:
        prepare(decode_file(files[done % len(files)], _MAX_PIXELS), spec)
        done += 1
    return {"images_per_s": done / elapsed_s, "cpu_us": (time.process_time() - before_s) / done * 1e6}


if __name__ == "__main__":
    folder, name, seconds, warm_up_s = sys.argv[1:]
    _measure(_read(Path(folder)), SORTS[name], float(warm_up_s))
    print(json.dumps(_measure(_read(Path(folder)), SORTS[name], float(seconds))))
