"""A report's content, and refused content."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pixelserve_training.errors import SamplesError
from pixelserve_training.report import Headline, Predictions, Regression, ReportContent, Samples

IMAGES = np.zeros((3, 4, 4, 1), np.uint8)
LABELS = np.array([0, 1, 1])
SCORES = np.full((3, 2), 0.5)


def predictions(*arrays: Any) -> Predictions:
    return Predictions(*arrays, split="test samples")


def regression(features: Any, targets: Any) -> Regression:
    return Regression(features, targets, ("weight, kg", "age, years"), "blood fat", (1.0, 2.0), 3.0)


def test_parts_that_fit_are_taken() -> None:
    ReportContent(
        "cats and dogs",
        labels=("cat", "dog"),
        samples=Samples(IMAGES, LABELS),
        predictions=predictions(SCORES, LABELS, IMAGES),
        regression=regression(np.zeros((3, 2)), np.zeros(3)),
    )


def test_a_single_score_goes_with_a_single_label() -> None:
    ReportContent("xor", labels=("true",), predictions=predictions(np.array([[0.1], [0.9], [0.4]]), LABELS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Samples(IMAGES.astype(float), LABELS),
            r"expected uint8 \[N, H, W, 1 or 3\], got float64 \[3, 4, 4, 1\]",
        ),
        (lambda: Samples(IMAGES[..., 0], LABELS), r"got uint8 \[3, 4, 4\]; give the raw pixels"),
        (lambda: Samples(np.zeros((3, 4, 4, 2), np.uint8), LABELS), r"got uint8 \[3, 4, 4, 2\]"),
        (lambda: Samples(IMAGES, LABELS[:2]), "images: 3 with 2 labels; expected equally many"),
        (lambda: Samples(IMAGES[:0], LABELS[:0]), "images: 0 with 0 labels; expected equally many, at least 1"),
        (lambda: predictions(SCORES[:, 0], LABELS), r"scores: expected \[N, classes\], got \[3\]"),
        (lambda: predictions(SCORES, LABELS[:1]), "scores: 3 with 1 labels"),
        (lambda: predictions(SCORES, LABELS, IMAGES[:2]), "scores: 3 with 2 images"),
        (lambda: predictions(SCORES, LABELS, IMAGES.astype(float)), "got float64"),
        (lambda: Headline("accuracy", 97.5, 10, "test samples", "2026-11-29"), "expected an accuracy from 0 to 1"),
        (lambda: Headline("accuracy", 0.5, 0, "test samples", "2026-11-29"), "of 0 samples"),
        (lambda: regression(np.zeros((3, 1)), np.zeros(3)), r"features: expected \[N, 2\], got \[3, 1\]"),
        (lambda: regression(np.zeros((3, 2)), np.zeros(2)), "features: 3 with 2 targets"),
        (
            lambda: ReportContent("x", labels=("cat",), samples=Samples(IMAGES, LABELS + 1)),
            "indices 0 to 1, got 1 to 2",
        ),
        (lambda: ReportContent("x", samples=Samples(IMAGES, LABELS)), "give a name for each class"),
        (lambda: ReportContent("x", labels=("a", "b"), samples=Samples(IMAGES, LABELS - 1)), "got -1 to 0"),
        (
            lambda: ReportContent("x", labels=("a", "b", "c"), predictions=predictions(SCORES, LABELS)),
            "expected 3 per sample.*got 2",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SamplesError, match=message):
        make()
