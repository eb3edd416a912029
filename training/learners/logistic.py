"""Trains a logistic regression on images' pixels with scikit-learn.

Each class has a probability, 1 / (1 + exp(−(x · w + b))), against all others, and all are normalised. The weights
follow the gradient image by image (stochastic gradient descent); the result is their average over all steps.

scikit-learn stores models as pickles, which run code when read. A run stores only the numbers, and restores a
scikit-learn classifier from them when needed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import frameworks
from ..datasets import Array, Dataset, Split, hold_out, stratified_folds
from ..errors import SourceError
from ..progress import say
from ..recipe import Count, Factor, Rate, Recipe, Several
from ..report import Layer
from ..running.checkpoint import Checkpoint
from .learner import Learner

FILE = "logistic.npz"
WHITE = 255


@dataclass(frozen=True, kw_only=True)
class LogisticRecipe(Recipe):
    """Logistic regression on images' pixels, one class against the others, by scikit-learn's SGDClassifier."""

    alpha: Factor
    """Factor of l2 regularisation."""
    learning_rate: Rate
    """The constant learning rate."""
    epochs: Count
    """Passes over the training split."""
    folds: Several
    """Number of folds for cross-validation before training."""


@dataclass(frozen=True)
class Logistic:
    """A trained logistic regression; see `Trained`."""

    estimator: Any
    """scikit-learn's fitted SGDClassifier, in float32."""
    image_shape: tuple[int, ...]
    """An image's height, width and channels."""
    history: dict[str, list[float]] = field(default_factory=dict)
    """Empty: scikit-learn reports nothing per epoch."""
    temperature: None = None
    """None: it is not calibrated."""

    @property
    def parameters(self) -> int:
        """Weights in the model, biases included."""
        return int(self.estimator.coef_.size + self.estimator.intercept_.size)

    @property
    def layers(self) -> list[Layer]:
        """Empty: it is not a network."""
        return []

    def predict(self, inputs: Array) -> Array:
        """Returns probabilities, float32 [N, classes], of images uint8 [N, H, W, C]."""
        return np.asarray(self.estimator.predict_proba(_rows(inputs)))

    def save(self, folder: Path) -> None:
        """Writes logistic.npz: coefficients float32 [classes, pixels], intercepts float32 [classes], image_shape."""
        np.savez(
            folder / FILE,
            coefficients=self.estimator.coef_,
            intercepts=self.estimator.intercept_,
            image_shape=np.array(self.image_shape),
        )


def load(path: Path) -> Logistic:
    """Reads what `save` wrote.

    Raises:
        SourceError: the file is missing, damaged or of another kind.
        MissingLibraryError: scikit-learn is not installed.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            coefficients, intercepts = arrays["coefficients"], arrays["intercepts"]
            image_shape = tuple(int(size) for size in arrays["image_shape"])
    except Exception as error:  # NumPy and zipfile raise half a dozen errors for a damaged file
        raise SourceError(f"{path}: cannot be read as a regression's weights: {error}; train again") from error
    estimator = _classifier()
    estimator.coef_, estimator.intercept_ = coefficients, intercepts
    estimator.classes_ = np.arange(len(intercepts), dtype=np.int64)
    estimator.n_features_in_ = coefficients.shape[1]
    return Logistic(estimator, image_shape)


def cross_validate(recipe: LogisticRecipe, dataset: Dataset, count: int) -> tuple[float, ...]:
    """Returns the accuracy on each of `count` folds of the training split, of a model trained on the others.

    The models are trained in parallel, one per core.

    Raises:
        UsageError: a class has fewer training samples than there are folds.
        MissingLibraryError: scikit-learn is not installed.
    """
    with frameworks.named_where_missing():
        from sklearn import model_selection
    rows, labels = _learned(dataset.train)
    say(f"cross-validating {recipe.name} on {len(rows):,} samples in {count} folds")
    folds = list(stratified_folds(dataset.train, count))
    scored = model_selection.cross_validate(_untrained(recipe), rows, labels, cv=folds, n_jobs=-1)
    return tuple(float(accuracy) for accuracy in scored["test_score"])


def fit(recipe: LogisticRecipe, dataset: Dataset) -> Logistic:
    """Trains a logistic regression; deterministic for a recipe, data and seed on one machine.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    rows, labels = _learned(hold_out(dataset.train, recipe.held_out)[0])
    say(f"training {recipe.name} on {len(rows):,} samples")
    return Logistic(_untrained(recipe).fit(rows, labels), dataset.train.inputs.shape[1:])


def _learned(split: Split) -> tuple[Array, Array]:
    # int64, as labels in ONNX.
    return _rows(split.inputs), split.targets.astype(np.int64)


def _untrained(recipe: LogisticRecipe) -> Any:
    return _classifier(alpha=recipe.alpha, eta0=recipe.learning_rate, max_iter=recipe.epochs, random_state=recipe.seed)


def _classifier(**options: Any) -> Any:
    with frameworks.named_where_missing():
        from sklearn.linear_model import SGDClassifier
    # tol=None: exactly max_iter epochs, so no fold stops early.
    return SGDClassifier(loss="log_loss", learning_rate="constant", average=True, tol=None, **options)


def _rows(images: Array) -> Array:
    """Returns images uint8 [N, H, W, C] as rows float32 [N, H · W · C] in 0 to 1."""
    return np.asarray(images.reshape(len(images), -1) / np.float32(WHITE))


class LogisticRegression(Learner[LogisticRecipe]):
    """Trains a `LogisticRecipe`."""

    kind = LogisticRecipe

    def fit(self, recipe: LogisticRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> Logistic:
        """Trains a logistic regression; nothing is kept before it is finished."""
        return fit(recipe, dataset)

    def fold_accuracies(self, recipe: LogisticRecipe, dataset: Dataset, count: int) -> tuple[float, ...]:
        """Trains the folds' models in parallel."""
        return cross_validate(recipe, dataset, count)


LEARNER = LogisticRegression()
