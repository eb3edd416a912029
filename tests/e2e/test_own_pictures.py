"""docs/own-pictures.md, word for word: 60 photographs become a served model, by transfer learning."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.card import read_card

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = re.findall(r"```bash\n(.*?)\n```", (ROOT / "docs" / "own-pictures.md").read_text(), re.DOTALL)
PHOTOS = ROOT / "tests" / "data" / "photos"
CLASSES = ("airplane", "automobile", "frog")

pytestmark = pytest.mark.slow


def run(command: str, cwd: Path, *more: str) -> str:
    words = [sys.executable, "-m", *shlex.split(command), *more]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 photographs, 90 others and the repository's cifar10; trained, exported and measured."""
    folder = tmp_path_factory.mktemp("own")
    for part in ("pictures", "others"):
        shutil.copytree(PHOTOS / part, folder / part)
    shutil.copytree(ROOT / "models" / "cifar10", folder / "models" / "cifar10")
    train, export, evaluate, *_ = COMMANDS
    run(train, folder)
    run(export, folder)
    run(evaluate, folder)
    return folder


def test_the_page_has_the_whole_way() -> None:
    assert [command.split()[1] for command in COMMANDS] == ["train", "export", "evaluate", "serve", "classify"]


def test_the_pictures_are_as_many_as_the_page_says(workplace: Path) -> None:
    assert len(list((workplace / "pictures").glob("*/*.jpg"))) == 60
    assert len(list((workplace / "others").glob("*/*.jpg"))) == 90


def test_the_exported_model_has_the_folders_names_its_size_and_its_evidence(workplace: Path) -> None:
    model = workplace / "models" / "pictures"
    assert (model / "labels.txt").read_text().split() == list(CLASSES)
    config = (model / "config.pbtxt").read_text()
    assert "colour=rgb layout=nhwc size=96x96 fit=letterbox" in config
    assert "TYPE_UINT8" in config
    assert "inversion" not in config
    card = read_card(model / "1" / "card.json")
    assert card.dataset is not None
    assert (card.dataset.name, card.recipe) == ("pictures", "transfer")
    assert card.evaluation is not None
    assert card.evaluation.samples == 12
    assert card.evaluation.metrics["accuracy"] >= 0.9


def test_the_served_model_tells_other_pictures_apart_and_ten_points_better_than_from_random_weights(
    workplace: Path, start_server: Callable[..., Any]
) -> None:
    *_, serve, classify = COMMANDS
    assert serve.split()[1:3] == ["serve", "--model-repository"]
    server = start_server(workplace / serve.split()[3])
    right = 0
    for name in CLASSES:
        command = classify.replace("others/frog", f"others/{name}")
        labels = re.findall(
            r'"label": "(\w+)"', run(command, workplace, "--address", server.grpc, "--json", "--top", "1")
        )
        assert len(labels) == 30
        right += labels.count(name)
    (workplace / "parts").mkdir()
    (workplace / "pictures").rename(workplace / "parts" / "train")
    (workplace / "others").rename(workplace / "parts" / "test")
    random = COMMANDS[0].replace("models/cifar10", "random").replace("--images pictures", "--images parts")
    figures = json.loads(run(random.replace("runs/pictures", "runs/random"), workplace, "--json"))
    assert right / 90 >= 0.9
    assert right / 90 >= figures["accuracy"] + 0.1
