"""Recipes: the plain values of a training run, and its claims."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pixelserve.interval import wilson

from .datasets import Array, Data

# The ranges of plain values, which `plain_values` checks when one is changed.
Count = Annotated[int, Field(ge=1, lt=2**32)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Several = Annotated[int, Field(ge=2, le=100)]


def _share_or_count(value: float) -> float:
    if value >= 1 and not value.is_integer():
        raise ValueError("expected a share between 0 and 1, or a whole number of samples")
    return value


HoldOut = Annotated[float, Field(ge=0, lt=2**32), AfterValidator(_share_or_count)]

Loss = Literal[
    "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy", "mean_squared_error"
]

Metric = Literal["accuracy", "mean_squared_error"]

CLASSIFIES = ("sparse_categorical_crossentropy", "categorical_crossentropy")
"""The losses of networks that give a probability for each class."""


@dataclass(frozen=True)
class Goal:
    """The goal of a recipe's model."""

    bound: float
    """The minimum accuracy, a fraction of 1, or the maximum mean squared error."""
    metric: Metric = "accuracy"
    """What is measured."""
    split: Literal["test", "validation", "cross-validation", "training"] = "test"
    """The samples it is measured on."""
    slowdown: float | None = None
    """Maximum time per image, as a multiple of the yardstick's (batch 64, one core); None: no limit."""
    yardstick: str = "mnist-cnn"
    """The model that this time is a multiple of: NAME or NAME:VERSION in the same repository. An earlier version of the
    same model is best, because ratios of different networks depend on the processor."""

    def reached(self, figure: float) -> bool:
        """Returns whether a measured figure meets the goal."""
        return figure >= self.bound if self.metric == "accuracy" else figure <= self.bound


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model, its data and its measured figures; each learner's recipe adds its own parameters."""

    name: str
    """Its name on the command line, and the exported model's name."""
    summary: str = ""
    """A description in one line."""
    dataset: Data
    """The data set: a name for `datasets.load`; or own data, a `Dataset` or a function that returns one."""
    parameters: int | None = None
    """Weights in the model; None: not stated."""
    goal: Goal = Goal(0.0)
    """Its goal; by default there is none."""
    picture: str = ""
    """The served model's `picture` declaration (docs/pictures.md)."""
    seed: Seed = 0
    """Fixes the initial weights and the order of the samples."""
    held_out: HoldOut = 0.0
    """The held-out share of the training split, a fraction of 1, which choices and a run's figures are based on; an
    option may give a number of samples instead, from 1."""
    folds: Several | None = None
    """Number of folds for cross-validation before training; None: none."""
    measured: Mapping[int, float] = field(default_factory=dict)
    """The goal's figure by seed; the seeds were named before the runs, and the committed network is the first's. Empty:
    the recipe claims nothing."""
    measured_on: int | None = None
    """Number of samples of each figure; None: the training samples, which give no interval."""
    caveat: str = ""
    """How the figures depart from the protocol of docs/zoo.md; empty: they do not."""
    slowdown: float | None = None
    """Time per sample as a multiple of mnist-cnn's (batch 64, one core), on an Intel Xeon; None: not measured."""
    training_s: float = 0.0
    """Duration of one run on the machine of the recipe's header, in seconds."""

    @property
    def claimed(self) -> float | None:
        """The mean of the measured figures, or None."""
        return statistics.mean(self.measured.values()) if self.measured else None

    @property
    def spread(self) -> float | None:
        """Their sample standard deviation; None for a single seed."""
        return statistics.stdev(self.measured.values()) if len(self.measured) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean accuracy, fractions of 1; None for training samples and regressions.

        It is that of one network with the mean accuracy, because all seeds are measured on the same samples: more seeds
        do not make it narrower.
        """
        if self.measured_on is None or self.claimed is None:
            return None
        return wilson(round(self.claimed * self.measured_on), self.measured_on)


@dataclass(frozen=True)
class Optimizer:
    """The optimizer and its schedule."""

    name: str = "adam"
    """Keras's name of the optimizer."""
    learning_rate: Rate = 0.001
    """The learning rate; with a schedule, its maximum."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate's schedule: constant, or a linear rise over `warmup`, then half a cosine down to 0."""
    warmup: Share = 0.0
    """The share of the run in which the learning rate rises, a fraction of 1."""
    averaging: Share | None = None
    """Momentum of the weights' moving average, which is the result of the run; None: the last weights."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Other arguments by Keras's names, such as momentum and weight_decay."""


