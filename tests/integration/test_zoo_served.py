"""Every recipe that is no image network is trained, exported, served by one server and queried through gRPC."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card, read_golden
from pixelserve.oip import inference_pb2 as pb
from pixelserve_training.exporting.export import Target, export_run
from pixelserve_training.running import fit
from pixelserve_training.running.fit import Overrides

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]
TIMEOUT_S = 120

# Epochs by recipe: all of them where that takes no time.
EPOCHS = {"xor": 1, "and": 1, "iris": 1, "blood-fat": 2, "fashion-logistic": 1, "numpy-and": 1000, "numpy-xor": 1000}
TABULAR = [name for name in EPOCHS if name != "fashion-logistic"]


@pytest.fixture(scope="session")
def zoo_repository(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A repository that holds a version of each recipe, trained on real data; Fashion-MNIST is 200 images."""
    folder, data_dir = tmp_path_factory.mktemp("zoo"), root / "tests" / "data" / "tiny"
    for name, epochs in EPOCHS.items():
        fit.train(name, data_dir=data_dir, run_dir=folder / "runs" / name, overrides=Overrides(epochs=epochs))
        export_run(folder / "runs" / name, Target(folder / "models"), data_dir=data_dir)
    return folder / "models"


@pytest.fixture(scope="module")
def zoo_server(zoo_repository: Path, start_module_server: Callable[..., Any]) -> Any:
    return start_module_server(zoo_repository, "--require-card")


def infer(server: Any, model: str, name: str, rows: Any, **output: Any) -> pb.ModelInferResponse:
    """Returns the answer to one request of rows, float32 or uint8."""
    datatype = {"float32": "FP32", "uint8": "UINT8"}[str(rows.dtype)]
    request = pb.ModelInferRequest(
        model_name=model,
        inputs=[pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=rows.shape)],
        raw_input_contents=[rows.tobytes()],
        **output,
    )
    return server.stub().ModelInfer(request, timeout=TIMEOUT_S)


@pytest.mark.parametrize("model", EPOCHS)
def test_a_served_model_answers_as_the_library_that_trained_it(
    zoo_server: Any, zoo_repository: Path, model: str
) -> None:
    folder = zoo_repository / model / "1"
    golden, card = read_golden(folder / "golden.npz"), read_card(folder / "card.json")
    ((name, rows),) = golden.inputs.items()
    ((output, expected),) = golden.outputs.items()
    answer = infer(zoo_server, model, name, np.asarray(rows))
    assert [tensor.name for tensor in answer.outputs] == [output]
    found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(answer.outputs[0].shape)
    tolerance = card.tolerance("CPUExecutionProvider")
    np.testing.assert_allclose(found, np.asarray(expected, np.float32), rtol=0, atol=tolerance)


def test_a_served_gate_knows_its_classes_names(zoo_server: Any) -> None:
    rows = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    asked = pb.ModelInferRequest.InferRequestedOutputTensor(name="probabilities")
    asked.parameters["classification"].int64_param = 1
    (content,) = infer(zoo_server, "numpy-xor", "features", rows, outputs=[asked]).raw_output_contents
    # Each element is value:index:label, after four bytes that are its length.
    assert re.findall(r"0\.\d+:\d:(false|true)", content.decode("latin-1")) == ["false", "true", "true", "false"]


@pytest.mark.parametrize("model", TABULAR)
def test_classify_refuses_a_model_that_takes_no_pictures(zoo_server: Any, root: Path, model: str) -> None:
    picture = next((root / "examples" / "mnist").glob("*.png"))
    done = classify(zoo_server, picture, model)
    assert done.returncode != 0
    assert f"model {model} takes no pictures" in done.stderr
    assert "send it tensors with ModelInfer" in done.stderr


def test_classify_takes_the_logistic_regression_on_pictures(zoo_server: Any, root: Path) -> None:
    picture = next((root / "examples" / "mnist").glob("*.png"))
    done = classify(zoo_server, picture, "fashion-logistic")
    assert done.returncode == 0, done.stderr


def classify(server: Any, picture: Path, model: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pixelserve", "classify", str(picture), "--model", model, "--address", server.grpc]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
