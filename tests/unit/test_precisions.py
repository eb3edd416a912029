"""Golden samples by the rule of a lower precision."""

from typing import Any

import numpy as np
import pytest

from pixelserve.card import Card, Parity, Quantization, Reference
from pixelserve.golden import Golden, GoldenMismatchError, replay_by_rule

SCORES = np.linspace(-4.0, 4.0, 40, dtype=np.float32).reshape(10, 4)


def replayed(found: Any, expected: Any = SCORES, precision: str = "bfloat16") -> float:
    golden = Golden({"x": np.zeros((len(expected), 1))}, {"scores": expected})
    return replay_by_rule(golden, lambda _: {"scores": found}, precision)


def test_a_difference_is_a_fraction_of_the_largest_value() -> None:
    moved = SCORES.copy()
    moved[3, 1] += 0.2
    assert replayed(moved) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        # One element by 0.11 of the largest value, 4.
        (lambda found: found.__setitem__((0, 0), found[0, 0] + 0.44), "differs from what is expected by up to 0.11"),
        # All of them by 0.0125, each far below 0.1.
        (lambda found: found.__iadd__(np.float32(0.05)), "0.0125 on average; the rule of bfloat16 allows 0.1 and 0.01"),
        (lambda found: found.__setitem__((5, 2), np.nan), "by up to inf"),
        (lambda found: found.__setitem__((5, 2), np.inf), "by up to inf"),
    ],
)
def test_what_the_rule_does_not_allow_is_named(change: Any, reason: str) -> None:
    found = SCORES.copy()
    change(found)
    with pytest.raises(GoldenMismatchError) as caught:
        replayed(found)
    assert reason in str(caught.value)


def test_infinities_and_nans_that_were_there_before_are_the_same() -> None:
    expected = SCORES.copy()
    expected[0, :3] = np.nan, np.inf, -np.inf
    assert replayed(expected.copy(), expected) == 0
    with pytest.raises(GoldenMismatchError):
        replayed(np.where(np.isnan(expected), 0, expected), expected)


def test_whole_numbers_must_be_equal() -> None:
    labels = np.arange(5)
    assert replayed(labels, labels) == 0
    with pytest.raises(GoldenMismatchError, match="by up to inf"):
        replayed(labels + 1, labels)


@pytest.mark.parametrize("found", [SCORES[:5], SCORES[:, :2]])
def test_another_shape_is_named(found: Any) -> None:
    with pytest.raises(GoldenMismatchError, match=r"the golden shape is \(10, 4\), the model gave"):
        replayed(found)


def test_other_kernels_of_a_quantized_model_get_its_tolerance() -> None:
    parity = [Parity(precision="int8", provider="CPUExecutionProvider", tolerance=0.02)]
    quantization = Quantization(
        precision="int8",
        original=Reference(framework="keras", version="3"),
        calibration_split="train",
        calibration_samples=500,
        float32_accuracy=0.99,
        changed_labels=2,
        max_abs_error=0.05,
        relative_bytes=0.3,
        relative_time={"1": 0.7},
    )
    card = Card(name="digits", task="image", sha256="0" * 64, created="2026-01-02T03:04:05Z", parity=parity)
    assert card.tolerance("OpenVINO") == 1e-3
    assert card.model_copy(update={"quantization": quantization}).tolerance("OpenVINO") == 0.02
