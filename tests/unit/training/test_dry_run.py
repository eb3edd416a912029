"""`train --dry-run`: what would be trained, and nothing is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
Command = Callable[..., Any]
# Keras saves weights in a way that NumPy will not take much longer.
_KERAS_WARNING = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"


@pytest.mark.slow
def test_layers_samples_and_steps_are_those_of_the_run(pixelserve: Command, tmp_path: Path) -> None:
    options = ("--data-dir", TINY, "--run-dir", tmp_path / "run", "--hold-out", 0.25, "--batch-size", 40, "--json")
    found = json.loads(pixelserve("train", "mnist-mlp", *options, "--dry-run").out)
    assert [layer["kind"] for layer in found["layers"]] == ["Rescaling", "Flatten", "Dense", "Dense"]
    assert found["layers"][-1]["output_shape"] == [None, 10]
    assert found["parameters"] == 407_050
    assert found["input"] == {"dtype": "uint8", "shape": [28, 28, 1]}
    samples = {name: split["samples"] for name, split in found["splits"].items()}
    assert samples == {"training": 150, "held-out": 50, "test": 100}
    assert all(sum(split["classes"].values()) == split["samples"] for split in found["splits"].values())
    assert found["splits"]["test"]["classes"] == {str(digit): 10 for digit in range(10)}
    assert found["steps_per_epoch"] == 4
    assert found["settings"]["batch_size"] == 40
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings(_KERAS_WARNING)
def test_a_final_run_is_shown_with_the_settings_of_its_choice_and_all_samples(
    pixelserve: Command, tmp_path: Path
) -> None:
    data = ("--data-dir", TINY)
    assert pixelserve("train", "mnist-mlp", *data, "--run-dir", tmp_path / "choice", "--epochs", 2).exit_code == 0
    found = json.loads(
        pixelserve("train", "mnist-mlp", *data, "--final", tmp_path / "choice", "--dry-run", "--json").out
    )
    assert {name: split["samples"] for name, split in found["splits"].items()} == {"training": 200, "test": 100}
    assert found["settings"]["epochs"] == 2


def test_a_network_without_keras_is_shown_as_well(pixelserve: Command) -> None:
    ran = pixelserve("train", "numpy-xor", "--dry-run", "--epochs", 7)
    assert ran.exit_code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["layer_1", "sigmoid", "N", "×", "4", "12"] in lines
    assert ["total", "17"] in lines
    assert ["training", "4", "2", "2"] in lines
    assert "numpy-xor on XOR: 7 epochs; nothing was trained" in ran.out


def test_what_train_refuses_a_dry_run_refuses(pixelserve: Command) -> None:
    ran = pixelserve("train", "numpy-xor", "--dry-run", "--epochs", 0)
    assert ran.exit_code == 2
    assert "--epochs 0: it should be greater than or equal to 1" in ran.err


def test_several_seeds_are_described_by_the_first(pixelserve: Command, tmp_path: Path) -> None:
    arguments = ("train", "numpy-xor", "--seeds", "3,1", "--run-dir", tmp_path / "three", "--dry-run")
    assert "once for each seed of 3, 1; nothing was trained" in pixelserve(*arguments).out
    found = json.loads(pixelserve(*arguments, "--json").out)
    assert (found["seed"], found["seeds"]) == (3, [3, 1])
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seeds", "1,x"), '--seeds "1,x": expected different whole numbers'),
        (("--seeds", "1,2", "--seed", "3"), "--seed 3 and --seeds: give one of them"),
        (("--seeds", "1,2", "--final", "nowhere"), "nowhere"),
        (("--seeds", "1,2", "--run-dir", "."), "exists"),
    ],
)
def test_seeds_that_train_refuses_a_dry_run_refuses(pixelserve: Command, options: tuple[str, ...], said: str) -> None:
    ran = pixelserve("train", "numpy-xor", *options, "--dry-run")
    assert ran.exit_code != 0
    assert said in ran.err
