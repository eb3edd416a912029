"""A server in poll mode serves pulled models without losing requests."""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from pixelserve.card import Card, sha256_of
from pixelserve.oip import inference_pb2 as pb
from pixelserve.pull.mirror import Wanted, mirror

TIMEOUT_S = 30

pytestmark = pytest.mark.slow


@pytest.fixture
def polling_server(start_server: Callable[..., Any], doubler_repository: Path) -> Any:
    """Serves version 1 of the doubler. It polls every hour, so changes are seen through file events."""
    return start_server(doubler_repository, "--model-control-mode", "poll", "--repository-poll-s", "3600")


@pytest.fixture
def source(tmp_path: Path, model_writer: Callable[..., Path]) -> Callable[[int, int], str]:
    """Writes the doubler at its source: one version, with the configuration and labels of its width."""
    folder = tmp_path / "source" / "doubler"

    def write(version: int, width: int) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        model = model_writer(folder / str(version) / "model.onnx", width=width)
        card = Card(name="doubler", task="tabular", sha256=sha256_of(model), created="2026-01-02T03:04:05Z")
        card.write(model.with_name("card.json"))
        tensor = f"data_type: TYPE_FP32 dims: [ {width} ]"
        (folder / "config.pbtxt").write_text(
            f'max_batch_size: 8 input {{ name: "values" {tensor} }} '
            f'output {{ name: "doubled" {tensor} label_filename: "labels.txt" }} dynamic_batching {{ }}'
        )
        (folder / "labels.txt").write_text("".join(f"class {number}\n" for number in range(width)))
        return str(folder)

    return write


def ready_versions(server: Any) -> list[str]:
    models = server.stub().RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=TIMEOUT_S).models
    return [model.version for model in models]


@contextmanager
def asked_without_a_pause(server: Any, request: pb.ModelInferRequest) -> Iterator[Counter[str]]:
    """Sends a request again and again during the block; gives how many answers there were, by version or error."""
    stub, over, counts = server.stub(), threading.Event(), Counter[str]()

    def ask() -> None:
        while not over.is_set():
            try:
                counts[stub.ModelInfer(request, timeout=TIMEOUT_S).model_version] += 1
            except grpc.RpcError as error:
                counts[str(error)] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield counts
    finally:
        over.set()
        asking.join(TIMEOUT_S)


def test_a_pulled_version_takes_over_without_a_lost_request(
    polling_server: Any,
    doubler_repository: Path,
    source: Callable[[int, int], str],
    make_request: Callable[..., pb.ModelInferRequest],
    eventually: Callable[..., None],
) -> None:
    with asked_without_a_pause(polling_server, make_request()) as counts:
        eventually(lambda: counts["1"] > 0, timeout_s=TIMEOUT_S)
        mirror(Wanted(source(2, 4), doubler_repository))
        eventually(lambda: counts["2"] > 0, timeout_s=TIMEOUT_S)
    assert set(counts) == {"1", "2"}, counts
    assert polling_server.stop() == 0


def test_versions_that_need_another_configuration_and_labels_come_with_them(
    polling_server: Any,
    doubler_repository: Path,
    source: Callable[[int, int], str],
    eventually: Callable[..., None],
) -> None:
    for version, width in {2: 6, 3: 8}.items():
        mirror(Wanted(source(version, width), doubler_repository))
        eventually(lambda version=version: ready_versions(polling_server) == [str(version)], timeout_s=TIMEOUT_S)
    metadata = polling_server.stub().ModelMetadata(pb.ModelMetadataRequest(name="doubler"), timeout=TIMEOUT_S)
    assert list(metadata.outputs[0].shape) == [-1, 8]
    assert not [event for event in polling_server.events() if event["event"] == "model failed to load"]
    assert polling_server.stop() == 0
