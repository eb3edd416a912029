"""Learns a small network by back-propagation, written out in NumPy so that every step can be read.

A layer computes y = σ(a) of a = x W + b, where σ(a) = 1 / (1 + exp(−a)); its y is the next layer's x. The error E of N
rows with targets t is, with y of the last layer,

    squared error    E = Σ (y − t)² / 2N                         Rumelhart et al. 1986, equation 3
    cross-entropy    E = −Σ (t ln y + (1 − t) ln(1 − y)) / N     Bishop 2006, equation 4.90

The derivative of E by a is called δ = ∂E/∂a. It is known in the last layer and propagates back layer by layer:

    last layer, squared error    δ = (y − t) y (1 − y) / N       Rumelhart et al. 1986, equations 4 and 5
    last layer, cross-entropy    δ = (y − t) / N                 Bishop 2006, equation 5.54
    a hidden layer               δ = δ' W'ᵀ y (1 − y)            Rumelhart et al. 1986, equations 7 and 5
    any layer                    ∂E/∂W = xᵀ δ, ∂E/∂b = Σ δ       Rumelhart et al. 1986, equation 6

where δ' and W' are the next layer's. With one layer and the squared error this is the delta rule.

D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by back-propagating errors", Nature 323, 1986.
C. M. Bishop, "Pattern Recognition and Machine Learning", Springer 2006.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..datasets import Array, Dataset, hold_out
from ..errors import DivergedError, SourceError
from ..progress import say
from ..recipe import Count, Rate, Recipe
from ..report import Layer
from ..running.checkpoint import Checkpoint
from .learner import Learner

FILE = "network.npz"

Loss = Literal["squared_error", "cross_entropy"]


@dataclass(frozen=True, kw_only=True)
class BackpropRecipe(Recipe):
    """A network of sigmoid units for two classes, trained by back-propagation in NumPy."""

    hidden: Annotated[int, Field(ge=0)]
    """Units in the hidden layer; 0: no hidden layer."""
    loss: Loss
    """Which error E is."""
    learning_rate: Rate
    """The step size."""
    epochs: Count
    """Number of steps; each follows the gradient of all rows."""


@dataclass(frozen=True)
class SigmoidLayer:
    """A layer of sigmoid units; or the gradient of the error with respect to one, which has the same shapes."""

    weights: Array
    """W, float64 [inputs, units]."""
    bias: Array
    """b, float64 [units]."""

    def __call__(self, inputs: Array) -> Array:
        """Returns y, float64 [N, units], of x, real [N, inputs]."""
        return np.asarray(1 / (1 + np.exp(-(inputs @ self.weights + self.bias))))

    def step(self, gradient: "SigmoidLayer", learning_rate: float) -> "SigmoidLayer":
        """Returns the layer after a step down the gradient."""
        return SigmoidLayer(self.weights - learning_rate * gradient.weights, self.bias - learning_rate * gradient.bias)


def outputs(layers: Sequence[SigmoidLayer], inputs: Array) -> list[Array]:
    """Returns x, real [N, inputs], and each layer's y, float64 [N, units], first to last."""
    found = [inputs]
    for layer in layers:
        found.append(layer(found[-1]))
    return found


def error(predicted: Array, targets: Array, loss: Loss) -> float:
    """Returns E of predictions y and targets t, both float64 [N, 1]."""
    if loss == "squared_error":
        return float(((predicted - targets) ** 2).sum() / 2 / len(targets))
    return float(-(targets * np.log(predicted) + (1 - targets) * np.log(1 - predicted)).sum() / len(targets))


def gradients(layers: Sequence[SigmoidLayer], inputs: Array, targets: Array, loss: Loss) -> list[SigmoidLayer]:
    """Returns ∂E/∂W and ∂E/∂b of each layer, first to last.

    Args:
        layers: the network.
        inputs: x, real [N, inputs].
        targets: t, 0 or 1, float64 [N, 1].
        loss: which error E is.
    """
    forward = outputs(layers, inputs)
    delta = (forward[-1] - targets) / len(targets)
    if loss == "squared_error":
        delta = delta * forward[-1] * (1 - forward[-1])
    found = []
    for place in reversed(range(len(layers))):
        before = forward[place]
        found.append(SigmoidLayer(before.T @ delta, delta.sum(axis=0)))
        # Not needed before the first layer, whose inputs are not units.
        delta = (delta @ layers[place].weights.T) * before * (1 - before)
    return found[::-1]


