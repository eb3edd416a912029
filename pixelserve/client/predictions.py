"""Predictions for pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pixelserve.v1 import classifier_pb2 as pb

from .errors import PictureError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Class:
    """One of a model's classes, with its probability or score."""

    label: str
    """The class's label; its index as text if the model has no labels."""
    index: int
    """The index in the model's output."""
    probability: float | None
    """The probability, 0 to 1; None if the model returns scores."""
    score: float
    """The ranking value: the probability, or the score if the model does not return probabilities."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one picture, or its error.

    Example:
        >>> with Client("127.0.0.1:8001") as client:
        ...     prediction = client.classify("seven.png", model="mnist-cnn", top_k=2)
        >>> prediction.label, round(prediction.probability, 2)
        ('7', 0.75)
        >>> [each.label for each in prediction.classes]
        ['7', '1']
        >>> prediction.version
        '1'
    """

    classes: tuple[Class, ...]
    """The top classes, best first; empty if there is an error."""
    error: str
    """What is wrong with the picture, or empty."""
    model: str
    """The model that answered."""
    version: str
    """The version that answered; empty if the picture could not be sent."""
    source: str | None
    """The picture's path as given, or None if it is not from a file."""
    output_kind: str = ""
    """The kind of the model's output: probabilities, logits (converted to probabilities by the server), sigmoids
    (independent probabilities) or scores; empty if there is an error, or the server is too old to send it."""
    seen: "npt.NDArray[np.uint8] | None" = field(default=None, repr=False, compare=False)
    """The picture at the model's size as it saw it, before levels become the model's numbers: uint8 [height, width,
    channels], 1 channel for grey, 3 for red, green, blue; read-only. None unless `return_seen` was set."""
    occlusion: "npt.NDArray[np.float32] | None" = field(default=None, repr=False, compare=False)
    """By how much covering a cell of the picture lowers the best class's `score`: float32 [row, column], from the top
    left; below 0: covering raises it. None unless `occlusion` was set."""

    @property
    def label(self) -> str:
        """The best class's label.

        Raises:
            PictureError: the picture could not be read.
        """
        return self.best.label

    @property
    def probability(self) -> float | None:
        """The best class's probability, 0 to 1; None if the model returns scores, see `Class.score`.

        Raises:
            PictureError: the picture could not be read.
        """
        return self.best.probability

    @property
    def best(self) -> Class:
        """The best class.

        Raises:
            PictureError: the picture could not be read.
        """
        if self.error or not self.classes:
            raise PictureError(self.error or "the server returned no class", self.source)
        return self.classes[0]


def pixels_of(raw: pb.RawPixels) -> "npt.NDArray[np.uint8]":
    """Converts pixels from a message; raises ValueError if their number is wrong."""
    import numpy as np

    return np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width, raw.channels)


def map_of(values: Sequence[float], cells: int) -> "npt.NDArray[np.float32]":
    """Converts an occlusion map from a message; raises ValueError if its size is wrong."""
    import numpy as np

    return np.array(values, np.float32).reshape(cells, cells)


def classes_of(classes: Iterable[pb.Class]) -> tuple[Class, ...]:
    """Converts classes from a message."""
    return tuple(_class_of(each) for each in classes)


def _class_of(one: pb.Class) -> Class:
    is_score = one.WhichOneof("number") == "score"
    # Older servers omit a probability of 0.
    probability = None if is_score else one.probability
    return Class(one.label, one.index, probability, one.score if probability is None else probability)
