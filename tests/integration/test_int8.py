"""An int8 version is exported, proves itself to a server, and classifies through gRPC."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve.v1 import classifier_pb2 as pb
from pixelserve.v1 import classifier_pb2_grpc
from pixelserve_training.datasets import idx
from pixelserve_training.exporting.export import Target, export_file
from pixelserve_training.measuring import timing

pytestmark = pytest.mark.slow
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A repository with mnist-cnn's network in int8, as `digits`."""
    folder = tmp_path_factory.mktemp("int8")
    mnist, network = root / "tests" / "data" / "mnist", root / "models" / "mnist-cnn"
    images = idx.read(mnist / "t10k-images-idx3-ubyte.gz", rank=3)[:600, ..., np.newaxis]
    np.savez(folder / "samples.npz", x=images, y=idx.read(mnist / "t10k-labels-idx1-ubyte.gz", rank=1)[:600])
    target = Target(folder / "models", "digits", precision="int8")
    labels = network / "labels.txt"
    model, samples = network / "1" / "model.onnx", folder / "samples.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_BUDGET_S", 0.0)
        export_file(model, target, labels=labels, samples=samples, pixel_scale=None)
    return folder / "models"


def test_an_int8_version_is_verified_and_classifies(
    start_server: Callable[..., Any], repository: Path, root: Path
) -> None:
    assert read_card(repository / "digits" / "1" / "card.json").quantization is not None
    pictures = [path.read_bytes() for path in sorted((root / "examples" / "mnist").glob("*.png"))]
    server = start_server(repository, "--require-card")
    with grpc.insecure_channel(server.grpc) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)
        request = pb.ClassifyRequest(model="digits", images=[pb.Image(encoded=picture) for picture in pictures])
        answer = stub.Classify(request, timeout=TIMEOUT_S)
        (version,) = stub.ListModels(pb.ListModelsRequest(), timeout=TIMEOUT_S).versions
    assert [result.classes[0].label for result in answer.results] == list("0123456789")
    assert version.verified
    assert "16 golden samples reproduced" in version.evidence


def test_an_int8_version_that_computes_something_else_never_serves(
    failing_serve: Callable[..., Any], repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "digits" / "1"
    folder.mkdir(parents=True)
    for file in ("card.json", "model.onnx"):
        (folder / file).write_bytes((repository / "digits" / "1" / file).read_bytes())
    with np.load(repository / "digits" / "1" / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["outputs/probabilities"] = np.roll(arrays["outputs/probabilities"], 1, axis=1)
    np.savez(folder / "golden.npz", **arrays)
    failure = failing_serve("--model-repository", str(tmp_path / "models"))
    assert "golden outputs differ" in failure.message