@dataclass(frozen=True)
class SigmoidNetwork:
    """A trained network; see `Trained`."""

    network: tuple[SigmoidLayer, ...]
    """The layers in order; the last has one unit."""
    history: dict[str, list[float]]
    """`loss`, one entry per step."""
    temperature: None = None
    """None: it is not calibrated."""

    @property
    def parameters(self) -> int:
        """Weights in the network, biases included."""
        return sum(layer.weights.size + layer.bias.size for layer in self.network)

    @property
    def layers(self) -> list[Layer]:
        """The network's layers in order."""
        return [
            Layer(f"layer_{number}", "sigmoid", (None, len(layer.bias)), layer.weights.size + layer.bias.size)
            for number, layer in enumerate(self.network, start=1)
        ]

    def predict(self, inputs: Array) -> Array:
        """Returns the probability of the second class, float64 [N, 1], of rows real [N, inputs]."""
        return outputs(self.network, inputs)[-1]

    def save(self, folder: Path) -> None:
        """Writes network.npz: arrays of numbers which, unlike a pickle, are read without running code."""
        arrays: dict[str, Array] = {}
        for number, layer in enumerate(self.network, start=1):
            arrays |= {f"weights_{number}": layer.weights, f"bias_{number}": layer.bias}
        np.savez(folder / FILE, **arrays)  # type: ignore[arg-type]  # savez takes any keyword, its stub one flag more


def load(path: Path) -> SigmoidNetwork:
    """Reads what `save` wrote.

    Raises:
        SourceError: the file is missing, damaged or of another kind.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            numbers = range(1, len(arrays.files) // 2 + 1)
            layers = tuple(SigmoidLayer(arrays[f"weights_{number}"], arrays[f"bias_{number}"]) for number in numbers)
    except Exception as failure:  # NumPy and zipfile raise half a dozen errors for a damaged file
        raise SourceError(f"{path}: cannot be read as a network's weights: {failure}; train again") from failure
    if not layers:
        raise SourceError(f"{path}: holds no layer; train again")
    return SigmoidNetwork(layers, {})


def fit(recipe: BackpropRecipe, dataset: Dataset) -> SigmoidNetwork:
    """Trains a network; deterministic for a recipe, data and seed on one machine.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    train, _ = hold_out(dataset.train, recipe.held_out)
    rows, targets = train.inputs.astype(np.float64), train.targets.astype(np.float64).reshape(-1, 1)
    network = _start(recipe, rows.shape[1])
    say(f"training {recipe.name} on {len(rows):,} samples, {recipe.epochs:,} steps")
    losses: list[float] = []
    for step in range(1, recipe.epochs + 1):
        gradient = gradients(network, rows, targets, recipe.loss)
        network = [
            layer.step(of_layer, recipe.learning_rate) for layer, of_layer in zip(network, gradient, strict=True)
        ]
        losses.append(error(outputs(network, rows)[-1], targets, recipe.loss))
        if not math.isfinite(losses[-1]):
            raise DivergedError(epoch=step, step=1)
    return SigmoidNetwork(tuple(network), {"loss": losses})


def _start(recipe: BackpropRecipe, features: int) -> list[SigmoidLayer]:
    """Returns layers with standard normal weights; equal weights would make all hidden units learn the same."""
    random = np.random.default_rng(recipe.seed)
    sizes = [features, *([recipe.hidden] if recipe.hidden else []), 1]
    return [SigmoidLayer(random.normal(size=(inputs, units)), np.zeros(units)) for inputs, units in pairwise(sizes)]


class Backprop(Learner[BackpropRecipe]):
    """Trains a `BackpropRecipe`."""

    kind = BackpropRecipe

    def fit(self, recipe: BackpropRecipe, dataset: Dataset, checkpoint: Checkpoint | None = None) -> SigmoidNetwork:
        """Trains a network; nothing is kept before it is finished."""
        return fit(recipe, dataset)

    def layers(self, recipe: BackpropRecipe, dataset: Dataset) -> list[Layer]:
        """Returns the layers of the network."""
        return SigmoidNetwork(tuple(_start(recipe, dataset.train.inputs.shape[1])), {}).layers


LEARNER = Backprop()
