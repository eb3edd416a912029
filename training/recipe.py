"""What a recipe is: the plain values that one training run is made of, and what it claims."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .datasets import Array

Loss = Literal[
    "sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy", "mean_squared_error"
]


@dataclass(frozen=True)
class Goal:
    """What a recipe's model must reach."""

    bound: float
    """The least accuracy, a fraction of 1, or the greatest mean squared error."""
    metric: Literal["accuracy", "mean_squared_error"] = "accuracy"
    """What is measured."""
    split: Literal["test", "validation", "cross-validation", "training"] = "test"
    """The samples that it is measured on."""
    slowdown: float | None = None
    """The longest that an image may take, as a multiple of mnist-cnn's time (batch 64, one core); None: any time."""

    def reached(self, figure: float) -> bool:
        """Returns whether a measured figure is good enough."""
        return figure >= self.bound if self.metric == "accuracy" else figure <= self.bound


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A model, the data it learns from, and what came of it; each learner adds what it learns by."""

    name: str
    """What the command line calls it, and the exported model's name."""
    summary: str
    """What it is, in one line."""
    dataset: str
    """The data set's name, as `datasets.load` knows it."""
    parameters: int
    """Weights in the model."""
    goal: Goal
    """What it must reach."""
    picture: str = ""
    """What becomes of pictures that are sent to the served model, in the words of docs/pictures.md."""
    seed: int = 0
    """Fixes the initial weights and the order of the samples."""
    measured: Mapping[int, float]
    """The goal's figure by seed; the seeds were named before the runs."""
    training_s: float
    """How long one run took on the machine that the recipe's header names, in seconds."""

    @property
    def claimed(self) -> float:
        """The median of the measured figures."""
        return statistics.median(self.measured.values())


@dataclass(frozen=True)
class Optimizer:
    """How the weights follow the gradient."""

    name: str = "adam"
    """Keras's name of it."""
    learning_rate: float = 0.001
    """The step size; with a schedule, its greatest."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the step size goes: always the same, or up in a line over `warmup`, then down half a cosine to 0."""
    warmup: float = 0.0
    """The share of the run in which the step size rises, a fraction of 1."""
    averaging: float | None = None
    """Momentum of the moving average of the weights, which is what the run ends with; None: the last step's weights."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More of its arguments, by Keras's names, such as momentum and weight_decay."""


@dataclass(frozen=True)
class Regularization:
    """What keeps a network from learning its training samples by heart."""

    l1: float = 0.0
    """Factor of the sum of all kernels' absolute values in the loss (biases are free); 0: not in the loss."""
    l2: float = 0.0
    """Factor of the sum of all kernels' squares in the loss; 0: not in the loss."""
    dropout: float = 0.0
    """The share of the last Dense layer's inputs that each step leaves out, a fraction of 1."""
    patience: int | None = None
    """Epochs without a lower held-out loss after which training stops, and the best epoch's weights are kept; None: it
    never stops early."""


@dataclass(frozen=True)
class Ensemble:
    """Several models of one recipe that are exported as one."""

    kind: Literal["bagging", "boosting", "stacking"]
    """How the members come to differ, and how they are combined; see `learners.ensemble`."""
    members: int = 5
    """How many there are."""
    folds: int = 5
    """Stacking alone: in how many parts the training samples are cut for predictions of samples not learned from."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A larger network that learns first, and whose probabilities the recipe's network then learns beside the labels.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network". It learns as the recipe says, from the same
    images for as many epochs, and is not kept.
    """

    build: Callable[[int], Any]
    """Returns it untrained; takes and gives what the recipe's network does."""
    weight: float
    """How much the divergence from its probabilities counts in the loss; what the labels bring counts 1."""
    temperature: float
    """What both networks' logits are divided by before they are compared; above 1, small probabilities count more."""


@dataclass(frozen=True, kw_only=True)
class KerasRecipe(Recipe):
    """A network that Keras trains."""

    build: Callable[[int], Any]
    """Returns the untrained model for so many classes (a regression has 0): uint8 pixels [N, H, W, C] or rows float32
    [N, features] in; probabilities float32 [N, classes], or values float32 [N, 1], out."""
    initialize: Callable[[Any, Array], None] | None = None
    """Sets weights of the untrained model from the samples that it will learn from; None: all stay as drawn."""
    optimizer: Optimizer = Optimizer()
    """How the weights follow the gradient."""
    loss: Loss = "sparse_categorical_crossentropy"
    """Keras's name of what is minimised; categorical_crossentropy takes labels as one-hot vectors."""
    label_smoothing: float = 0.0
    """The share of a one-hot label's weight that is spread evenly over all classes, a fraction of 1."""
    epochs: int
    """Passes over the training split."""
    batch_size: int
    """Samples a step."""
    repeats: int = 1
    """How often an epoch goes over each sample; above 1 where there are few, since an epoch has costs of its own."""
    held_out: float = 0.0
    """The share of the training split that the model is watched on and never learns from, a fraction of 1."""
    augmentation: Callable[[], list[Any]] | None = None
    """Returns Keras layers that change images [N, H, W, C] while training; None: images are learned as they are."""
    cut_mix: float = 0.0
    """How strongly images are mixed while training, the factor of Keras's CutMix: a rectangle of each is another
    image's, and so is as much of its label (Yun et al. 2019); 0: none are mixed."""
    mirrored: bool = False
    """Whether the trained model takes the mean logits of an image and of its mirror image, at twice the time."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What training computes in; the trained model's weights and the exported model are float32 always."""
    teacher: Teacher | None = None
    """What the network learns from beside the labels; None: from labels alone."""
    calibrated: bool = False
    """Whether probabilities are made honest by a temperature found on the held-out samples (Guo et al. 2017)."""
    also_saved_as: tuple[str, ...] = ()
    """Suffixes of more files that the run keeps its model in, such as .h5."""
    regularization: Regularization = Regularization()
    """What is done against overfitting."""
    folds: int | None = None
    """In how many parts the training split is cross-validated before the model is trained; None: it is not."""
    ensemble: Ensemble | None = None
    """How several models become one; None: there is only one."""


@dataclass(frozen=True, kw_only=True)
class BackpropRecipe(Recipe):
    """A network of sigmoid units that tells two classes apart, and learns by back-propagation written out in NumPy."""

    hidden: int
    """Units in the hidden layer; 0: there is no such layer."""
    loss: Literal["squared_error", "cross_entropy"]
    """What is minimised (learners/backprop.py)."""
    learning_rate: float
    """The step size."""
    epochs: int
    """Steps; each goes down the gradient of all rows together."""


@dataclass(frozen=True, kw_only=True)
class LogisticRecipe(Recipe):
    """Logistic regression on images' pixels, one class against the others, by scikit-learn's SGDClassifier."""

    alpha: float
    """How much weights are drawn to 0 (l2)."""
    learning_rate: float
    """The step size, the same throughout."""
    epochs: int
    """Passes over the training split."""
    folds: int
    """In how many parts the training split is cross-validated before the model is trained."""
