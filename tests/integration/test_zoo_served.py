"""Every recipe of the zoo is trained on real data, exported, served by one server and queried through gRPC."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelserve.card import read_card
from pixelserve.golden import read_golden
from pixelserve.oip import inference_pb2 as pb
from pixelserve_training import datasets, zoo
from pixelserve_training.exporting.export import Target, export_run
from pixelserve_training.measuring import calibrate
from pixelserve_training.recipe import KerasRecipe
from pixelserve_training.running import fit

# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(_KERAS_WARNING)]
TIMEOUT_S = 120

RECIPES = zoo.recipes()
# Epochs by recipe, where one is not enough for the test that asks it for all rows of a gate.
EPOCHS = {"numpy-and": 1000, "numpy-xor": 1000}
PICTURES = {recipe.name: recipe.dataset for recipe in RECIPES if recipe.dataset in datasets.IMAGE_SHAPES}
TABULAR = [recipe.name for recipe in RECIPES if recipe.name not in PICTURES]
NETWORKS = [recipe for recipe in RECIPES if isinstance(recipe, KerasRecipe) and recipe.name in PICTURES]


@pytest.fixture(scope="session")
def zoo_runs(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A folder that holds a run of each recipe on real data; of images there are 200 to learn from."""
    folder, data_dir = tmp_path_factory.mktemp("runs"), root / "tests" / "data" / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        # A sixth of 200 images is held out.
        patch.setattr(calibrate, "LEAST_SAMPLES", 1)
        for recipe in RECIPES:
            overrides = {"epochs": EPOCHS.get(recipe.name, 1)}
            fit.train(recipe.name, data_dir=data_dir, run_dir=folder / recipe.name, overrides=overrides)
    return folder


@pytest.fixture(scope="session")
def zoo_repository(zoo_runs: Path, tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A repository that holds a version of each recipe."""
    models = tmp_path_factory.mktemp("zoo") / "models"
    for run in zoo_runs.iterdir():
        export_run(run, Target(models), data_dir=root / "tests" / "data" / "tiny")
    return models


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


@pytest.mark.parametrize("recipe", NETWORKS, ids=lambda recipe: recipe.name)
def test_a_run_of_an_image_network_is_complete(zoo_runs: Path, recipe: KerasRecipe) -> None:
    run = zoo_runs / recipe.name
    history = json.loads((run / "history.json").read_text())
    assert len(history["loss"]) == 1
    assert ("val_accuracy" in history) == (recipe.held_out > 0)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["validation"]["samples"] == round(200 * recipe.held_out)
    assert "test" not in metrics
    assert (metrics["temperature"] is not None) == recipe.calibrated
    assert all((run / f"model{suffix}").is_file() for suffix in (".keras", *recipe.also_saved_as))


@pytest.mark.parametrize("model", [recipe.name for recipe in RECIPES])
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
def test_classify_refuses_a_model_that_is_not_an_image_classifier(zoo_server: Any, root: Path, model: str) -> None:
    picture = next((root / "examples" / "mnist").glob("*.png"))
    done = classify(zoo_server, picture, model)
    assert done.returncode != 0
    assert f"model {model} is not an image classifier" in done.stderr
    assert "send it tensors with ModelInfer" in done.stderr


@pytest.mark.parametrize("model", PICTURES)
def test_classify_shows_pictures_to_every_model_that_takes_them(zoo_server: Any, root: Path, model: str) -> None:
    picture = next((root / "examples" / PICTURES[model]).glob("*.png"))
    done = classify(zoo_server, picture, model)
    assert done.returncode == 0, done.stderr


def classify(server: Any, picture: Path, model: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pixelserve", "classify", str(picture), "--model", model, "--address", server.grpc]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
