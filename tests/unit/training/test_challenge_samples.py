"""The samples for comparing a candidate with the serving version, and versions that cannot be compared."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixelserve.card import CARD_FILE, Card, DataSet, read_card
from pixelserve_training.errors import UsageError
from pixelserve_training.exporting.export import Target, export_file
from pixelserve_training.exporting.samples import Samples
from pixelserve_training.measuring import published
from pixelserve_training.measuring.challenge import Decision, Unseen, challenge
from pixelserve_training.measuring.published import Published

SAMPLES = 100
SHARE = 0.2
PETS = DataSet(name="pets", sha256="1" * 64)


@pytest.fixture
def compare(own_onnx: Path, tmp_path: Path) -> Callable[..., Decision]:
    """Compares two equal versions, with other facts in their cards, on samples that are 20 % of a training split."""
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\nowl\n")
    export_file(own_onnx, Target(tmp_path / "models", "own"), labels=labels, samples=None, pixel_scale=None)
    folder = tmp_path / "models" / "own" / "1"
    card = read_card(folder / CARD_FILE)
    pixels = np.random.default_rng(0).random((SAMPLES, 6, 6, 1), np.float32)
    unseen = Unseen(Samples({"pixels": pixels}, np.arange(SAMPLES) % 3), SHARE)

    def run(serving: dict[str, object], candidate: dict[str, object] | None = None) -> Decision:
        _with(card, serving).write(folder / CARD_FILE)
        found = published.read(folder)
        facts = {"dataset": PETS, "held_out": SHARE, "hold_out": "stratified"} if candidate is None else candidate
        challenger = Published(folder, _with(card, facts), found.model, found.labels, labelled=found.labelled)
        return challenge(challenger, unseen, folder.parent)

    return run


def _with(card: Card, facts: dict[str, object]) -> Card:
    return card.model_copy(update=facts)


def test_both_held_out_as_much(compare: Callable[..., Decision], capfd: pytest.CaptureFixture[str]) -> None:
    assert compare({"dataset": PETS, "held_out": SHARE, "hold_out": "stratified"}).samples == SAMPLES
    assert "never learned, nor did the serving version" in capfd.readouterr().err


def test_of_a_serving_version_that_held_out_less_only_that_part_is_compared(compare: Callable[..., Decision]) -> None:
    assert compare({"dataset": PETS, "held_out": SHARE / 4, "hold_out": "stratified"}).samples == SAMPLES // 4


@pytest.mark.parametrize(
    "serving",
    [
        {"dataset": PETS},
        {"dataset": PETS, "held_out": 0.0, "hold_out": "stratified"},
        {"dataset": PETS, "held_out": SHARE},
        {"dataset": PETS, "recipe": "mnist-cnn"},
        {"dataset": DataSet(name="pets", sha256="2" * 64), "held_out": SHARE, "hold_out": "stratified"},
    ],
)
def test_samples_that_the_serving_version_may_have_learned_are_said_to_favour_it(
    compare: Callable[..., Decision], capfd: pytest.CaptureFixture[str], serving: dict[str, object]
) -> None:
    assert compare(serving).samples == SAMPLES
    assert "the serving version may have learned some of them, which favours it" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (DataSet(name="birds", sha256="1" * 64), "own version 1 was trained on birds, the candidate on pets"),
        (None, "an unknown"),
    ],
)
def test_versions_of_other_data_sets_are_not_compared(
    compare: Callable[..., Decision], dataset: DataSet | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        compare({"dataset": dataset})
