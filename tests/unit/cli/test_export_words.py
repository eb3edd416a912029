"""`pixelserve export` has a flag for each word that declares a model's pictures."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper

from pixelserve.imaging.words import WORDS
from pixelserve.oip.model_config_pb2 import ModelConfig

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """An .onnx file of normalised floats, channels first, of any size; its labels lie beside it."""
    weights = numpy_helper.from_array(np.ones((3, 2), np.float32), "weights")
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixel_values"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    tensors = (
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
    )
    graph = helper.make_graph(nodes, "graph", *tensors, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "network.onnx")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    return tmp_path / "network.onnx"


def exported(run: Callable[..., Any], network: Path, *flags: str) -> Any:
    folder = network.parent
    options = ("--name", "own", "--labels", str(folder / "labels.txt"), "--to", str(folder / "models"))
    return run("export", str(network), *options, *flags)


def declared(network: Path) -> str:
    config = text_format.Parse((network.parent / "models" / "own" / "config.pbtxt").read_text(), ModelConfig())
    return config.parameters["picture"].string_value


def test_the_help_has_a_panel_of_all_words_and_their_values(run: Callable[..., Any]) -> None:
    panel = run("export", "--help").out.split("\nPicture:\n")[1].split("\n\n")[0]
    for key, word in WORDS.items():
        assert f"  --{key} " in panel
        shown = re.search(rf"--{key} <?([^ >]+)", panel)
        assert shown is not None
        assert set(shown[1].split("|")) == set(word.values or [word.form])


@pytest.mark.parametrize("page", ["pictures.md", "cli.md"])
def test_every_word_is_documented(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert not [key for key in WORDS if not re.search(rf"`(--)?{key}\b", text)]


def test_every_value_of_a_word_is_documented() -> None:
    text = (ROOT / "docs" / "pictures.md").read_text()
    values = {value for word in WORDS.values() for value in word.values} - {"yes"}
    assert not [value for value in values if f"`{value}`" not in text]


@pytest.mark.slow
def test_flags_become_the_line_that_is_served(run: Callable[..., Any], network: Path) -> None:
    flags = ("--picture", "imagenet", "--fit", "letterbox", "--background", "#102030", "--size", "180x240")
    ran = exported(run, network, *flags, "--mean", "-0.5,0,0.5", "--std", "0.25", "--colour", "bgr", "--layout", "nchw")
    assert ran.code == 0, ran.err
    assert "accepts pictures: colour=bgr layout=nchw size=180x240 fit=letterbox" in ran.out
    assert declared(network) == (
        "imagenet colour=bgr layout=nchw fit=letterbox background=#102030 mean=-0.5,0,0.5 std=0.25 size=180x240"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--picture", "fit=crop", "--fit", "letterbox"), 'write --picture "fit=letterbox"'),
        (("--scale", "-1..1", "--std", "2", "--size", "9"), 'write --picture "std=2 size=9x9"'),
        (("--picture", "vit", "--antialias", "no", "--resampling", "area"), 'write --picture "vit resampling=area"'),
        (("--fit", "crop", "--scale", "0..1"), 'write --picture "fit=crop scale=0..1 size=224"'),
        (("--picture", "vit", "--size", "9x9x3"), "size=9x9x3: expected pixels"),
        (("--pixel-scale", "1/255"), "for an .onnx file, give the range of its training pixels with --scale"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_with_the_line_to_write(
    run: Callable[..., Any], network: Path, flags: tuple[str, ...], said: str
) -> None:
    ran = exported(run, network, *flags)
    assert ran.code == 2
    assert said in ran.err.splitlines()[-1]
    assert not (network.parent / "models").exists()


def test_an_unknown_value_is_refused_with_those_that_are_known(run: Callable[..., Any], network: Path) -> None:
    ran = exported(run, network, "--fit", "cropp")
    assert ran.code == 2
    assert "'cropp' is not one of 'letterbox', 'stretch', 'crop', 'mnist'" in ran.err


@pytest.mark.slow
def test_a_run_brings_its_own_pictures(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "model.keras").write_bytes(b"")
    ran = run("export", str(tmp_path), "--to", str(tmp_path / "models"), "--fit", "crop", "--picture", "vit")
    assert ran.code == 2
    assert "is a run, which has its own settings: omit --picture, --fit" in " ".join(ran.err.split())
