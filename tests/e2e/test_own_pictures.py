"""docs/own-pictures.md, word for word: its commands on real images, with correct predictions."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelserve.card import read_card
from pixelserve_training.datasets import idx

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = re.findall(r"```bash\n(.*?)\n```", (ROOT / "docs" / "own-pictures.md").read_text(), re.DOTALL)
MNIST = ROOT / "tests" / "data" / "mnist"

pytestmark = pytest.mark.slow


def run(command: str, cwd: Path, *more: str) -> str:
    words = [sys.executable, "-m", *shlex.split(command), *more]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 zeros as cats and 60 ones as dogs, trained, exported and measured as the page says."""
    folder = tmp_path_factory.mktemp("own")
    images = idx.read(MNIST / "t10k-images-idx3-ubyte.gz", rank=3)
    labels = idx.read(MNIST / "t10k-labels-idx1-ubyte.gz", rank=1)
    for digit, name in enumerate(("cat", "dog")):
        (folder / "pets" / name).mkdir(parents=True)
        for number, pixels in enumerate(images[labels == digit][:60]):
            # Larger than the network takes, and dark on light, which the recipe would have inverted.
            large = Image.fromarray(255 - np.kron(pixels, np.ones((3, 3), np.uint8)))
            large.save(folder / "pets" / name / f"IMG_{number:04}.png")
    train, export, evaluate, *_ = COMMANDS
    run(train, folder, "--batch-size", "8", "--epochs", "5")
    run(export, folder)
    run(evaluate, folder)
    return folder


def test_the_page_has_the_whole_way() -> None:
    assert [command.split()[1] for command in COMMANDS] == ["train", "export", "evaluate", "serve", "classify"]


def test_the_exported_model_has_the_folders_names_and_its_evidence(workplace: Path) -> None:
    model = workplace / "models" / "pets"
    assert (model / "labels.txt").read_text().split() == ["cat", "dog"]
    assert "inversion" not in (model / "config.pbtxt").read_text()
    card = read_card(model / "1" / "card.json")
    assert card.dataset is not None
    assert (card.dataset.name, card.recipe) == ("pets", "mnist-cnn")
    assert card.evaluation is not None
    assert card.evaluation.samples == 24
    assert card.evaluation.metrics["accuracy"] >= 0.9


def test_the_server_tells_them_apart(workplace: Path, start_server: Callable[..., Any]) -> None:
    *_, serve, classify = COMMANDS
    assert serve.split()[1:3] == ["serve", "--model-repository"]
    server = start_server(workplace / serve.split()[3])
    out = run(classify, workplace, "--address", server.grpc, "--json", "--top", "1")
    labels = re.findall(r'"label": "(\w+)"', out)
    assert len(labels) == 60
    assert labels.count("cat") >= 54
