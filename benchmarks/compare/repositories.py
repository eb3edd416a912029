"""Model repositories for the comparison: copies of one model, and versions swapped while serving."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip.inference_pb2_grpc import GRPCInferenceServiceStub

from .bodies import MODEL, ROOT, infer_request, mnist_images
from .errors import ServerError

SWAP_TIMEOUT_S = 60.0
MAX_BATCH_SIZE = 64
"""The committed model's config.pbtxt."""


@contextmanager
def repository(models: int = 1, max_batch_size: int = MAX_BATCH_SIZE) -> Iterator[Path]:
    """Yields a repository with `models` copies of the measured model, one under its own name."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        for number in range(models):
            copy_model(Path(place), f"{MODEL}-{number:03}" if number else MODEL, max_batch_size)
        yield Path(place)


def copy_model(place: Path, name: str, max_batch_size: int = MAX_BATCH_SIZE) -> None:
    """Copies the measured model into a repository, under a new name and with a new max_batch_size."""
    source = ROOT / "models" / MODEL
    shutil.copytree(source, place / name)
    config = (source / "config.pbtxt").read_text().replace(f'name: "{MODEL}"', f'name: "{name}"')
    changed = config.replace(f"max_batch_size: {MAX_BATCH_SIZE}", f"max_batch_size: {max_batch_size}")
    (place / name / "config.pbtxt").write_text(changed)


class Swapper:
    """Swaps versions of the measured model, in a server with --model-control-mode explicit."""

    def __init__(self, address: str, place: Path) -> None:
        """`address` is the server's gRPC address, `place` its repository with the model's version 1."""
        self._channel = grpc.insecure_channel(address)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._folder = place / MODEL
        self._request = infer_request(mnist_images()[:1])
        self.version = 1
        """The current version."""

    def __enter__(self) -> "Swapper":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def swap(self) -> tuple[float, float]:
        """Replaces the current version with the next one, and removes its folder.

        Returns:
            Start and end times, by `time.perf_counter()`.

        Raises:
            ServerError: the server refused, or answers with a different version.
        """
        old, new = (self._folder / str(self.version + more) for more in (0, 1))
        # Links: the same bytes in files of a new folder, which the server treats as a new version.
        shutil.copytree(old, self._folder / ".next", copy_function=os.link)
        (self._folder / ".next").rename(new)
        asked_s = time.perf_counter()
        try:
            self._stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=MODEL), timeout=SWAP_TIMEOUT_S)
            done_s = time.perf_counter()
            answered_by = self._stub.ModelInfer(self._request, timeout=SWAP_TIMEOUT_S).model_version
        except grpc.RpcError as error:
            raise ServerError(f"the server refused to swap {MODEL}: {error}") from error
        self.version += 1
        if answered_by != str(self.version):
            raise ServerError(f"after a swap to version {self.version} version {answered_by} answers")
        shutil.rmtree(old)
        return asked_s, done_s
