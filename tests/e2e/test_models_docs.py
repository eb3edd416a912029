"""docs/models.md: models from other libraries, the page's commands, and the right answers."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pixelserve.card import read_card

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text()
SECTIONS = {
    heading: re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)
    for heading, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
CLASSIFY = SECTIONS["Serve"][-1][1]
# Red, green and blue, as bright as each other.
FRUITS = {"apple": (220, 30, 30), "lime": (30, 220, 30), "plum": (30, 30, 220)}
SIDE = 32
# A pixel's share of each colour decides: the mean of a channel, from 0 to 1, times this is a logit.
SHARPNESS = 10.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image of each fruit, and the files that the page writes before an export."""
    folder = tmp_path_factory.mktemp("reader")
    for name, colour in FRUITS.items():
        Image.new("RGB", (100, 80), colour).save(folder / f"{name}.png")
    (labels,) = blocks("Before you start", "bash")
    subprocess.run(["bash", "-ec", labels], cwd=folder, check=True, timeout=60)
    (samples,) = blocks("Before you start", "python")
    subprocess.run([sys.executable, "-c", samples], cwd=folder, check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def keras_models(workplace: Path) -> Path:
    """The same folder, with what Keras writes: one model that scales pixels itself, two that take them from 0 to 1."""
    code = f"""
import keras, numpy

def model(*first):
    image = keras.Input(({SIDE}, {SIDE}, 3))
    pixels = image
    for layer in first:
        pixels = layer(pixels)
    dense = keras.layers.Dense(3, activation="softmax")
    made = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(pixels)))
    dense.set_weights([{SHARPNESS} * numpy.eye(3), numpy.zeros(3)])
    return made

model(keras.layers.Rescaling(1 / 255)).save("fruit.keras")
model().save("fruit.h5")
model().export("fruit_saved", verbose=False)
model(keras.layers.Rescaling(0.5, offset=0.5)).save("keras_model.h5")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return workplace


def blocks(section: str, *languages: str) -> list[str]:
    return [text for language, text in SECTIONS[section] if language in languages]


def run(command: str, folder: Path, *more: str) -> str:
    """Runs one `pixelserve` command of the page."""
    words = shlex.split(command)
    assert words[0] == "pixelserve"
    done = subprocess.run(
        [sys.executable, "-m", *words, *more], cwd=folder, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def run_alone(export: str, folder: Path) -> str:
    """Runs an export of the page into an empty repository: a reader has one model, and all are called fruit."""
    shutil.rmtree(folder / "models", ignore_errors=True)
    return run(export, folder)


def classified(command: str, folder: Path, server: Any) -> dict[str, tuple[str, float]]:
    """Runs a `pixelserve classify` command of the page; returns the best label and its probability by picture."""
    lines = run(command, folder, "--address", server.grpc, "--json").splitlines()
    answers = [json.loads(line) for line in lines]
    return {each["path"]: (each["classes"][0]["label"], each["classes"][0]["probability"]) for each in answers}


def test_the_options_are_those_of_the_command() -> None:
    table = PAGE.split("## Options of export")[1]
    options = set(re.findall(r"^\| `(--[a-z0-9-]+)", table, re.MULTILINE))
    done = subprocess.run(
        [sys.executable, "-m", "pixelserve", "export", "--help"], capture_output=True, text=True, timeout=60
    )
    assert len(options) == 11
    assert options <= set(re.findall(r"--[a-z0-9-]+", done.stdout))


def test_every_section_of_a_model_is_tested() -> None:
    assert [*SECTIONS] == [
        "Before you start",
        *(
            "Keras: .keras",
            "Keras: .h5",
            "Teachable Machine",
            "SavedModel",
            "PyTorch: .onnx",
            "scikit-learn",
            "Triton repository",
        ),
        *("Text", "Serve", "Options of export", "Other runtimes"),
    ]


def test_a_keras_file_that_scales_pixels_itself_takes_pictures(
    keras_models: Path, start_server: Callable[..., Any]
) -> None:
    (export,) = blocks("Keras: .keras", "bash")
    assert "accuracy 100.00%" in run_alone(export, keras_models)
    doctor, serve, look, classify = blocks("Serve", "bash")
    assert "fruit version 1: would serve" in run(doctor, keras_models)
    server = start_server(keras_models / shlex.split(serve)[-1])
    answers = classified(classify, keras_models, server)
    assert {picture: label for picture, (label, _) in answers.items()} == {"apple.png": "apple", "lime.png": "lime"}
    assert answers["apple.png"][1] == pytest.approx(share("apple"), abs=1e-4)
    listed, shown = (run(line, keras_models, "--address", server.grpc) for line in look.splitlines())
    assert "fruit" in listed
    assert "100.00%" in shown


@pytest.mark.parametrize("section", ["Keras: .h5", "SavedModel"])
def test_pixels_that_were_divided_before_training_are_divided_in_the_graph(
    keras_models: Path, start_server: Callable[..., Any], section: str
) -> None:
    (export,) = blocks(section, "bash")
    run_alone(export, keras_models)
    answers = classified(CLASSIFY, keras_models, start_server(keras_models / "models"))
    assert answers["apple.png"] == ("apple", pytest.approx(share("apple"), abs=1e-4))


def test_a_download_of_teachable_machine_is_unpacked_and_exported(
    keras_models: Path, start_server: Callable[..., Any]
) -> None:
    with h5py.File(keras_models / "keras_model.h5", "r+") as file:
        file.attrs["keras_version"] = "2.4.0"
    with zipfile.ZipFile(keras_models / "converted_keras.zip", "w") as archive:
        archive.write(keras_models / "keras_model.h5", "keras_model.h5")
        archive.writestr("labels.txt", "".join(f"{number} {fruit}\n" for number, fruit in enumerate(FRUITS)))
    unpack, export = blocks("Teachable Machine", "bash")
    unpack = unpack.replace("python", sys.executable)
    subprocess.run(["bash", "-ec", unpack], cwd=keras_models, check=True, timeout=60)
    run_alone(export, keras_models)
    answers = classified(CLASSIFY, keras_models, start_server(keras_models / "models"))
    assert answers["apple.png"] == ("apple", pytest.approx(share("apple"), abs=1e-4))


def share(fruit: str) -> float:
    """Returns a fruit's probability in its own picture."""
    logits = SHARPNESS * np.array(FRUITS[fruit]) / 255
    return float((np.exp(logits) / np.exp(logits).sum())[[*FRUITS].index(fruit)])


def test_weights_beside_a_pytorch_file_are_merged(workplace: Path, start_server: Callable[..., Any]) -> None:
    write_as_pytorch_does(workplace / "fruit.onnx", *preparation())
    assert (workplace / "fruit.onnx.data").stat().st_size
    (export,) = blocks("PyTorch: .onnx", "bash")
    assert "accuracy 100.00%" in run_alone(export, workplace)
    assert [path.name for path in (workplace / "models" / "fruit").rglob("*.data")] == []
    answers = classified(CLASSIFY, workplace, start_server(workplace / "models"))
    assert answers["apple.png"][0] == "apple"


def preparation() -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the deviation in the page's code."""
    (code,) = blocks("PyTorch: .onnx", "python")
    mean, std = (json.loads(values) for values in re.findall(r"torch\.tensor\((\[.*?\])\)", code))
    return np.array(mean, np.float32), np.array(std, np.float32)


def write_as_pytorch_does(path: Path, mean: np.ndarray, std: np.ndarray) -> None:
    """Writes what the page's class `Served` computes, with the weights in a file beside it."""
    constants = {"whole": np.float32(255), "mean": mean, "std": std, "weight": SHARPNESS * np.eye(3, dtype=np.float32)}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "whole"], ["unit"]),
        helper.make_node("Sub", ["unit", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["planes"], ["means"]),
        helper.make_node("Flatten", ["means"], ["features"]),
        helper.make_node("MatMul", ["features", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, producer_name="pytorch"
    )
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)


def test_a_scikit_learn_model_keeps_its_labels(workplace: Path, start_server: Callable[..., Any]) -> None:
    (convert,) = blocks("scikit-learn", "python")
    subprocess.run([sys.executable, "-c", convert], cwd=workplace, check=True, timeout=200)
    export, ask = blocks("scikit-learn", "bash")
    run(export, workplace)
    card = read_card(workplace / "models" / "iris" / "1" / "card.json")
    assert card.evaluation is not None
    assert card.evaluation.metrics["accuracy"] > 0.95
    server = start_server(workplace / "models")
    ask = ask.replace("http://127.0.0.1:8000", server.http)
    done = subprocess.run(["bash", "-ec", ask], capture_output=True, text=True, timeout=60)
    best, *_ = json.loads(done.stdout)["outputs"][0]["data"]
    assert best.endswith(":0:setosa")
    assert float(best.split(":")[0]) > 0.9


@pytest.fixture
def triton_repository(tmp_path: Path) -> Path:
    """A folder with a model_repository as Triton's quick start lays it out, and a small model in it.

    A request of ones gives each class its own index as score.
    """
    folder = tmp_path / "model_repository" / "densenet_onnx"
    (folder / "1").mkdir(parents=True)
    weights = np.repeat(np.arange(1000, dtype=np.float32)[:, None], 3, axis=1)[..., None, None] / 3
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["data_0"], ["means"]),
            helper.make_node("Conv", ["means", "weights"], ["fc6_1"]),
        ],
        "densenet",
        [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("fc6_1", TensorProto.FLOAT, [1, 1000, 1, 1])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        folder / "1" / "model.onnx",
    )
    (folder / "densenet_labels.txt").write_text("".join(f"label {number}\n" for number in range(1000)))
    (folder / "config.pbtxt").write_text(
        """
name: "densenet_onnx"
platform: "onnxruntime_onnx"
max_batch_size : 0
input [ { name: "data_0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ]
          reshape { shape: [ 1, 3, 224, 224 ] } } ]
output [ { name: "fc6_1" data_type: TYPE_FP32 dims: [ 1000 ] reshape { shape: [ 1, 1000, 1, 1 ] }
           label_filename: "densenet_labels.txt" } ]
"""
    )
    return tmp_path


def test_a_triton_repository_is_served_as_it_is(triton_repository: Path, start_server: Callable[..., Any]) -> None:
    doctor, serve = blocks("Triton repository", "bash")
    run(doctor, triton_repository)
    server = start_server(triton_repository / shlex.split(serve)[-1])
    (code,) = blocks("Triton repository", "python")
    python = f"{sys.prefix}/tritonclient/bin/python"
    code = code.replace("127.0.0.1:8000", server.http.removeprefix("http://"))
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.findall(r":(\d+):label \1", done.stdout) == ["999", "998", "997"]