@dataclass(frozen=True)
class Regularization:
    """Regularisation against overfitting."""

    l1: Factor = 0.0
    """Factor of the kernels' summed absolute values in the loss (biases are exempt); 0: none."""
    l2: Factor = 0.0
    """Factor of the kernels' summed squares in the loss; 0: none."""
    dropout: Share = 0.0
    """Dropout rate of the last Dense layer's inputs, a fraction of 1."""
    patience: Count | None = None
    """Epochs without a lower held-out loss after which training stops, and the best epoch's weights are kept; None: it
    never stops early."""


@dataclass(frozen=True)
class Ensemble:
    """Several models of one recipe, or of several recipes, exported as one."""

    kind: Literal["bagging", "boosting", "stacking"]
    """How members differ and are combined; see `learners.ensemble`."""
    members: Several = 5
    """Number of members; with `others`, one of each recipe instead."""
    folds: Several = 5
    """For stacking: number of folds for out-of-fold predictions."""
    others: tuple[str, ...] = ()
    """Names of the zoo's recipes whose networks are members beside the recipe's own; empty: all are the recipe's."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A larger network that is trained first, and whose probabilities the recipe's network learns beside the labels.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network". It is trained by the same recipe, on the same
    images for as many epochs, and is discarded.
    """

    build: Callable[[int], Any]
    """Returns it untrained; has the inputs and outputs of the recipe's network."""
    weight: Factor
    """Weight of the divergence from its probabilities in the loss; the labels' loss has weight 1."""
    temperature: Rate
    """Divisor of both networks' logits before they are compared; above 1, small probabilities count more."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A trained network whose features the recipe's network starts from."""

    backbone: str
    """Its name: of a recipe, or of a network of keras.applications."""
    weights: str
    """Where its weights are from, in words, with a file's hash."""
    build: Callable[[int, bool], Any]
    """Returns the network for so many classes, with the backbone's weights; the second argument: whether they learn."""
    epochs: int
    """Passes over the training split in which the whole network learns, after those of the last layer alone."""
    learning_rate: float
    """The optimizer's learning rate in them."""


@dataclass(frozen=True, kw_only=True)
class KerasRecipe(Recipe):
    """A network that Keras trains."""

    build: Callable[[int], Any]
    """Returns the untrained model for so many classes (a regression has 0): uint8 pixels [N, H, W, C] or rows float32
    [N, features] in; probabilities float32 [N, classes], or values float32 [N, 1], out."""
    initialize: Callable[[Any, Array], None] | None = None
    """Sets initial weights from the training samples; None: they stay as drawn."""
    optimizer: Optimizer = Optimizer()
    """The optimizer and its schedule."""
    loss: Loss = "sparse_categorical_crossentropy"
    """Keras's name of the loss; categorical_crossentropy takes one-hot labels."""
    label_smoothing: Share = 0.0
    """Label smoothing: the share of a one-hot label spread evenly over all classes, a fraction of 1."""
    epochs: Count
    """Passes over the training split."""
    batch_size: Count
    """Samples a step."""
    repeats: Count = 1
    """Passes over the samples per epoch; above 1 for few samples, because an epoch has a fixed cost."""
    augmentation: Callable[[], list[Any]] | None = None
    """Returns Keras layers that augment images [N, H, W, C] in training; None: no augmentation."""
    cut_mix: Factor = 0.0
    """How strongly images are mixed while training, the factor of Keras's CutMix: a rectangle of each is another
    image's, and so is as much of its label (Yun et al. 2019); 0: none are mixed."""
    mirrored: bool = False
    """Whether the trained model averages the logits of an image and its mirror image, at twice the cost."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """The precision of training; trained weights and exported models are always float32."""
    teacher: Teacher | None = None
    """The teacher; None: the network learns from labels only."""
    transfer: Transfer | None = None
    """The trained network that it starts from; None: it learns from random weights."""
    balance: Literal["weights", "sampling"] | None = None
    """How classes of different size get the same influence: samples of small classes count more in the loss, or are
    repeated; None: they do not."""
    calibrated: bool = False
    """Whether probabilities are calibrated with a temperature found on held-out samples (Guo et al. 2017)."""
    also_saved_as: tuple[Literal[".h5"], ...] = ()
    """Suffixes of additional model files."""
    regularization: Regularization = Regularization()
    """The regularisation."""
    ensemble: Ensemble | None = None
    """The ensemble; None: a single model."""
