"""Model repositories of the comparison's own: one model many times, and versions that are swapped while it serves."""

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
"""What the committed model's config.pbtxt says."""


@contextmanager
def repository(models: int = 1, max_batch_size: int = MAX_BATCH_SIZE) -> Iterator[Path]:
    """Gives a repository that holds the measured model under its own name and, for the rest of `models`, others."""
    with tempfile.TemporaryDirectory(prefix="pixelserve-bench-") as place:
        for number in range(models):
            copy_model(Path(place), f"{MODEL}-{number:03}" if number else MODEL, max_batch_size)
        yield Path(place)


def copy_model(place: Path, name: str, max_batch_size: int = MAX_BATCH_SIZE) -> None:
    """Copies the measured model into a repository, under another name and with another largest batch."""
    source = ROOT / "models" / MODEL
    shutil.copytree(source, place / name)
    config = (source / "config.pbtxt").read_text().replace(f'name: "{MODEL}"', f'name: "{name}"')
    changed = config.replace(f"max_batch_size: {MAX_BATCH_SIZE}", f"max_batch_size: {max_batch_size}")
    (place / name / "config.pbtxt").write_text(changed)


class Swapper:
    """Gives the measured model one version after another, in a server with --model-control-mode explicit."""

    def __init__(self, address: str, place: Path) -> None:
        """Takes a server's gRPC address, and its repository, which holds the model's version 1."""
        self._channel = grpc.insecure_channel(address)
        self._stub = GRPCInferenceServiceStub(self._channel)
        self._folder = place / MODEL
        self._request = infer_request(mnist_images()[:1])
        self.version = 1
        """The version that serves."""

    def __enter__(self) -> "Swapper":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def swap(self) -> tuple[float, float]:
        """Has the next version take the place of the one that serves, whose folder is removed.

        Returns:
            When it was asked for and when it was done, by `time.perf_counter()`.

        Raises:
            ServerError: the server refused, or answers with another version.
        """
        old, new = (self._folder / str(self.version + more) for more in (0, 1))
        # Links: the same bytes in files of another folder, which is what the server goes by.
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
